import { ApiError, type RouteAnswer, type RunBody, type TaskQuery, type TaskResult, type TaskView } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import type { Bus } from '../bus.ts'
import type { SignedUrl } from '../files/types.ts'
import type { HeldAttempt } from '../model/attempt.ts'
import { type AgentSituation, waitingReason } from '../model/waiting-reason.ts'
import { listArtifacts } from '../store/files.ts'
import { queuePositions } from '../store/queue-positions.ts'
import type { Store } from '../store/store.ts'
import type { NewTask, Submission } from '../store/submissions.ts'
import { cancelTask, cancelTeamTasks, countTasks, getTask, listTasks, type TaskRecord } from '../store/tasks.ts'
import { type TaskLoad, taskLoad, waitingFacts } from '../store/waiting.ts'
import { Feeds } from './feeds.ts'
import { startRetention } from './retention.ts'
import { type Submitter, submitRun } from './submission.ts'
import type { EventFeed } from './task-feed.ts'
import { taskView, time, timeOrNull, type Waiting } from './task-view.ts'
import { WorkflowMemory, type WorkflowName } from './workflow-memory.ts'

export interface TasksOptions {
  store: Store
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  files: { downloadUrl(artifactId: string): SignedUrl }
  /** Who stores runs and takes them to agents; knows the connected agents of a team and what they do. */
  dispatch: {
    submit(task: NewTask): Promise<Submission>
    situations(teamId: string): readonly AgentSituation[]
  }
  /** Where the service of a run is reached now, if it has one. */
  tunnelUrl(taskId: string): string | undefined
  /** How long the events of a task are kept after its end. */
  eventRetentionMs: number
}

/** Runs as their submitters see them. Every method about one task throws `ApiError('not_found')` unless the team has it. */
export class Tasks {
  readonly #options: TasksOptions
  readonly #feeds: Feeds
  readonly #memory = new WorkflowMemory()
  readonly #stopRetention: () => Promise<void>

  constructor(options: TasksOptions) {
    const { files, ...rest } = options
    this.#options = options
    this.#feeds = new Feeds({ ...rest, urlOf: (artifactId) => files.downloadUrl(artifactId) })
    this.#stopRetention = startRetention(options)
  }

  /** How many follow a task now. */
  get feedCount(): number {
    return this.#feeds.count
  }

  /** How many tasks wait and run, of all teams, for gauges. */
  load(): Promise<TaskLoad> {
    return taskLoad(this.#options.store)
  }

  /** As `submitRun`. */
  async submit(
    submitter: Submitter,
    workflow: WorkflowName,
    run: RunBody,
    idempotencyKey: string | undefined,
  ): Promise<{ task_id: string }> {
    const { store, bus, log, now, dispatch } = this.#options
    const { teamId } = submitter
    const accept = (task: NewTask): Promise<Submission> => dispatch.submit(task)
    const context = { store, memory: this.#memory, now, newId: uuidv7, accept }
    const submitted = await submitRun(context, submitter, workflow, run, idempotencyKey)
    if (submitted.kind === 'accepted') {
      log.info({ task_id: submitted.taskId, team_id: teamId }, 'task.accepted')
      if (!submitted.isPlaced) bus.publish('task.submitted', { teamId })
    }
    return { task_id: submitted.taskId }
  }

  async list(teamId: string, query: TaskQuery): Promise<RouteAnswer<'GET /r/tasks'>> {
    const { store } = this.#options
    const { status, workflow_id, agent_id, ...page } = query
    const filter = { status, workflowId: workflow_id, agentId: agent_id }
    const tasks = await listTasks(store, teamId, filter, page)
    return {
      task_list: await this.#views(teamId, tasks),
      page_meta: { ...page, total_count: await countTasks(store, teamId, filter) },
    }
  }

  async get(teamId: string, taskId: string): Promise<TaskView> {
    const [view] = await this.#views(teamId, [await this.#find(teamId, taskId)])
    if (!view) throw new Error('a task without a view')
    return view
  }

  async result(teamId: string, taskId: string): Promise<TaskResult> {
    const { store, files } = this.#options
    const task = await this.#find(teamId, taskId)
    const { status, output, error, completedAt } = task
    const about = { id: taskId, task_status: status, task_error: error, completed_at: timeOrNull(completedAt) }
    if (status !== 'completed') {
      return { ...about, task_output: null, download_url: null, download_urls: null, expires_at: null }
    }
    const urls = (await listArtifacts(store, teamId, taskId, task.fence)).map(({ id, key }) => ({
      key,
      ...files.downloadUrl(id),
    }))
    const [first] = urls
    return {
      ...about,
      task_output: output,
      download_url: first?.url ?? null,
      download_urls: Object.fromEntries(urls.map(({ key, url }) => [key, url])),
      expires_at: first ? time(Math.min(...urls.map(({ expiresAt }) => expiresAt))) : null,
    }
  }

  /** The task is cancelled when this resolves; its agent ends behind it. A task that has ended stays as it is. */
  async cancel(teamId: string, taskId: string): Promise<void> {
    const answer = await cancelTask(this.#options.store, teamId, taskId)
    if (!answer) throw noSuchTask()
    if (answer.kind === 'stored') this.#cancelled(taskId, answer.ended)
  }

  /** Before a team is deleted: its tasks end, and the agents that have them are told. */
  async endTeam(teamId: string): Promise<void> {
    for (const attempt of await cancelTeamTasks(this.#options.store, teamId)) this.#cancelled(attempt.taskId, attempt)
  }

  /** Every event after `lastEventId`, then what comes. Undefined when the task has ended and the caller has had all. */
  events(teamId: string, taskId: string, lastEventId: number): Promise<EventFeed | undefined> {
    return this.#feeds.open(teamId, taskId, lastEventId)
  }

  /** Ends every event stream; tasks go on. */
  async stop(): Promise<void> {
    await this.#feeds.stop()
    await this.#stopRetention()
  }

  async #find(teamId: string, taskId: string): Promise<TaskRecord> {
    const task = await getTask(this.#options.store, teamId, taskId)
    if (!task) throw noSuchTask()
    return task
  }

  async #views(teamId: string, tasks: readonly TaskRecord[]): Promise<TaskView[]> {
    const waiting = await this.#waiting(teamId, tasks)
    return tasks.map((task) => taskView(task, waiting.get(task.id), this.#options.tunnelUrl(task.id)))
  }

  /** Why and how long those of the tasks wait that do. */
  async #waiting(teamId: string, tasks: readonly TaskRecord[]): Promise<Map<string, Waiting>> {
    const { store, dispatch } = this.#options
    const ids = tasks.filter(({ status }) => status === 'pending' || status === 'waiting').map(({ id }) => id)
    if (ids.length === 0) return new Map()
    const situations = dispatch.situations(teamId)
    const facts = await waitingFacts(store, teamId, ids)
    const positions = await queuePositions(store, teamId, ids, situations)
    return new Map(
      [...facts].map(([id, known]) => [
        id,
        { queuePosition: positions.get(id), reason: waitingReason(known, situations) },
      ]),
    )
  }

  #cancelled(taskId: string, attempt: HeldAttempt | undefined): void {
    const { bus, log } = this.#options
    log.info({ task_id: taskId }, 'task.cancelled')
    if (attempt) bus.publish('task.cancelled', attempt)
    bus.publish('task.changed', { taskId })
  }
}

function noSuchTask(): ApiError {
  return new ApiError('not_found', 'There is no such task in this team.')
}
