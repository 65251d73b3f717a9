import { createHash } from 'node:crypto'
import type { Role, ToolType, TunnelProtocol } from '@cyberun/api'
import type { JsonObject } from '@cyberun/protocol'
import { type RawBuilder, sql as raw } from 'kysely'
import type { StoredEvent } from '../model/attempt.ts'
import type { FreeAgent } from '../model/fairness.ts'
import type { Requirements } from '../model/requirements.ts'
import { chainsWrites, clock, type Engine, jsonRows, jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
import { firstWaiting } from './lanes.ts'
import { together } from './together.ts'
import { writeAll } from './write-all.ts'

/** A run as it is accepted. */
export interface NewTask {
  id: string
  teamId: string
  workflowId: string
  workflowVersion: number
  workflowSlug: string
  toolType: ToolType
  requirements: Requirements
  /** Checked and completed. */
  parameters: JsonObject
  /** The uploads that the parameters name: kept for as long as the task may need them. */
  fileKeys: readonly string[]
  submitterId: string
  creationSource: 'jwt' | 'api_key'
  priority: number
  dispatchTarget: string | null
  targetPool: string | null
  submitterRegion: string | null
  taskTimeoutMs: number
  resumeWindowMs: number
  maxRetries: number
  idempotency?: { key: string; bodyHash: string; keepMs: number } | undefined
  /** Who takes it at once, if no other task of the team waits then. */
  placement?: Placement | undefined
  /**
   * Its workflow was read for an earlier submission: it is stored only while the workflow is active and still has this slug
   * and version. Not for one with an idempotency key, which would be taken for nothing.
   */
  isFromMemory?: boolean | undefined
  /** Its key was read for an earlier call: it is stored only while the key is not revoked and its holder has this role. */
  recalledKey?: { credentialId: string; role: Role } | undefined
  /** For a run with a service: what its tunnel stands on. */
  exposure?: { protocol: TunnelProtocol; credentialId: string | null; familyId: string | null } | undefined
}

/** A free agent, and the server that will hand it the task. */
export interface Placement {
  agent: Pick<FreeAgent, 'agentId' | 'labels' | 'gpuName'>
  gatewayId: string
  /** How long the agent has to accept. */
  ackMs: number
}

/** The fence of a task's first attempt. */
export const FIRST_FENCE = 1

export type Submission =
  /** It is on disk: it will not be lost. `isPlaced`: its placement has it, as the attempt with `FIRST_FENCE`. */
  | { kind: 'accepted'; taskId: string; isPlaced: boolean }
  /** The same was submitted before with this key: that is the task. */
  | { kind: 'replayed'; taskId: string }
  /** The key was used for something else. */
  | { kind: 'conflict' }
  /** What was remembered of its workflow or key is out of date: nothing is stored. */
  | { kind: 'outdated' }

/**
 * Accepts a run: task, needs, idempotency key and first events in one transaction, shared with others that come now. With
 * a placement, and while nobody of the team waits, the same transaction claims it, as `claimTasks` would right after.
 */
export const submitTask = together(submitTasks, (_store, tasks) =>
  tasks.every(
    ({ idempotency, fileKeys, exposure }) =>
      idempotency === undefined && fileKeys.length === 0 && exposure === undefined,
  ),
)

/** What was submitted with a key that is still kept. */
export async function findIdempotent(
  sql: Sql,
  teamId: string,
  submitterId: string,
  key: string,
): Promise<{ bodyHash: string; taskId: string } | undefined> {
  return Sql.db(sql)
    .selectFrom('idempotency_key')
    .select(['body_hash as bodyHash', 'task_id as taskId'])
    .where('team_id', '=', teamId)
    .where('submitter_id', '=', submitterId)
    .where('idempotency_key', '=', key)
    .where('expires_at', '>', clock(Sql.engine(sql)))
    .executeTakeFirst()
}

/** Forgets keys whose time is up: at most `limit`. Returns how many. */
export async function dropOldIdempotencyKeys(sql: Sql, limit: number): Promise<number> {
  const { numAffectedRows } = await raw`
    delete from idempotency_key where (team_id, submitter_id, idempotency_key) in (
      select team_id, submitter_id, idempotency_key from idempotency_key
      where expires_at <= ${clock(Sql.engine(sql))} order by expires_at limit ${limit})`.execute(Sql.db(sql))
  return Number(numAffectedRows)
}

async function submitTasks(sql: Sql, tasks: readonly NewTask[]): Promise<Submission[]> {
  const earlier: (Submission | undefined)[] = []
  for (const task of tasks) earlier.push(await takeKey(sql, task))
  const accepted = tasks.filter((_, at) => earlier[at] === undefined)
  const eventCounts = accepted.length > 0 ? await insertTasks(sql, accepted) : new Map<string, number>()
  for (const task of accepted) if (eventCounts.has(task.id)) await insertExposure(sql, task)
  return tasks.map(({ id }, at) => earlier[at] ?? submissionOf(id, eventCounts.get(id)))
}

function submissionOf(taskId: string, eventCount: number | undefined): Submission {
  if (eventCount === undefined) return { kind: 'outdated' }
  return { kind: 'accepted', taskId, isPlaced: eventCount === FIRST_EVENTS.length }
}

/**
 * Takes the task's idempotency key, if it has one. Undefined when it is this task's now; else what was submitted with it.
 * A key that another transaction is just taking is waited for, so the row is there when the insert did nothing.
 */
async function takeKey(sql: Sql, task: NewTask): Promise<Submission | undefined> {
  const { idempotency, teamId, submitterId } = task
  if (idempotency === undefined) return undefined
  const now = clock(Sql.engine(sql))
  const { rows } = await raw<{ task_id: string }>`
    insert into idempotency_key (team_id, submitter_id, idempotency_key, body_hash, task_id, expires_at)
    values (${teamId}, ${submitterId}, ${idempotency.key}, ${idempotency.bodyHash}, ${task.id},
      ${now} + ${idempotency.keepMs})
    on conflict (team_id, submitter_id, idempotency_key) do update
      set body_hash = excluded.body_hash, task_id = excluded.task_id, expires_at = excluded.expires_at
      where idempotency_key.expires_at <= ${now}
    returning task_id`.execute(Sql.db(sql))
  if (rows.length > 0) return undefined
  const known = await findIdempotent(sql, teamId, submitterId, idempotency.key)
  if (known?.bodyHash !== idempotency.bodyHash) return { kind: 'conflict' }
  return { kind: 'replayed', taskId: known.taskId }
}

const FIRST_EVENTS: readonly StoredEvent[] = [
  { kind: 'status', status: 'pending' },
  { kind: 'status', status: 'queued' },
]

/** Returns how many events each task that is stored now has. */
async function insertTasks(sql: Sql, tasks: readonly NewTask[]): Promise<Map<string, number>> {
  const engine = Sql.engine(sql)
  const rows = tasks.map(rowOf)
  const needs = new Map(rows.map(({ requirement_key, requirements }) => [requirement_key, requirements]))
  const needRows = [...needs]
    .map(([key, requirements]) => ({ key, requirements }))
    .toSorted((a, b) => order(a.key, b.key))
  const insertNeeds = raw`
    insert into task_requirement (requirement_key, requirements)
    select ${raw.raw(`${text('key')}, ${text('requirements')}`)} from ${jsonRows(engine, needRows)} as made where true
    on conflict (requirement_key) do nothing`
  const inputs = tasks.flatMap(({ id, fileKeys }) => [...new Set(fileKeys)].map((key) => ({ id, key })))
  const insertInputs = raw`
    insert into task_input (task_id, file_key)
    select ${raw.raw(`${text('id')}, ${text('key')}`)} from ${jsonRows(engine, inputs)} as made
    where exists (select 1 from task where task.id = ${raw.raw(text('id'))})`
  const { made, insertRows } = insertingStatement(engine, rows)
  // A placed task has both of the first events, any other the first.
  const insertEvents = (accepted: RawBuilder<unknown>) => raw<FirstEventRow>`
    insert into task_event (task_id, number, data, at)
    select id, said.number, said.data, created_at from ${accepted} join (${firstEvents()}) as said
      on said.number <= event_count
    returning task_id, number`
  if (!chainsWrites(engine)) {
    const accepted = raw`(select id, created_at, event_count from task
      where id in (select value from ${jsonTexts(
        engine,
        rows.map(({ id }) => id),
      )})) as accepted`
    const before = [insertNeeds, raw`with ${made} ${insertRows}`, ...(inputs.length > 0 ? [insertInputs] : [])]
    return eventCountsOf((await writeAll(sql, before, insertEvents(accepted))).rows)
  }
  const { rows: events } = await raw<FirstEventRow>`
    with needed as (${insertNeeds}), ${made}, accepted as (${insertRows} returning id, created_at, event_count)
    ${insertEvents(raw`accepted`)}`.execute(Sql.db(sql))
  if (inputs.length > 0) await insertInputs.execute(Sql.db(sql))
  return eventCountsOf(events)
}

async function insertExposure(sql: Sql, { id, exposure }: NewTask): Promise<void> {
  if (!exposure) return
  const { protocol: tunnel_protocol, credentialId: credential_id, familyId: family_id } = exposure
  const row = { task_id: id, tunnel_protocol, credential_id, family_id, opened_fence: 0 }
  await Sql.db(sql).insertInto('task_exposure').values(row).execute()
}

interface FirstEventRow {
  task_id: string
  number: number
}

function eventCountsOf(events: readonly FirstEventRow[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { task_id } of events) counts.set(task_id, (counts.get(task_id) ?? 0) + 1)
  return counts
}

function firstEvents() {
  const rows = FIRST_EVENTS.map(
    (event, at) => raw`select ${raw.lit(at + 1)} as number, ${raw.lit(JSON.stringify(event))} as data`,
  )
  return raw.join(rows, raw` union all `)
}

/**
 * `made`: the rows as they are submitted, save those from an outdated memory; each with its `placement` unless somebody of
 * its team waits.
 */
function insertingStatement(engine: Engine, rows: readonly ReturnType<typeof rowOf>[]) {
  const made = raw`made as materialized (
      select submitted.value as value, ${clock(engine)} as now,
        case when ${firstWaiting(raw`cast(submitted.value ->> 'team_id' as text)`)} is null
          then submitted.value -> 'placement' end as placement
      from ${jsonRows(engine, rows)} as submitted
      where (submitted.value -> 'is_from_memory' is null or (${raw.raw(IS_WORKFLOW_CURRENT)}))
        and (submitted.value -> 'recalled_role' is null or (${raw.raw(IS_KEY_CURRENT)}))
    )`
  return { made, insertRows: raw.raw(INSERT_ROWS) }
}

function rowOf(task: NewTask) {
  const requirements = canonical(task.requirements)
  return {
    id: task.id,
    team_id: task.teamId,
    workflow_id: task.workflowId,
    workflow_version: task.workflowVersion,
    workflow_slug: task.workflowSlug,
    tool_type: task.toolType,
    priority: task.priority,
    submitter_id: task.submitterId,
    creation_source: task.creationSource,
    parameters: JSON.stringify(task.parameters),
    dispatch_target: task.dispatchTarget,
    target_pool: task.targetPool,
    submitter_region: task.submitterRegion,
    requirement_key: createHash('sha256').update(requirements).digest('base64url'),
    requirements,
    models: JSON.stringify(task.requirements.models),
    max_retries: task.maxRetries,
    task_timeout_ms: task.taskTimeoutMs,
    resume_window_ms: task.resumeWindowMs,
    // Left out of the JSON when there is none.
    placement: task.placement && placementRow(task.placement),
    is_from_memory: task.isFromMemory || undefined,
    credential_id: task.recalledKey?.credentialId,
    recalled_role: task.recalledKey?.role,
  }
}

function placementRow({ agent, gatewayId, ackMs }: Placement) {
  const { agentId, labels, gpuName } = agent
  return { agent_id: agentId, labels: JSON.stringify([...labels]), gpu: gpuName, gateway_id: gatewayId, ack_ms: ackMs }
}

/** The same needs are the same text, in whatever order they were named. */
function canonical({ tool, labels, models, nodes, minVramGb, preferredGpu }: Requirements): string {
  const sorted = (names: readonly string[]) => [...new Set(names)].toSorted(order)
  return JSON.stringify({
    tool,
    labels: sorted(labels),
    models: sorted(models),
    nodes: sorted(nodes),
    minVramGb,
    preferredGpu,
  })
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

/** Members of the rows that `jsonRows` gives, under the name `from`. */
function text(name: string, from = 'made'): string {
  return `cast(${from}.value ->> '${name}' as text)`
}

function number(name: string, from = 'made'): string {
  return `cast(${from}.value ->> '${name}' as bigint)`
}

/**
 * Whether the workflow of `submitted` still is as the row says. Not as `exists`: PostgreSQL would look for one row among the
 * hashes of all workflows.
 */
const IS_WORKFLOW_CURRENT = `
  select workflow.version = ${number('workflow_version', 'submitted')}
    and workflow.workflow_slug = ${text('workflow_slug', 'submitted')}
    and workflow.workflow_status = 'active' and workflow.deleted_at is null
  from workflow where workflow.id = ${text('workflow_id', 'submitted')}`

/** Whether the key of `submitted` is not revoked and its holder still has the role; when it expires its memory knows. */
const IS_KEY_CURRENT = `
  select credential.revoked_at is null and membership.role = ${text('recalled_role', 'submitted')}
  from credential join membership
    on membership.team_id = credential.team_id and membership.user_id = credential.user_id
  where credential.id = ${text('credential_id', 'submitted')}`

/** From `made`. One text, because Kysely walks through every piece of a statement at every call. */
const INSERT_ROWS = `
  insert into task (id, team_id, workflow_id, workflow_version, workflow_slug, tool_type, status, priority, submitter_id,
      creation_source, parameters, dispatch_target, target_pool, submitter_region, requirement_key, refused_by, models,
      created_at, retry_count, max_retries, task_timeout_ms, resume_window_ms, attempt_fence, agent_labels,
      acknowledged_sequence, event_count, agent_id, gateway_id, gpu_type, ack_until, lease_until)
    select ${text('id')}, ${text('team_id')}, ${text('workflow_id')}, ${number('workflow_version')},
      ${text('workflow_slug')}, ${text('tool_type')}, case when placement is null then 'pending' else 'queued' end,
      ${number('priority')}, ${text('submitter_id')},
      ${text('creation_source')}, ${text('parameters')}, ${text('dispatch_target')}, ${text('target_pool')},
      ${text('submitter_region')}, ${text('requirement_key')}, '', ${text('models')},
      now, 0, ${number('max_retries')}, ${number('task_timeout_ms')}, ${number('resume_window_ms')},
      case when placement is null then 0 else ${FIRST_FENCE} end, coalesce(placement ->> 'labels', '[]'),
      0, case when placement is null then 1 else ${FIRST_EVENTS.length} end,
      placement ->> 'agent_id', placement ->> 'gateway_id', placement ->> 'gpu',
      now + cast(placement ->> 'ack_ms' as bigint),
      case when placement is null then null else now + ${number('resume_window_ms')} end
    from made where true`
