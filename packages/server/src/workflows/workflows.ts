import {
  ApiError,
  type ChangeWorkflowBody,
  type ErrorDetail,
  type ImportWorkflowBody,
  type PageQuery,
  type RouteAnswer,
  type RouteInput,
  refuseFaults,
  type ToolType,
  type WorkflowView,
} from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import { graphFaults } from '../model/graph.ts'
import { checkPlaces } from '../model/inject.ts'
import { isMarked, setMark } from '../store/server-state.ts'
import type { Store } from '../store/store.ts'
import { oldestTeam } from '../store/teams.ts'
import {
  countWorkflows,
  deleteWorkflow,
  getWorkflow,
  getWorkflowBySlug,
  importWorkflow,
  listSnapshots,
  listWorkflows,
  restoreSnapshot,
  saveWorkflow,
  type WorkflowDefinition,
  type WorkflowRecord,
} from '../store/workflows.ts'
import { DEMO_WORKFLOWS } from './demo-workflows.ts'
import { snapshotView, workflowView } from './workflow-view.ts'

const DEMO_SEEDED = 'demo_seeded'

export interface WorkflowsOptions {
  store: Store
  /** Milliseconds since 1970. */
  now(): number
}

/** Somebody who may save workflows of a team. */
export interface Editor {
  userId: string
  teamId: string
}

/** What a team runs. Every method about one workflow throws `ApiError('not_found')` unless the team has it. */
export class Workflows {
  readonly #options: WorkflowsOptions

  constructor(options: WorkflowsOptions) {
    this.#options = options
  }

  /**
   * Saves a workflow; the same slug makes the next version of the one there is. Throws `ApiError('invalid_request')` for
   * a graph that its tool cannot run and for a parameter that has no place in it.
   */
  async import({ teamId, userId }: Editor, body: ImportWorkflowBody): Promise<{ id: string }> {
    const { store, now } = this.#options
    const { workflow_slug: slug, workflow_status: status, display_name = slug, ...rest } = body
    const definition = { ...rest, display_name }
    refuseUnrunnable(definition)
    const { id } = await importWorkflow(store, { id: uuidv7(), teamId, slug, definition, status, userId, at: now() })
    return { id }
  }

  /** Saves what changed as the next version. Throws `ApiError('conflict')` for a slug that another workflow has. */
  async change({ teamId, userId }: Editor, id: string, body: ChangeWorkflowBody): Promise<void> {
    const { store, now } = this.#options
    const { workflow_slug: slug, workflow_status: status, ...changed } = body
    const revise = (latest: WorkflowDefinition): WorkflowDefinition => {
      const definition = { ...latest, ...withoutUndefined(changed) }
      refuseUnrunnable(definition)
      return definition
    }
    const { kind } = await saveWorkflow(store, teamId, id, { slug, revise, status, userId, at: now() })
    if (kind === 'unknown') throw noSuchWorkflow()
    if (kind === 'slug_taken') throw new ApiError('conflict', `Another workflow of this team has the slug ${slug}.`)
  }

  async get(teamId: string, id: string): Promise<WorkflowView> {
    return workflowView(await this.#find(teamId, id))
  }

  /** `pinned` is a slug, or `slug@version` for how it was. */
  async getBySlug(teamId: string, pinned: string): Promise<WorkflowView> {
    const [slug = '', version] = pinned.split('@')
    const found = await getWorkflowBySlug(
      this.#options.store,
      teamId,
      slug,
      version === undefined ? undefined : Number(version),
    )
    if (!found) throw noSuchWorkflow()
    return workflowView(found)
  }

  async list(teamId: string, query: RouteInput<'GET /workflows'>['query']): Promise<RouteAnswer<'GET /workflows'>> {
    const { store } = this.#options
    const { workflow_status, tool_type, ...page } = query
    const filter = { status: workflow_status, toolType: tool_type }
    const workflows = await listWorkflows(store, teamId, filter, page)
    return {
      workflow_list: workflows.map(workflowView),
      page_meta: { ...page, total_count: await countWorkflows(store, teamId, filter) },
    }
  }

  async delete(teamId: string, id: string): Promise<void> {
    const { store, now } = this.#options
    if (!(await deleteWorkflow(store, teamId, id, now()))) throw noSuchWorkflow()
  }

  async snapshots(teamId: string, id: string, page: PageQuery): Promise<RouteAnswer<'GET /workflows/{id}/snapshots'>> {
    const { store } = this.#options
    // Every version has its snapshot.
    const { version } = await this.#find(teamId, id)
    return {
      snapshot_list: (await listSnapshots(store, id, page)).map(snapshotView),
      page_meta: { ...page, total_count: version },
    }
  }

  async restore({ teamId, userId }: Editor, id: string, version: number): Promise<void> {
    const { store, now } = this.#options
    if (!(await restoreSnapshot(store, { teamId, id, version, userId, at: now() }))) throw noSuchWorkflow()
  }

  /**
   * Once in an installation's life: gives its first team something that runs at once, without GPU or model. Killed before
   * the mark it is done again at the next start, which at worst saves the same as a second version.
   */
  async seedDemo(): Promise<void> {
    const { store, now } = this.#options
    if (await isMarked(store, DEMO_SEEDED)) return
    const team = await oldestTeam(store)
    if (!team) return
    for (const workflow of DEMO_WORKFLOWS) await this.import(team, workflow)
    await setMark(store, DEMO_SEEDED, now())
  }

  async #find(teamId: string, id: string): Promise<WorkflowRecord> {
    const workflow = await getWorkflow(this.#options.store, teamId, id)
    if (!workflow) throw noSuchWorkflow()
    return workflow
  }
}

function refuseUnrunnable(definition: WorkflowDefinition): void {
  const faults: ErrorDetail[] = graphFaults(definition.tool_type, definition.workflow_json)
  // Places are looked for in a graph that is one.
  if (faults.length === 0) faults.push(...checkPlaces(definition))
  const { expose, tool_type } = definition
  if (expose && !EXPOSING_TOOLS.has(tool_type)) {
    const message = `is for the tools ${[...EXPOSING_TOOLS].join(' and ')}: a run of ${tool_type} has no service`
    faults.push({ path: 'body.expose', message })
  }
  refuseFaults(faults)
}

/** Tools whose runs can have a service. */
const EXPOSING_TOOLS: ReadonlySet<ToolType> = new Set(['command', 'comfyui'])

/** What a caller left out stays as it is. */
function withoutUndefined<T extends object>(changed: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(changed).filter(([, value]) => value !== undefined)) as never
}

function noSuchWorkflow(): ApiError {
  return new ApiError(
    'not_found',
    'There is no such workflow, or no such version of it, in this team; "cyberun workflows" lists them, as does GET /workflows.',
  )
}
