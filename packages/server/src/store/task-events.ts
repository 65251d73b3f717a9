import type { TaskStatus } from '@cyberun/api'
import { type RawBuilder, sql as raw, type SelectQueryBuilder } from 'kysely'
import type { StoredEvent } from '../model/attempt.ts'
import { clock, jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
import type { Tables } from './schema.ts'
import type { Store } from './store.ts'
import { parseStatus } from './task-rows.ts'

export interface RecordedEvent {
  /** From 1, without holes. */
  number: number
  /** Milliseconds since 1970. */
  at: number
  event: StoredEvent
}

export interface EventPage {
  events: RecordedEvent[]
  /** Asked for, but past retention: their first and last number. */
  gap?: { from: number; to: number }
}

/** What happened to a task after the event with the number `after`, oldest first. */
export async function readEvents(sql: Sql, taskId: string, after: number, limit: number): Promise<EventPage> {
  const events = await eventsAfter(sql, taskId, after, limit)
  const [first] = events
  if (first !== undefined) return withGap(events, after, first.number - 1)
  const count = await countEvents(sql, taskId)
  if (count <= after) return { events }
  // Some are missing, or came after the first look: the second sees those.
  const late = await eventsAfter(sql, taskId, after, limit)
  return withGap(late, after, (late[0]?.number ?? count + 1) - 1)
}

function withGap(events: RecordedEvent[], after: number, lastMissing: number): EventPage {
  return lastMissing > after ? { events, gap: { from: after + 1, to: lastMissing } } : { events }
}

async function eventsAfter(sql: Sql, taskId: string, after: number, limit: number): Promise<RecordedEvent[]> {
  const rows = await Sql.db(sql)
    .selectFrom('task_event')
    .select(['number', 'data', 'at'])
    .where('task_id', '=', taskId)
    .where('number', '>', after)
    .orderBy('number')
    .limit(limit)
    .execute()
  return rows.map((row) => ({ number: row.number, at: row.at, event: parseEvent(row.data) }))
}

/** How far each of these tasks is: one statement for all. A task that is gone is left out. */
export async function eventCounts(
  sql: Sql,
  taskIds: readonly string[],
): Promise<Map<string, { eventCount: number; status: TaskStatus }>> {
  if (taskIds.length === 0) return new Map()
  const { rows } = await raw<{ id: string; event_count: number; status: string }>`
    select id, event_count, status from task
    where id in (select cast(value as text) from ${jsonTexts(Sql.engine(sql), taskIds)})`.execute(Sql.db(sql))
  return new Map(rows.map((row) => [row.id, { eventCount: row.event_count, status: parseStatus(row.status) }]))
}

/** What one statement may take away: a tenth of a second on either engine, so that other writers get their turn. */
const TASKS_AT_ONCE = 1_000
const EVENTS_AT_ONCE = 20_000

/**
 * Of the tasks of a query, the ids of as many as one statement may take away with their events; at least one, if there
 * is any. The log of one run may be as long as those of a thousand others.
 */
export async function someTasks(
  sql: Sql,
  query: SelectQueryBuilder<Tables, 'task', unknown>,
): Promise<{ count: number; ids: RawBuilder<unknown> }> {
  const tasks = await query.select(['id', 'event_count']).limit(TASKS_AT_ONCE).execute()
  let events = 0
  const some = tasks.filter((task, at) => {
    events += task.event_count
    return at === 0 || events <= EVENTS_AT_ONCE
  })
  const texts = some.map(({ id }) => id)
  return { count: some.length, ids: raw`(select cast(value as text) from ${jsonTexts(Sql.engine(sql), texts)})` }
}

/** Forgets what happened to the tasks that ended longest ago, before `endedBefore`: some of them. Returns how many. */
export async function dropOldEvents(store: Store, endedBefore: number): Promise<number> {
  return store.transaction(async (sql) => {
    const db = Sql.db(sql)
    const ended = db.selectFrom('task').where('completed_at', 'is not', null).where('completed_at', '<', endedBefore)
    const { count, ids } = await someTasks(sql, ended.where('forgotten_at', 'is', null).orderBy('completed_at'))
    if (count === 0) return 0
    await raw`delete from task_event where task_id in ${ids}`.execute(db)
    await raw`update task set forgotten_at = ${clock(Sql.engine(sql))} where id in ${ids}`.execute(db)
    return count
  })
}

async function countEvents(sql: Sql, taskId: string): Promise<number> {
  const task = await Sql.db(sql).selectFrom('task').select('event_count').where('id', '=', taskId).executeTakeFirst()
  return task?.event_count ?? 0
}

function parseEvent(data: string): StoredEvent {
  return JSON.parse(data) as StoredEvent
}
