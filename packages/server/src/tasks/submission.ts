import { createHash } from 'node:crypto'
import { ApiError, type ErrorDetail, type RunBody, refuseFaults, type TaskView } from '@cyberun/api'
import { nodeClassesOf } from '../model/graph.ts'
import { checkParameters } from '../model/parameters.ts'
import type { Requirements } from '../model/requirements.ts'
import { getInput } from '../store/files.ts'
import type { Store } from '../store/store.ts'
import { findIdempotent, type NewTask, type Submission } from '../store/submissions.ts'
import { getWorkflow, getWorkflowBySlug, type WorkflowDefinition, type WorkflowRecord } from '../store/workflows.ts'
import type { WorkflowMemory, WorkflowName } from './workflow-memory.ts'

/** Who submits a run, and through which kind of secret. */
export interface Submitter {
  userId: string
  teamId: string
  source: TaskView['creation_source']
  /** The key it is submitted with, or the sign-in: the tunnel of a run with a service ends with it. */
  credentialId?: string
  familyId?: string
  /** Set where the key was let in from memory. */
  recalledKey?: NewTask['recalledKey']
}

export interface SubmissionContext {
  store: Store
  memory: WorkflowMemory
  /** Stores it, and may give it to an agent at once. */
  accept(task: NewTask): Promise<Submission>
  /** Milliseconds since 1970. */
  now(): number
  newId(): string
}

/** How long a repeated submission is known by its key. */
const IDEMPOTENCY_MS = 24 * 3600 * 1000
const SECOND_MS = 1000

/**
 * Accepts a run: it is on disk when this resolves, or nothing of it is. Throws `ApiError`: `not_found`,
 * `workflow_disabled`, `invalid_request` with a detail for each fault, `idempotency_mismatch`; `unauthenticated` for a key
 * that is not as it is remembered (`recalledKey`).
 */
export async function submitRun(
  context: SubmissionContext,
  submitter: Submitter,
  name: WorkflowName,
  run: RunBody,
  idempotencyKey: string | undefined,
): Promise<Accepted> {
  if (idempotencyKey === undefined) {
    return (await submitRemembered(context, submitter, name, run)) ?? submitRead(context, submitter, name, run)
  }
  const key = { key: idempotencyKey, bodyHash: hashOf(name, run), keepMs: IDEMPOTENCY_MS }
  // First, because the answer stays the same whatever has become of the workflow and its files since.
  const earlier = await findIdempotent(context.store, submitter.teamId, submitter.userId, key.key)
  if (!earlier) return submitRead(context, submitter, name, run, key)
  if (earlier.bodyHash !== key.bodyHash) throw mismatch()
  return { kind: 'replayed', taskId: earlier.taskId }
}

type Accepted = Extract<Submission, { taskId: string }>

/** With the workflow as an earlier submission read it; undefined when it must be read for this one. */
async function submitRemembered(
  context: SubmissionContext,
  submitter: Submitter,
  name: WorkflowName,
  run: RunBody,
): Promise<Accepted | undefined> {
  const workflow = context.memory.recall(submitter.teamId, name)
  if (!workflow) return undefined
  const { task, faults } = await checkRun(context, submitter, workflow, run)
  // What this version refuses, the latest may take.
  if (faults.length > 0) return undefined
  const submitted = await context.accept({ ...task, isFromMemory: true })
  return 'taskId' in submitted ? submitted : undefined
}

async function submitRead(
  context: SubmissionContext,
  submitter: Submitter,
  name: WorkflowName,
  run: RunBody,
  idempotency?: NewTask['idempotency'],
): Promise<Accepted> {
  const workflow = await findWorkflow(context.store, submitter.teamId, name)
  context.memory.keep(submitter.teamId, name, workflow)
  const { task, faults } = await checkRun(context, submitter, workflow, run)
  refuseFaults(faults)
  const submitted = await context.accept({ ...task, idempotency })
  if ('taskId' in submitted) return submitted
  // The workflow was read for this one: it is the key.
  if (submitted.kind === 'outdated') throw new ApiError('unauthenticated', 'The key is no longer what it was.')
  throw mismatch()
}

