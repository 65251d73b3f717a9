import { createHash } from 'node:crypto'
import type { ToolType } from '@cyberun/api'
import type { JsonObject } from '@cyberun/protocol'
import { sql as raw } from 'kysely'
import type { StoredEvent } from '../model/attempt.ts'
import type { Requirements } from '../model/requirements.ts'
import { chainsWrites, clock, jsonRows } from './dialect.ts'
import { Sql } from './handle.ts'
import { eventRow, insertEvents } from './task-changes.ts'
import { together } from './together.ts'

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
}

export type Submission =
  /** It is on disk: it will not be lost. */
  | { kind: 'accepted'; taskId: string }
  /** The same was submitted before with this key: that is the task. */
  | { kind: 'replayed'; taskId: string }
  /** The key was used for something else. */
  | { kind: 'conflict' }

/** Accepts a run: task, needs, idempotency key and first event in one transaction, shared with others that come now. */
export const submitTask = together(submitTasks, (store, tasks) => {
  const isPlain = tasks.every(({ idempotency, fileKeys }) => idempotency === undefined && fileKeys.length === 0)
  return isPlain && chainsWrites(Sql.engine(store))
})

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

/** Forgets keys whose time is up. */
export async function dropOldIdempotencyKeys(sql: Sql): Promise<void> {
  await Sql.db(sql)
    .deleteFrom('idempotency_key')
    .where('expires_at', '<=', clock(Sql.engine(sql)))
    .execute()
}

async function submitTasks(sql: Sql, tasks: readonly NewTask[]): Promise<Submission[]> {
  const answers: Submission[] = []
  const accepted: NewTask[] = []
  for (const task of tasks) {
    const before = await takeKey(sql, task)
    answers.push(before ?? { kind: 'accepted', taskId: task.id })
    if (before === undefined) accepted.push(task)
  }
  if (accepted.length > 0) await insertTasks(sql, accepted)
  return answers
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

const PENDING: StoredEvent = { kind: 'status', status: 'pending' }

async function insertTasks(sql: Sql, tasks: readonly NewTask[]): Promise<void> {
  const engine = Sql.engine(sql)
  const rows = tasks.map(rowOf)
  const needs = new Map(rows.map(({ requirement_key, requirements }) => [requirement_key, requirements]))
  const needRows = [...needs]
    .map(([key, requirements]) => ({ key, requirements }))
    .toSorted((a, b) => order(a.key, b.key))
  const insertNeeds = raw`
    insert into task_requirement (requirement_key, requirements)
    select ${text('key')}, ${text('requirements')} from ${jsonRows(engine, needRows)} as made where true
    on conflict (requirement_key) do nothing`
  const insertRows = raw<{ created_at: number }>`
    insert into task (id, team_id, workflow_id, workflow_version, workflow_slug, tool_type, status, priority, submitter_id,
      creation_source, parameters, dispatch_target, target_pool, submitter_region, requirement_key, refused_by, models,
      created_at, retry_count, max_retries, task_timeout_ms, resume_window_ms, attempt_fence, agent_labels,
      acknowledged_sequence, event_count)
    select ${text('id')}, ${text('team_id')}, ${text('workflow_id')}, ${number('workflow_version')},
      ${text('workflow_slug')}, ${text('tool_type')}, 'pending', ${number('priority')}, ${text('submitter_id')},
      ${text('creation_source')}, ${text('parameters')}, ${text('dispatch_target')}, ${text('target_pool')},
      ${text('submitter_region')}, ${text('requirement_key')}, '', ${text('models')},
      ${clock(engine)}, 0, ${number('max_retries')}, ${number('task_timeout_ms')}, ${number('resume_window_ms')}, 0, '[]',
      0, 1
    from ${jsonRows(engine, rows)} as made where true
    returning id, created_at`
  if (chainsWrites(engine)) {
    await raw`
      with needed as (${insertNeeds}), accepted as (${insertRows})
      insert into task_event (task_id, number, data, at)
      select id, 1, ${JSON.stringify(PENDING)}, created_at from accepted`.execute(Sql.db(sql))
  } else {
    await insertNeeds.execute(Sql.db(sql))
    const { rows: inserted } = await insertRows.execute(Sql.db(sql))
    const events = tasks.map(({ id }) => eventRow(id, 1, PENDING))
    await insertEvents(sql, events, inserted[0]?.created_at ?? 0)
  }
  const inputs = tasks.flatMap(({ id, fileKeys }) => [...new Set(fileKeys)].map((key) => ({ id, key })))
  if (inputs.length === 0) return
  await raw`
    insert into task_input (task_id, file_key)
    select ${text('id')}, ${text('key')} from ${jsonRows(engine, inputs)} as made`.execute(Sql.db(sql))
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
  }
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

/** Members of the rows that `jsonRows` gives, under the name `made`. */
function text(name: string) {
  return raw<string>`cast(made.value ->> ${raw.lit(name)} as text)`
}

function number(name: string) {
  return raw<number>`cast(made.value ->> ${raw.lit(name)} as bigint)`
}
