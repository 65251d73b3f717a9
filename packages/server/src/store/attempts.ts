import type { TaskStatus } from '@cyberun/api'
import type { AttemptEvent, AttemptOutcome, AttemptProgress, DeclineReason } from '@cyberun/protocol'
import { sql as raw } from 'kysely'
import type { Attempt, ChangeAnswer, HeldAttempt } from '../model/attempt.ts'
import type { ReleaseCause } from '../model/task-change.ts'
import { clock, jsonRows } from './dialect.ts'
import { Sql } from './handle.ts'
import { HELD } from './migration-tasks.ts'
import type { Store } from './store.ts'
import { applyChange } from './task-changes.ts'
import { parseStatus } from './task-rows.ts'
import { together } from './together.ts'

/**
 * What is written on behalf of attempts. Every write names task, agent and fence; one that is not the task's current
 * attempt answers `late` and changes nothing. Writes of one task are done in the order in which they were asked for.
 */

/** The agent took the task: it runs, and its time limit begins. */
export function acknowledgeAttempt(store: Store, attempt: Attempt): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'accept', attempt } })
}

/** The agent did not take the task. It goes to another, or has failed when nobody could run it (`invalid`). */
export function declineAttempt(
  store: Store,
  attempt: Attempt,
  { reason, message }: { reason: DeclineReason; message: string },
): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'decline', attempt, reason, message } })
}

/** Keeps what an agent reports, each line of a log as an event of its own. What is there already is passed over. */
export function appendEvents(
  store: Store,
  attempt: Attempt,
  events: readonly { sequence: number; event: AttemptEvent }[],
): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'report', attempt, events } })
}

/** Ends an attempt as its agent says. The same said again is answered the same. */
export function settleAttempt(
  store: Store,
  attempt: Attempt,
  { sequence, outcome }: { sequence: number; outcome: AttemptOutcome },
): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'finish', attempt, sequence, outcome } })
}

/** Gives an attempt up. Unless its agent never got it, it counts as a failed one. */
export function releaseAttempt(
  store: Store,
  attempt: Attempt,
  { cause, message }: { cause: ReleaseCause; message: string },
): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'release', attempt, cause, message } })
}

/** Keeps something that people who follow the task are to know, as an event. */
export function remarkOnAttempt(store: Store, attempt: Attempt, message: string): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'remark', attempt, message } })
}

/** An agent is back with an attempt it still has: from now on this server speaks with it. */
export function attachAttempt(store: Store, attempt: Attempt, gatewayId: string): Promise<ChangeAnswer> {
  return applyChange(store, { taskId: attempt.taskId, change: { kind: 'attach', attempt, gatewayId } })
}

export interface RenewedLease extends Attempt {
  /** How long the attempt is the agent's unless it is renewed again. */
  remainingMs: number
}

/** Renews the leases of attempts whose agents were heard, in one statement. One that is not in the answer is late. */
export async function renewLeases(sql: Sql, gatewayId: string, attempts: readonly Attempt[]): Promise<RenewedLease[]> {
  if (attempts.length === 0) return []
  const engine = Sql.engine(sql)
  const { rows } = await raw<RenewedRow>`
    update task set lease_until = ${clock(engine)} + resume_window_ms
    from ${jsonRows(engine, attempts)} as held
    where task.id = cast(held.value ->> 'taskId' as text) and team_id = cast(held.value ->> 'teamId' as text)
      and task.agent_id = cast(held.value ->> 'agentId' as text)
      and attempt_fence = cast(held.value ->> 'fence' as bigint) and gateway_id = ${gatewayId} and ${HELD}
    returning task.id, team_id, task.agent_id, attempt_fence, resume_window_ms`.execute(Sql.db(sql))
  return rows.map((row) => ({
    teamId: row.team_id,
    taskId: row.id,
    agentId: row.agent_id,
    fence: row.attempt_fence,
    remainingMs: row.resume_window_ms,
  }))
}

interface RenewedRow {
  id: string
  team_id: string
  agent_id: string
  attempt_fence: number
  resume_window_ms: number
}

/** Every attempt that agents have now, or those of one team, or of one agent; `queued` is not acknowledged yet. */
export async function heldAttempts(
  sql: Sql,
  { teamId, agentId }: { teamId?: string; agentId?: string } = {},
): Promise<(HeldAttempt & { status: TaskStatus })[]> {
  const rows = await Sql.db(sql)
    .selectFrom('task')
    .select(['id', 'team_id', 'agent_id', 'attempt_fence', 'gateway_id', 'status'])
    .where(HELD)
    .$if(teamId !== undefined, (query) => query.where('team_id', '=', teamId ?? ''))
    .$if(agentId !== undefined, (query) => query.where('agent_id', '=', agentId ?? ''))
    .execute()
  return rows.flatMap((row) => {
    const { id: taskId, team_id, agent_id, attempt_fence: fence, gateway_id } = row
    if (agent_id === null || gateway_id === null) return []
    const attempt = { teamId: team_id, taskId, agentId: agent_id, fence, gatewayId: gateway_id }
    return [{ ...attempt, status: parseStatus(row.status) }]
  })
}

/** An attempt that a time limit ended, and what its task is now. */
export interface Expired {
  ended: HeldAttempt
  status: TaskStatus
}

/** Ends the attempts that were not acknowledged, not heard of, or ran too long: at most `limit` of them. */
export async function sweepExpired(store: Store, limit: number): Promise<Expired[]> {
  const now = clock(Sql.engine(store))
  const { rows } = await raw<{ id: string }>`
    select id from task where ${HELD} and (ack_until <= ${now} or lease_until <= ${now} or deadline_at <= ${now})
    limit ${limit}`.execute(Sql.db(store))
  const answers = await Promise.all(
    rows.map(({ id }) => applyChange(store, { taskId: id, change: { kind: 'expire' } })),
  )
  return answers.flatMap((answer) =>
    answer.kind === 'stored' && answer.ended !== undefined ? [{ ended: answer.ended, status: answer.status }] : [],
  )
}

const writeProgress = together(writeProgresses)

/** Keeps how far an attempt is, in place of what was there. That of a late attempt is dropped. */
export async function saveProgress(store: Store, attempt: Attempt, progress: AttemptProgress): Promise<void> {
  await writeProgress(store, { attempt, progress })
}

async function writeProgresses(
  sql: Sql,
  items: readonly { attempt: Attempt; progress: AttemptProgress }[],
): Promise<boolean[]> {
  const latest = new Map(items.map((item) => [item.attempt.taskId, item]))
  const rows = [...latest.values()].map(({ attempt, progress }) => ({ ...attempt, progress: JSON.stringify(progress) }))
  await raw`
    update task set progress = cast(latest.value ->> 'progress' as text)
    from ${jsonRows(Sql.engine(sql), rows)} as latest
    where task.id = cast(latest.value ->> 'taskId' as text) and team_id = cast(latest.value ->> 'teamId' as text)
      and agent_id = cast(latest.value ->> 'agentId' as text)
      and attempt_fence = cast(latest.value ->> 'fence' as bigint) and status = 'running'`.execute(Sql.db(sql))
  return items.map(() => true)
}
