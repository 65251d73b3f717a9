import { type RawBuilder, sql as raw } from 'kysely'
import { mayTake } from '../model/fairness.ts'
import { type LaneAhead, queuePositionOf } from '../model/queue-position.ts'
import type { AgentOffer, Requirements } from '../model/requirements.ts'
import { jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
import { heldBySubmitter, parseRequirements, WAITING_TASK } from './lanes.ts'
import { parseRefusedBy } from './task-rows.ts'

/** Most tasks that are placed at once: a page of them. */
const MOST_TASKS = 100

/**
 * The places of tasks among those that compete with them for these agents: 1 is next. Those that do not wait have none.
 * Counts once along the index for all of them, so it grows with the tasks that wait: 10 ms for 100,000. Takes 100 tasks
 * at most.
 */
export async function queuePositions(
  sql: Sql,
  teamId: string,
  taskIds: readonly string[],
  agents: readonly AgentOffer[],
): Promise<Map<string, number>> {
  const tasks = await waitingTasks(sql, teamId, taskIds)
  if (tasks.length === 0) return new Map()
  const lanes = await countLanes(sql, teamId, tasks)
  const held = await heldBySubmitter(sql, teamId)
  const rivalsOf = competition(lanes, agents)
  return new Map(
    tasks.map((task, at) => {
      const rivals = rivalsOf(needsOf(task)).map((lane) => ({ ...lane, older: olderThan(lane, at) }))
      return [task.id, queuePositionOf({ priority: task.priority, submitterId: task.submitter_id }, rivals, held)]
    }),
  )
}

interface WaitingTask extends Needs {
  id: string
  priority: number
  submitter_id: string
  created_at: number
}

/** Of these tasks those that wait, the oldest first. */
async function waitingTasks(sql: Sql, teamId: string, taskIds: readonly string[]): Promise<WaitingTask[]> {
  const { rows } = await raw<WaitingTask>`
    select task.id, priority, submitter_id, requirement_key, refused_by, created_at from task
    where team_id = ${teamId} and ${WAITING_TASK} and task.id in (select value from ${jsonTexts(Sql.engine(sql), taskIds)})
    order by created_at, task.id`.execute(Sql.db(sql))
  return rows
}

interface CountedLane extends Omit<LaneAhead, 'older'> {
  needs: string
  requirements: Requirements
  refusedBy: readonly string[]
  /** How many are older than the first of the tasks, how many of the others are older than the second, … */
  olderBy: Map<number, number>
}

/** The lanes of a team that can be in front of the tasks. */
async function countLanes(sql: Sql, teamId: string, tasks: readonly WaitingTask[]): Promise<CountedLane[]> {
  const leastPriority = Math.min(...tasks.map(({ priority }) => priority))
  const { rows } = await raw<LaneRow>`
    select counted.*, requirements from (
      select priority, submitter_id, requirement_key, refused_by, ${ageAmong(tasks)} as age, count(*) as waiting
      from task where team_id = ${teamId} and ${WAITING_TASK} and priority >= ${leastPriority}
      group by priority, submitter_id, requirement_key, refused_by, age
    ) as counted
    join task_requirement on task_requirement.requirement_key = counted.requirement_key`.execute(Sql.db(sql))
  const lanes = new Map<string, CountedLane>()
  for (const row of rows) {
    const key = JSON.stringify([row.priority, row.submitter_id, needsOf(row)])
    const lane = lanes.get(key) ?? newLane(row)
    lanes.set(key, lane)
    lane.waiting += row.waiting
    lane.olderBy.set(row.age, row.waiting)
  }
  return [...lanes.values()]
}

interface LaneRow extends Needs {
  priority: number
  submitter_id: string
  age: number
  waiting: number
  requirements: string
}

/**
 * Which of the tasks is the first that a row of `task` is older than. Most rows are older than the first one already.
 * The list has one of two lengths, because each would be a statement of its own to prepare.
 */
function ageAmong(tasks: readonly WaitingTask[]): RawBuilder<number> {
  const length = tasks.length === 1 ? 1 : MOST_TASKS
  const cases = Array.from({ length }, (_, at) => {
    const { created_at, id } = tasks[at] ?? { created_at: 0, id: '' }
    return raw`when (created_at, id) < (cast(${created_at} as bigint), ${id}) then ${raw.lit(at)}`
  })
  return raw<number>`case ${raw.join(cases, raw` `)} else ${raw.lit(length)} end`
}

function newLane(row: LaneRow): CountedLane {
  return {
    priority: row.priority,
    submitterId: row.submitter_id,
    waiting: 0,
    needs: needsOf(row),
    requirements: parseRequirements(row.requirements),
    refusedBy: parseRefusedBy(row.refused_by),
    olderBy: new Map(),
  }
}

function olderThan({ olderBy }: CountedLane, at: number): number {
  let older = 0
  for (const [age, count] of olderBy) if (age <= at) older += count
  return older
}

/** For tasks with the same needs: the lanes that some agent which may run them may run too, their own among them. */
function competition(lanes: readonly CountedLane[], agents: readonly AgentOffer[]) {
  const known = new Map<string, CountedLane[]>()
  return (needs: string): CountedLane[] => {
    const found = known.get(needs)
    if (found) return found
    // Agents look at needs and refusals only, so any lane that shares them with the task speaks for it.
    const own = lanes.find((lane) => lane.needs === needs)
    const fitting = agents.filter((agent) => own !== undefined && mayTake(own, agent))
    const competing = lanes.filter((lane) => lane.needs === needs || fitting.some((agent) => mayTake(lane, agent)))
    known.set(needs, competing)
    return competing
  }
}

interface Needs {
  requirement_key: string
  refused_by: string
}

function needsOf(row: Needs): string {
  return `${row.requirement_key}${row.refused_by}`
}
