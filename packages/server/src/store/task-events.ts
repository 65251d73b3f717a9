import type { TaskStatus } from '@cyberun/api'
import { sql as raw } from 'kysely'
import type { StoredEvent } from '../model/attempt.ts'
import { clock, jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
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

/** Forgets what happened to the tasks that ended longest ago, before `endedBefore`: at most `limit`. Returns how many. */
export async function dropOldEvents(
  store: Store,
  { endedBefore, limit }: { endedBefore: number; limit: number },
): Promise<number> {
  return store.transaction(async (sql) => {
    const { rows } = await raw<{ id: string }>`
      select id from task where completed_at < ${endedBefore} and completed_at is not null and forgotten_at is null
      order by completed_at limit ${limit}`.execute(Sql.db(sql))
    if (rows.length === 0) return 0
    const ids = raw`(select cast(value as text) from ${jsonTexts(
      Sql.engine(sql),
      rows.map(({ id }) => id),
    )})`
    await raw`delete from task_event where task_id in ${ids}`.execute(Sql.db(sql))
    await raw`update task set forgotten_at = ${clock(Sql.engine(sql))} where id in ${ids}`.execute(Sql.db(sql))
    return rows.length
  })
}

async function countEvents(sql: Sql, taskId: string): Promise<number> {
  const task = await Sql.db(sql).selectFrom('task').select('event_count').where('id', '=', taskId).executeTakeFirst()
  return task?.event_count ?? 0
}

function parseEvent(data: string): StoredEvent {
  return JSON.parse(data) as StoredEvent
}
