import type { PageQuery, TaskStatus, ToolType } from '@cyberun/api'
import type { AttemptProgress, JsonObject } from '@cyberun/protocol'
import { type ExpressionBuilder, type RawBuilder, sql as raw } from 'kysely'
import type { ChangeAnswer, HeldAttempt } from '../model/attempt.ts'
import { Sql } from './handle.ts'
import { WAITING_TASK } from './lanes.ts'
import { pageBounds } from './page.ts'
import type { Tables } from './schema.ts'
import type { Store } from './store.ts'
import { applyChange } from './task-changes.ts'
import { someTasks } from './task-events.ts'
import { parseObject, parseOptional, parseStatus, parseTexts, parseToolType } from './task-rows.ts'

/** A task as it is read. Times are milliseconds since 1970. */
export interface TaskRecord {
  id: string
  teamId: string
  workflowId: string
  workflowSlug: string
  workflowVersion: number
  /** False once the workflow is deleted. */
  hasWorkflow: boolean
  toolType: ToolType
  status: TaskStatus
  priority: number
  submitterId: string
  creationSource: 'jwt' | 'api_key'
  parameters: JsonObject
  dispatchTarget: string | null
  targetPool: string | null
  createdAt: number
  startedAt: number | null
  completedAt: number | null
  error: string | null
  output: JsonObject | null
  retryCount: number
  maxRetries: number
  fence: number
  agentId: string | null
  gatewayId: string | null
  agentLabels: string[]
  gpuType: string | null
  /** The latest of the current attempt. */
  progress: AttemptProgress | null
  /** The number of its latest event. */
  eventCount: number
}

export interface TaskFilter {
  status?: TaskStatus | undefined
  workflowId?: string | undefined
  agentId?: string | undefined
}

export async function getTask(sql: Sql, teamId: string, taskId: string): Promise<TaskRecord | undefined> {
  const row = await selectTasks(sql, teamId).where('task.id', '=', taskId).executeTakeFirst()
  return row && recordOf(row)
}

/** Newest first. */
export async function listTasks(sql: Sql, teamId: string, filter: TaskFilter, page: PageQuery): Promise<TaskRecord[]> {
  return (await listQuery(sql, teamId, filter, page).execute()).map(recordOf)
}

export async function countTasks(sql: Sql, teamId: string, filter: TaskFilter): Promise<number> {
  return (await countQuery(sql, teamId, filter).executeTakeFirstOrThrow()).count
}

export function listQuery(sql: Sql, teamId: string, filter: TaskFilter, page: PageQuery) {
  const { limit, offset } = pageBounds(page)
  return selectTasks(sql, teamId)
    .where(matching(filter))
    .orderBy(isUnderWay(filter.status) ? UNINDEXED_ID : 'task.id', 'desc')
    .limit(limit)
    .offset(offset)
}

export function countQuery(sql: Sql, teamId: string, filter: TaskFilter) {
  return Sql.db(sql)
    .selectFrom('task')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('task.team_id', '=', teamId)
    .where(matching(filter))
}

/**
 * Ends a task for its readers at once; `ended` is the attempt whose agent is to be told. Answers `nothing` for one that
 * has ended, and undefined when the team has no such task.
 */
export async function cancelTask(store: Store, teamId: string, taskId: string): Promise<ChangeAnswer | undefined> {
  const known = await Sql.db(store)
    .selectFrom('task')
    .select('id')
    .where('team_id', '=', teamId)
    .where('id', '=', taskId)
    .executeTakeFirst()
  return known && applyChange(store, { taskId, change: { kind: 'cancel' } })
}

/** A team may have more tasks under way than changes may wait for the database. */
const CANCELLED_AT_ONCE = 1_000

/** Cancels everything a team has under way. Returns the attempts whose agents are to be told. */
export async function cancelTeamTasks(store: Store, teamId: string): Promise<HeldAttempt[]> {
  const told: HeldAttempt[] = []
  for (let last: string | undefined = ''; last !== undefined; ) {
    const rows = await Sql.db(store)
      .selectFrom('task')
      .select('id')
      .where('team_id', '=', teamId)
      .where('completed_at', 'is', null)
      .where('id', '>', last)
      .orderBy('id')
      .limit(CANCELLED_AT_ONCE)
      .execute()
    const answers = await Promise.all(
      rows.map(({ id }) => applyChange(store, { taskId: id, change: { kind: 'cancel' } })),
    )
    for (const answer of answers) if (answer.kind === 'stored' && answer.ended) told.push(answer.ended)
    last = rows.at(-1)?.id
  }
  return told
}