async function findWorkflow(store: Store, teamId: string, name: WorkflowName): Promise<WorkflowRecord> {
  const found = 'id' in name ? await getWorkflow(store, teamId, name.id) : await findBySlug(store, teamId, name.slug)
  if (!found) throw new ApiError('not_found', unknownWorkflow(name))
  if (found.status === 'disabled') {
    throw new ApiError(
      'workflow_disabled',
      `The workflow ${found.slug} is disabled. Set its workflow_status to active to run it.`,
    )
  }
  return found
}

function findBySlug(store: Store, teamId: string, pinned: string): Promise<WorkflowRecord | undefined> {
  const [slug = '', version] = pinned.split('@')
  return getWorkflowBySlug(store, teamId, slug, version === undefined ? undefined : Number(version))
}

function unknownWorkflow(name: WorkflowName): string {
  if ('id' in name) return 'There is no workflow with this id in this team.'
  const [slug, version] = name.slug.split('@')
  return version === undefined
    ? `There is no workflow ${slug} in this team. GET r/workflows lists them.`
    : `There is no workflow ${slug} with a version ${version} in this team.`
}

/** Checks the run against the workflow and its parameters against each other; the task is worth nothing with a fault. */
async function checkRun(
  { store, now, newId }: SubmissionContext,
  { userId, teamId, source, credentialId, familyId, recalledKey }: Submitter,
  workflow: WorkflowRecord,
  run: RunBody,
): Promise<{ task: NewTask; faults: ErrorDetail[] }> {
  const { definition } = workflow
  const faults: ErrorDetail[] = []
  if (run.tool_type !== undefined && run.tool_type !== definition.tool_type) {
    faults.push({
      path: 'body.tool_type',
      message: `is ${run.tool_type}, but this workflow is for ${definition.tool_type}`,
    })
  }
  const checked = checkParameters(definition.parameters, run.parameters)
  if (checked.kind === 'invalid') faults.push(...checked.details)
  const { parameters, fileKeys } = checked.kind === 'valid' ? checked : { parameters: {}, fileKeys: [] }
  for (const file of fileKeys) faults.push(...(await fileFaults(store, teamId, file, now())))
  const task: NewTask = {
    id: newId(),
    teamId,
    workflowId: workflow.id,
    workflowVersion: workflow.version,
    workflowSlug: workflow.slug,
    toolType: definition.tool_type,
    requirements: requirementsOf(definition),
    parameters,
    fileKeys: fileKeys.map(({ fileKey }) => fileKey),
    submitterId: userId,
    creationSource: source,
    priority: run.priority,
    dispatchTarget: run.dispatch_target ?? null,
    targetPool: run.target_pool ?? null,
    submitterRegion: run.submitter_region ?? null,
    taskTimeoutMs: definition.task_timeout * SECOND_MS,
    resumeWindowMs: definition.resume_window * SECOND_MS,
    maxRetries: definition.max_retries,
    recalledKey,
    ...(definition.expose && {
      exposure: {
        protocol: definition.expose.protocol,
        credentialId: credentialId ?? null,
        familyId: familyId ?? null,
      },
    }),
  }
  return { task, faults }
}

/** A key of another team is answered like one that nobody has. */
async function fileFaults(
  store: Store,
  teamId: string,
  { parameter, fileKey }: { parameter: string; fileKey: string },
  now: number,
): Promise<ErrorDetail[]> {
  const path = `body.parameters.${parameter}`
  const input = await getInput(store, teamId, fileKey)
  if (!input || input.expiresAt <= now) {
    return [{ path, message: 'names no file of this team: upload it through r/files/presign and send the file_key' }]
  }
  if (input.uploadedAt === null) {
    return [{ path, message: 'names a file whose upload is not finished: PUT it to its upload_url first' }]
  }
  return []
}

function requirementsOf(definition: WorkflowDefinition): Requirements {
  const { tool_type: tool } = definition
  return {
    tool,
    labels: definition.required_labels,
    models: definition.required_models,
    nodes: nodeClassesOf(tool, definition.workflow_json),
    minVramGb: definition.min_vram_gb,
    preferredGpu: definition.preferred_gpu,
  }
}

/** The same for the same submission, however its JSON was written. */
function hashOf(name: WorkflowName, run: RunBody): string {
  return createHash('sha256').update(canonical({ name, run })).digest('hex')
}

/** JSON with the keys of every object in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

function mismatch(): ApiError {
  return new ApiError(
    'idempotency_mismatch',
    'This Idempotency-Key was used for another submission within 24 hours. Send a new key with a new submission.',
  )
}
