import type { ToolType } from '@cyberun/api'
import type { JsonObject } from '@cyberun/protocol'
import { sql as raw } from 'kysely'
import type { Attempt, StoredEvent } from '../model/attempt.ts'
import { type FreeAgent, type LanePick, type PlanOptions, planClaims } from '../model/fairness.ts'
import type { Requirements } from '../model/requirements.ts'
import { chainsWrites, clock, type Engine, jsonRows, jsonTexts, skipLocked } from './dialect.ts'
import { Sql } from './handle.ts'
import { heldBySubmitter, listLanes } from './lanes.ts'
import type { Store } from './store.ts'
import { eventRow, insertEvents } from './task-changes.ts'
import { formatRefusedBy, parseObject, parseToolType } from './task-rows.ts'

/** The agents of one team, as whoever claims for them keeps count. */
export interface Takers {
  /** Those that could take tasks now. */
  free(): readonly FreeAgent[]
  /** So many slots of these are about to be filled: they are not free until the returned function is called. */
  hold(agents: readonly FreeAgent[]): () => void
  /** The task is its agent's. */
  take(task: ClaimedTask): void
}

/** For whom tasks are claimed. */
export interface ClaimOrder {
  teamId: string
  gatewayId: string
  takers: Takers
  /** How long each agent has to accept. */
  ackMs: number
  /** Tasks to claim at most. */
  limit: number
}

/** A task that this server now has to hand to its agent, within `ackMs`. */
export interface ClaimedTask extends Attempt {
  workflowId: string
  workflowVersion: number
  workflowSlug: string
  toolType: ToolType
  parameters: JsonObject
  /** From the acceptance on; 0 for none. */
  taskTimeoutMs: number
  resumeWindowMs: number
  requirements: Requirements
}

/** A plan may find its lanes shorter than it thought, or emptied by another server: then it is made again. */
const MOST_ROUNDS = 8

/**
 * Gives waiting tasks to free agents: who gets what is planned on a look at the lanes, the claiming statement then takes
 * the oldest tasks of each lane that nobody else is taking. No task is ever claimed twice. Returns how many were claimed.
 */
export async function claimTasks(store: Store, order: ClaimOrder): Promise<number> {
  const { takers } = order
  let claimed = 0
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const picks = await plan(store, order, order.limit - claimed)
    if (picks.length === 0) break
    const wanted = picks.flatMap(({ agents }) => agents)
    const release = takers.hold(wanted)
    try {
      const isOneStatement = picks.length === 1 && chainsWrites(Sql.engine(store))
      const taken = await (isOneStatement
        ? takePicks(store, order, picks)
        : store.transaction((sql) => takePicks(sql, order, picks)))
      for (const task of taken) takers.take(task)
      claimed += taken.length
      if (taken.length === wanted.length && claimed < order.limit) break
    } finally {
      release()
    }
  }
  return claimed
}

async function plan(store: Store, { teamId, takers }: ClaimOrder, limit: number): Promise<LanePick[]> {
  if (limit === 0 || takers.free().length === 0) return []
  const lanes = await listLanes(store, teamId)
  if (lanes.length === 0) return []
  // What submitters hold decides between them: one alone competes with nobody.
  const isContested = lanes.some(({ submitterId }) => submitterId !== lanes[0]?.submitterId)
  const held = isContested ? await heldBySubmitter(store, teamId) : new Map<string, number>()
  const warmth = await readWarmth(
    store,
    teamId,
    lanes.flatMap(({ requirements }) => requirements.models),
  )
  return planClaims(lanes, takers.free(), { held, warmth, limit })
}

/** For the agents of a team: how many of some models they have run, the models being among `models`. */
export async function readWarmth(sql: Sql, teamId: string, models: readonly string[]): Promise<PlanOptions['warmth']> {
  if (models.length === 0) return () => 0
  const warm = new Map<string, Set<string>>()
  const { rows } = await raw<{ agent_id: string; model: string }>`
    select agent_id, model from agent_history
    where team_id = ${teamId} and model in (select cast(value as text) from ${jsonTexts(Sql.engine(sql), [...new Set(models)])})
    `.execute(Sql.db(sql))
  for (const { agent_id, model } of rows) {
    const known = warm.get(agent_id)
    if (known === undefined) warm.set(agent_id, new Set([model]))
    else known.add(model)
  }
  return (agentId, needed) => needed.filter((model) => warm.get(agentId)?.has(model)).length
}

