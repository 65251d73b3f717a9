import { type RawBuilder, sql as raw } from 'kysely'
import type { Lane } from '../model/fairness.ts'
import type { Requirements } from '../model/requirements.ts'
import { Sql } from './handle.ts'
import { HELD } from './migration-tasks.ts'
import { parseObject, parseRefusedBy } from './task-rows.ts'

/** The lanes of a team, each with its oldest task. */
export async function listLanes(sql: Sql, teamId: string): Promise<Lane[]> {
  const { rows } = await lanesQuery(teamId).execute(Sql.db(sql))
  return rows.map((row) => ({
    priority: row.priority,
    submitterId: row.submitter_id,
    requirementKey: row.requirement_key,
    requirements: parseRequirements(row.requirements),
    refusedBy: parseRefusedBy(row.refused_by),
    oldest: { createdAt: row.created_at, taskId: row.id },
  }))
}

/**
 * Steps through the index `task_lane` from one lane to the next, so it costs a few look-ups a lane however many tasks
 * wait. The outer joins say in which order to join: SQLite would begin with all tasks.
 */
export function lanesQuery(teamId: string): RawBuilder<LaneRow> {
  return raw<LaneRow>`
    with recursive lane(task_id) as (
      select ${firstWaiting(raw`${teamId}`)}
      union all
      select coalesce(${raw.join(LANE_COLUMNS.map((_, at) => nextTask(teamId, at)).toReversed())})
      from lane join task as here on here.id = lane.task_id
    )
    select task.id, task.priority, task.submitter_id, task.requirement_key, task.refused_by, task.created_at, requirements
    from lane left join task on task.id = lane.task_id
    left join task_requirement on task_requirement.requirement_key = task.requirement_key
    where lane.task_id is not null`
}

/** As `WAITING`, for statements with several tasks in them. */
export const WAITING_TASK = raw<boolean>`task.status in ('pending', 'waiting')`

/** What makes a lane, in the order of the index `task_lane`. */
const LANE_COLUMNS = ['priority', 'submitter_id', 'requirement_key', 'refused_by'] as const

/** The oldest task of a team's first lane, one look-up however many wait; null when none does. */
export function firstWaiting(teamId: RawBuilder<unknown>): RawBuilder<unknown> {
  return firstTask(teamId, raw`true`)
}

/** The oldest task of the first lane that fulfils a condition on `task`. */
function firstTask(teamId: RawBuilder<unknown>, condition: RawBuilder<unknown>) {
  return raw`(select task.id from task where task.team_id = ${teamId} and ${WAITING_TASK} and ${condition}
    order by ${raw.raw([...LANE_COLUMNS, 'created_at', 'id'].map((name) => `task.${name}`).join(', '))} limit 1)`
}

/**
 * The first task behind the lane of `here` that is still equal to it in the first columns: a range of the index. Comparing
 * all columns as one row would say the same, but SQLite then reads through the whole lane.
 */
function nextTask(teamId: string, equalColumns: number) {
  const compared = LANE_COLUMNS.slice(0, equalColumns + 1)
  const conditions = compared.map((name, at) => `task.${name} ${at === equalColumns ? '>' : '='} here.${name}`)
  return firstTask(raw`${teamId}`, raw.raw(conditions.join(' and ')))
}

interface LaneRow {
  id: string
  priority: number
  submitter_id: string
  requirement_key: string
  refused_by: string
  created_at: number
  requirements: string
}

/** How many tasks each submitter of a team has on agents now. */
export async function heldBySubmitter(sql: Sql, teamId: string): Promise<Map<string, number>> {
  const { rows } = await raw<{ submitter_id: string; held: number }>`
    select submitter_id, count(*) as held from task where team_id = ${teamId} and ${HELD}
    group by submitter_id`.execute(Sql.db(sql))
  return new Map(rows.map((row) => [row.submitter_id, row.held]))
}

export function parseRequirements(json: string): Requirements {
  return parseObject(json) as unknown as Requirements
}
