import { type RawBuilder, sql as raw } from 'kysely'
import type { ChangeAnswer, StoredEvent } from '../model/attempt.ts'
import { changeTask, type TaskChange, type TaskFacts, type TaskStep } from '../model/task-change.ts'
import { clock, type Engine, forUpdate, jsonRows, jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
import { formatRefusedBy, parseRefusedBy, parseStatus, parseTexts, storable } from './task-rows.ts'
import { together } from './together.ts'
import { writeAll } from './write-all.ts'

/** A change and the task that it is meant for. */
export interface OrderedChange {
  taskId: string
  change: TaskChange
}

/**
 * Applies one change of one task by the rules of `model/task-change.ts`, with whatever else is asked for at the same
 * time. A task that does not exist answers `late`, or `nothing` to what no attempt asked for.
 */
export const applyChange = together(applyChanges)

/**
 * Applies changes in order in this transaction: reads and locks their tasks, lets the rules decide, writes what came of
 * it. Four statements, however many changes.
 */
export async function applyChanges(sql: Sql, orders: readonly OrderedChange[]): Promise<ChangeAnswer[]> {
  const { tasks, now } = await lockTasks(sql, [...new Set(orders.map(({ taskId }) => taskId))])
  const written = new Written()
  const answers: ChangeAnswer[] = []
  for (const { taskId, change } of orders) {
    const task = tasks.get(taskId)
    if (task === undefined) {
      answers.push({ kind: 'attempt' in change ? 'late' : 'nothing' })
      continue
    }
    const step = changeTask(task.facts, change, now)
    written.note(task, step)
    task.facts = step.task
    answers.push(step.answer)
  }
  await written.write(sql, now)
  return answers
}

interface LockedTask {
  facts: TaskFacts
  models: readonly string[]
}

/** In the order of their ids, so that two servers never wait for each other. */
async function lockTasks(sql: Sql, taskIds: readonly string[]) {
  const engine = Sql.engine(sql)
  const { rows } = await raw<LockedRow>`
    select ${raw.raw(FACT_COLUMNS)}, ${clock(engine)} as now from task
    where id in (select cast(value as text) from ${jsonTexts(engine, taskIds)}) order by id
    ${forUpdate(engine)}`.execute(Sql.db(sql))
  const tasks = new Map(rows.map((row) => [row.id, { facts: factsOf(row), models: parseTexts(row.models) }]))
  return { tasks, now: rows[0]?.now ?? 0 }
}

/** What comes of a list of changes, until it is written at once. */
class Written {
  readonly #tasks = new Map<string, TaskFacts>()
  readonly #events: { task_id: string; number: number; data: string }[] = []
  readonly #refusals: { task_id: string; agent_id: string; reason: string; message: string }[] = []
  readonly #completed: { team_id: string; agent_id: string }[] = []
  readonly #warm: { team_id: string; agent_id: string; model: string }[] = []

  note(before: LockedTask, { task, events, refusal }: TaskStep): void {
    if (task === before.facts) return
    const { taskId, teamId, agentId } = task
    this.#tasks.set(taskId, task)
    for (const [at, event] of events.entries()) {
      this.#events.push({ task_id: taskId, number: before.facts.eventCount + 1 + at, data: JSON.stringify(event) })
    }
    if (refusal !== undefined) {
      this.#refusals.push({
        task_id: taskId,
        agent_id: refusal.agentId,
        reason: refusal.reason,
        message: storable(refusal.message),
      })
    }
    if (task.status === 'completed' && agentId !== null) {
      this.#completed.push({ team_id: teamId, agent_id: agentId })
      for (const model of before.models) this.#warm.push({ team_id: teamId, agent_id: agentId, model })
    }
  }

  async write(sql: Sql, now: number): Promise<void> {
    if (this.#tasks.size === 0) return
    const engine = Sql.engine(sql)
    const beside: RawBuilder<unknown>[] = []
    if (this.#events.length > 0) beside.push(insertEvents(engine, this.#events, now))
    if (this.#refusals.length > 0) beside.push(insertRefusals(engine, this.#refusals, now))
    if (this.#warm.length > 0) beside.push(insertWarm(engine, this.#warm, now))
    if (this.#completed.length > 0) beside.push(countCompleted(engine, this.#completed))
    const { numAffectedRows } = await writeAll(sql, beside, updateTasks(engine, [...this.#tasks.values()]))
    if (numAffectedRows !== BigInt(this.#tasks.size)) throw new Error('a locked task changed under the lock')
  }
}

/**
 * The fence stands in the condition although the rows are locked: no write of an attempt goes without it. Nor does any
 * touch a task that has ended.
 */
function updateTasks(engine: Engine, tasks: readonly TaskFacts[]): RawBuilder<unknown> {
  return raw`
    update task set
      status = ${text('status')}, agent_id = ${text('agent_id')}, gateway_id = ${text('gateway_id')},
      retry_count = ${number('retry_count')}, event_count = ${number('event_count')},
      acknowledged_sequence = ${number('acknowledged')}, ack_until = ${number('ack_until')},
      lease_until = ${number('lease_until')}, deadline_at = ${number('deadline_at')},
      started_at = ${number('started_at')}, completed_at = ${number('completed_at')},
      error = ${text('error')}, output = ${text('output')}, refused_by = ${text('refused_by')}
    from ${jsonRows(engine, tasks.map(rowOf))} as changed
    where task.id = ${text('id')} and task.attempt_fence = ${number('fence')} and task.completed_at is null`
}

/** Numbers come from `event_count`, which is written in the same transaction under the task's lock. */
export function insertEvents(
  engine: Engine,
  events: readonly { task_id: string; number: number; data: string }[],
  now: number,
): RawBuilder<unknown> {
  return raw`
    insert into task_event (task_id, number, data, at)
    select ${text('task_id')}, ${number('number')}, ${text('data')}, ${now}
    from ${jsonRows(engine, events)} as changed`
}

export function eventRow(taskId: string, eventNumber: number, event: StoredEvent) {
  return { task_id: taskId, number: eventNumber, data: JSON.stringify(event) }
}

function insertRefusals(engine: Engine, refusals: readonly unknown[], now: number): RawBuilder<unknown> {
  return raw`
    insert into task_refusal (task_id, agent_id, reason, message, refused_at)
    select ${text('task_id')}, ${text('agent_id')}, ${text('reason')}, ${text('message')}, ${now}
    from ${jsonRows(engine, refusals)} as changed where true
    on conflict (task_id, agent_id) do nothing`
}

function insertWarm(engine: Engine, warm: readonly unknown[], now: number): RawBuilder<unknown> {
  return raw`
    insert into agent_history (team_id, agent_id, model, used_at)
    select distinct ${text('team_id')}, ${text('agent_id')}, ${text('model')}, cast(${now} as bigint)
    from ${jsonRows(engine, warm)} as changed where true order by 1, 2, 3
    on conflict (team_id, agent_id, model) do update set used_at = excluded.used_at`
}

function countCompleted(engine: Engine, completed: readonly unknown[]): RawBuilder<unknown> {
  return raw`
    update agent set tasks_completed = tasks_completed + more.tasks
    from (select ${text('team_id')} as team_id, ${text('agent_id')} as agent_id, count(*) as tasks
      from ${jsonRows(engine, completed)} as changed group by 1, 2) as more
    where agent.team_id = more.team_id and agent.agent_id = more.agent_id`
}

const FACT_COLUMNS = `id, team_id, status, attempt_fence, agent_id, gateway_id, retry_count, max_retries, event_count,
  acknowledged_sequence, ack_until, lease_until, deadline_at, task_timeout_ms, resume_window_ms, started_at, refused_by,
  models`

interface LockedRow {
  id: string
  team_id: string
  status: string
  attempt_fence: number
  agent_id: string | null
  gateway_id: string | null
  retry_count: number
  max_retries: number
  event_count: number
  acknowledged_sequence: number
  ack_until: number | null
  lease_until: number | null
  deadline_at: number | null
  task_timeout_ms: number
  resume_window_ms: number
  started_at: number | null
  refused_by: string
  models: string
  now: number
}

/** Result columns are not read: they are empty until the change that ends the task. */
function factsOf(row: LockedRow): TaskFacts {
  return {
    taskId: row.id,
    teamId: row.team_id,
    status: parseStatus(row.status),
    fence: row.attempt_fence,
    agentId: row.agent_id,
    gatewayId: row.gateway_id,
    retryCount: row.retry_count,
    maxRetries: row.max_retries,
    eventCount: row.event_count,
    acknowledged: row.acknowledged_sequence,
    ackUntil: row.ack_until,
    leaseUntil: row.lease_until,
    deadlineAt: row.deadline_at,
    taskTimeoutMs: row.task_timeout_ms,
    resumeWindowMs: row.resume_window_ms,
    startedAt: row.started_at,
    completedAt: null,
    error: null,
    output: null,
    refusedBy: parseRefusedBy(row.refused_by),
  }
}

function rowOf(task: TaskFacts) {
  return {
    id: task.taskId,
    fence: task.fence,
    status: task.status,
    agent_id: task.agentId,
    gateway_id: task.gatewayId,
    retry_count: task.retryCount,
    event_count: task.eventCount,
    acknowledged: task.acknowledged,
    ack_until: task.ackUntil,
    lease_until: task.leaseUntil,
    deadline_at: task.deadlineAt,
    started_at: task.startedAt,
    completed_at: task.completedAt,
    error: task.error === null ? null : storable(task.error),
    output: task.output === null ? null : JSON.stringify(task.output),
    refused_by: formatRefusedBy(task.refusedBy),
  }
}

/** Members of the rows that `jsonRows` gives, under the name `changed`. */
function text(name: string) {
  return raw.raw<string>(`cast(changed.value ->> '${name}' as text)`)
}

function number(name: string) {
  return raw.raw<number>(`cast(changed.value ->> '${name}' as bigint)`)
}