/** Takes the tasks of a team away, some at a time: all of them may take longer than a statement may. */
export async function deleteTeamTasks(store: Store, teamId: string): Promise<void> {
  const db = Sql.db(store)
  for (;;) {
    const { count, ids } = await someTasks(store, db.selectFrom('task').where('team_id', '=', teamId))
    if (count === 0) return
    await raw`delete from task where id in ${ids}`.execute(db)
  }
}

/** The priority is always in this range. Said, it makes `task_lane` look better to SQLite than the index of the team. */
const WAITS = raw<boolean>`${WAITING_TASK} and task.priority > -1000`
const HELD_TASK = raw<boolean>`task.status in ('queued', 'running')`
const ENDED_BADLY = raw<boolean>`task.status in ('failed', 'cancelled')`
/**
 * The tasks of these states have indexes of their own, which SQLite only takes for a query that repeats their condition.
 * Completed tasks are most of them: those are read along the index of the team.
 */
const INDEXED: Readonly<Record<Exclude<TaskStatus, 'completed'>, RawBuilder<boolean>>> = {
  pending: WAITS,
  waiting: WAITS,
  queued: HELD_TASK,
  running: HELD_TASK,
  failed: ENDED_BADLY,
  cancelled: ENDED_BADLY,
}

/**
 * For the few tasks that wait or run, which are to be sorted. By the id itself both engines would read all of the team's
 * tasks along the index of ids until a page is full, and mostly it never is.
 */
const UNINDEXED_ID = raw<string>`task.id || ''`

function isUnderWay(status: TaskStatus | undefined): boolean {
  return status === 'pending' || status === 'waiting' || status === 'queued' || status === 'running'
}

function matching({ status, workflowId, agentId }: TaskFilter) {
  return (eb: ExpressionBuilder<Tables, 'task'>) =>
    eb.and([
      ...(status === undefined ? [] : [eb('task.status', '=', status)]),
      ...(status === undefined || status === 'completed' ? [] : [INDEXED[status]]),
      ...(workflowId === undefined ? [] : [eb('task.workflow_id', '=', workflowId)]),
      ...(agentId === undefined ? [] : [eb('task.agent_id', '=', agentId)]),
    ])
}

function selectTasks(sql: Sql, teamId: string) {
  return Sql.db(sql)
    .selectFrom('task')
    .innerJoin('workflow', 'workflow.id', 'task.workflow_id')
    .selectAll('task')
    .select('workflow.deleted_at')
    .where('task.team_id', '=', teamId)
}

type TaskRow = Awaited<ReturnType<ReturnType<typeof selectTasks>['execute']>>[number]

function recordOf(row: TaskRow): TaskRecord {
  return {
    id: row.id,
    teamId: row.team_id,
    workflowId: row.workflow_id,
    workflowSlug: row.workflow_slug,
    workflowVersion: row.workflow_version,
    hasWorkflow: row.deleted_at === null,
    toolType: parseToolType(row.tool_type),
    status: parseStatus(row.status),
    priority: row.priority,
    submitterId: row.submitter_id,
    creationSource: row.creation_source === 'jwt' ? 'jwt' : 'api_key',
    parameters: parseObject(row.parameters),
    dispatchTarget: row.dispatch_target,
    targetPool: row.target_pool,
    createdAt: row.created_at,
    startedAt: row.started_at,
    completedAt: row.completed_at,
    error: row.error,
    output: parseOptional(row.output),
    retryCount: row.retry_count,
    maxRetries: row.max_retries,
    fence: row.attempt_fence,
    agentId: row.agent_id,
    gatewayId: row.gateway_id,
    agentLabels: parseTexts(row.agent_labels),
    gpuType: row.gpu_type,
    progress: parseProgress(row.progress),
    eventCount: row.event_count,
  }
}

function parseProgress(json: string | null): AttemptProgress | null {
  return json === null ? null : (JSON.parse(json) as AttemptProgress)
}