async function takePicks(sql: Sql, order: ClaimOrder, picks: readonly LanePick[]): Promise<ClaimedTask[]> {
  const rows: ClaimedRow[] = []
  for (const pick of picks) rows.push(...(await takeOldest(sql, order, pick)))
  const needs = new Map(picks.map(({ lane }) => [lane.requirementKey, lane.requirements]))
  return rows.flatMap((row) => {
    const requirements = needs.get(row.requirement_key)
    return requirements === undefined ? [] : [claimedTask(row, order.teamId, requirements)]
  })
}

const QUEUED: StoredEvent = { kind: 'status', status: 'queued' }

/** Takes the tasks and says so in their events. */
async function takeOldest(sql: Sql, order: ClaimOrder, pick: LanePick): Promise<ClaimedRow[]> {
  const { chosen, update } = claimingStatement(Sql.engine(sql), order, pick)
  if (chainsWrites(Sql.engine(sql))) {
    const { rows } = await raw<ClaimedRow>`
      with ${chosen}, taken as (${update}), said as (
        insert into task_event (task_id, number, data, at)
        select id, event_count, ${JSON.stringify(QUEUED)}, now from taken
      ) select * from taken`.execute(Sql.db(sql))
    return rows
  }
  const { rows } = await raw<ClaimedRow>`with ${chosen} ${update}`.execute(Sql.db(sql))
  const events = rows.map((row) => eventRow(row.id, row.event_count, QUEUED))
  if (rows[0] !== undefined) await insertEvents(Sql.engine(sql), events, rows[0].now).execute(Sql.db(sql))
  return rows
}

/**
 * The claiming statement. `materialized`, because a sub-select that locks must run once; the condition on the status is
 * there again for a row that changed between the two, which PostgreSQL then looks at anew: as an expression, or it might go
 * through the index of all tasks that wait.
 */
function claimingStatement(engine: Engine, order: ClaimOrder, { lane, agents }: LanePick) {
  const takers = agents.map((agent, at) => ({
    place: at + 1,
    agent_id: agent.agentId,
    labels: JSON.stringify([...agent.labels]),
    gpu: agent.gpuName,
  }))
  const chosen = raw`oldest as materialized (
      select id, created_at from task
      where team_id = ${order.teamId} and status in ('pending', 'waiting') and priority = ${lane.priority}
        and submitter_id = ${lane.submitterId} and requirement_key = ${lane.requirementKey}
        and refused_by = ${formatRefusedBy(lane.refusedBy)}
      order by created_at, id limit ${agents.length} ${skipLocked(engine)}
    ), numbered as (
      select id, row_number() over (order by created_at, id) as place from oldest
    ), chosen as (
      select numbered.id as task_id, cast(taker.value ->> 'agent_id' as text) as agent_id,
        cast(taker.value ->> 'labels' as text) as labels, cast(taker.value ->> 'gpu' as text) as gpu
      from numbered join ${jsonRows(engine, takers)} as taker
        on cast(taker.value ->> 'place' as bigint) = numbered.place
    )`
  const update = raw`update task set
      status = 'queued', attempt_fence = attempt_fence + 1, event_count = event_count + 1, acknowledged_sequence = 0,
      agent_id = chosen.agent_id, gateway_id = ${order.gatewayId}, agent_labels = chosen.labels, gpu_type = chosen.gpu,
      ack_until = ${clock(engine)} + ${order.ackMs}, lease_until = ${clock(engine)} + resume_window_ms, progress = null
    from chosen where task.id = chosen.task_id and task.status || '' in ('pending', 'waiting')
    returning task.id, task.agent_id, attempt_fence, workflow_id, workflow_version, workflow_slug, tool_type, parameters,
      task_timeout_ms, resume_window_ms, requirement_key, event_count, ${clock(engine)} as now`
  return { chosen, update }
}

interface ClaimedRow {
  id: string
  agent_id: string
  attempt_fence: number
  workflow_id: string
  workflow_version: number
  workflow_slug: string
  tool_type: string
  parameters: string
  task_timeout_ms: number
  resume_window_ms: number
  requirement_key: string
  event_count: number
  now: number
}

function claimedTask(row: ClaimedRow, teamId: string, requirements: Requirements): ClaimedTask {
  return {
    taskId: row.id,
    agentId: row.agent_id,
    fence: row.attempt_fence,
    teamId,
    workflowId: row.workflow_id,
    workflowVersion: row.workflow_version,
    workflowSlug: row.workflow_slug,
    toolType: parseToolType(row.tool_type),
    parameters: parseObject(row.parameters),
    taskTimeoutMs: row.task_timeout_ms,
    resumeWindowMs: row.resume_window_ms,
    requirements,
  }
}
