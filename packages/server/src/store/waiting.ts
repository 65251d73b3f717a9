import { sql as raw } from 'kysely'
import type { Requirements } from '../model/requirements.ts'
import type { WaitingFacts } from '../model/waiting-reason.ts'
import { clock, jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
import { parseRequirements } from './lanes.ts'
import { HELD, WAITING } from './migration-tasks.ts'
import { sharedRead } from './shared-read.ts'
import type { Store } from './store.ts'
import { applyChange } from './task-changes.ts'
import { formatRefusedBy, parseRefusedBy } from './task-rows.ts'

/** What is kept about why tasks wait. */

/** The teams that have a task waiting: a look-up each, however many tasks there are. */
export async function teamsWithWaitingTasks(sql: Sql): Promise<string[]> {
  const { rows } = await raw<{ team_id: string }>`
    with recursive team_of(team_id) as (
      select (select team_id from task where ${WAITING} order by team_id limit 1)
      union all
      select (select task.team_id from task where ${WAITING} and task.team_id > team_of.team_id
        order by task.team_id limit 1)
      from team_of where team_of.team_id is not null
    )
    select team_id from team_of where team_id is not null`.execute(Sql.db(sql))
  return rows.map(({ team_id }) => team_id)
}

/** How much there is to do, over all teams. */
export interface TaskLoad {
  /** Tasks that no agent has. */
  waiting: number
  /** How long the oldest of them has been waiting; 0 when there is none. */
  oldestWaitMs: number
  /** Tasks that an agent has or was asked to take. */
  held: number
}

/** Counts along two indexes that hold nothing but such tasks: 10 ms for 100,000. */
export const taskLoad = sharedRead(async (sql: Sql): Promise<TaskLoad> => {
  const { rows } = await raw<{ waiting: number; oldest_wait: number | null; held: number }>`
    select count(*) as waiting, ${clock(Sql.engine(sql))} - min(created_at) as oldest_wait,
      (select count(*) from task where ${HELD}) as held
    from task where ${WAITING}`.execute(Sql.db(sql))
  const [{ waiting, oldest_wait, held } = { waiting: 0, oldest_wait: 0, held: 0 }] = rows
  return { waiting, oldestWaitMs: Math.max(0, oldest_wait ?? 0), held }
})

/** What tasks of a team need and who declined them. */
export async function waitingFacts(
  sql: Sql,
  teamId: string,
  taskIds: readonly string[],
): Promise<Map<string, WaitingFacts>> {
  const ids = jsonTexts(Sql.engine(sql), taskIds)
  const { rows } = await raw<{ id: string; requirements: string; agent_id: string | null; message: string | null }>`
    select task.id, requirements, task_refusal.agent_id, message from task
    join task_requirement on task_requirement.requirement_key = task.requirement_key
    left join task_refusal on task_refusal.task_id = task.id
    where task.team_id = ${teamId} and task.id in (select value from ${ids})
    order by task_refusal.agent_id`.execute(Sql.db(sql))
  const facts = new Map<string, { requirements: Requirements; refusals: { agentId: string; message: string }[] }>()
  for (const { id, requirements, agent_id, message } of rows) {
    const known = facts.get(id) ?? { requirements: parseRequirements(requirements), refusals: [] }
    facts.set(id, known)
    if (agent_id !== null && message !== null) known.refusals.push({ agentId: agent_id, message })
  }
  return facts
}

export interface WaitOrder {
  teamId: string
  /** How long a task may be pending before it is said to wait. */
  olderThanMs: number
  /** Tasks to change at most. */
  limit: number
}

/**
 * Says of tasks that no agent took at once that they wait, and why: `pending` becomes `waiting`, with its event. Returns
 * the ids of those that changed.
 */
export async function noteWaiting(
  store: Store,
  { teamId, olderThanMs, limit }: WaitOrder,
  reasonOf: (facts: WaitingFacts) => string,
): Promise<string[]> {
  const { rows } = await raw<{ id: string; requirement_key: string; requirements: string }>`
    select task.id, task.requirement_key, requirements from task
    join task_requirement on task_requirement.requirement_key = task.requirement_key
    where team_id = ${teamId} and status = 'pending' and created_at <= ${clock(Sql.engine(store))} - ${olderThanMs}
    order by created_at limit ${limit}`.execute(Sql.db(store))
  // A pending task was never offered to anybody, so nobody declined it, and those with the same needs wait for the same.
  const reasons = new Map<string, string>()
  for (const { requirement_key, requirements } of rows) {
    if (reasons.has(requirement_key)) continue
    reasons.set(requirement_key, reasonOf({ requirements: parseRequirements(requirements), refusals: [] }))
  }
  const changed = await Promise.all(
    rows.map(async ({ id, requirement_key }) => {
      const change = { kind: 'wait', reason: reasons.get(requirement_key) ?? '' } as const
      const answer = await applyChange(store, { taskId: id, change })
      return answer.kind === 'stored' ? [id] : []
    }),
  )
  return changed.flat()
}

/** The agents of a team that declined something which still waits. */
export const agentsThatDeclined = sharedRead(async (sql: Sql, teamId: string): Promise<ReadonlySet<string>> => {
  const rows = await Sql.db(sql)
    .selectFrom('task_refusal')
    .innerJoin('task', 'task.id', 'task_refusal.task_id')
    .select('task_refusal.agent_id')
    .distinct()
    .where('task.team_id', '=', teamId)
    .where('task.completed_at', 'is', null)
    .execute()
  return new Set(rows.map(({ agent_id }) => agent_id))
})

/** What an agent offers has changed: tasks that it declined may be offered to it again. Returns how many. */
export async function clearRefusals(store: Store, teamId: string, agentId: string): Promise<number> {
  // Most agents declined nothing, and thousands may come back at once: looking is cheaper than a transaction.
  if ((await refusalsOf(store, teamId, agentId)).length === 0) return 0
  return store.transaction(async (sql) => {
    const refusals = await refusalsOf(sql, teamId, agentId)
    for (const { id, refused_by } of refusals) {
      const others = parseRefusedBy(refused_by).filter((other) => other !== agentId)
      await Sql.db(sql)
        .updateTable('task')
        .set({ refused_by: formatRefusedBy(others) })
        .where('id', '=', id)
        .where('refused_by', '=', refused_by)
        .execute()
      await Sql.db(sql).deleteFrom('task_refusal').where('task_id', '=', id).where('agent_id', '=', agentId).execute()
    }
    return refusals.length
  })
}

/** The tasks that an agent declined and that have not ended. */
function refusalsOf(sql: Sql, teamId: string, agentId: string): Promise<{ id: string; refused_by: string }[]> {
  return Sql.db(sql)
    .selectFrom('task_refusal')
    .innerJoin('task', 'task.id', 'task_refusal.task_id')
    .select(['task.id', 'refused_by'])
    .where('task_refusal.agent_id', '=', agentId)
    .where('task.team_id', '=', teamId)
    .where('task.completed_at', 'is', null)
    .execute()
}
