import type { TaskStatus } from '@cyberun/api'
import { sql as raw } from 'kysely'
import type { StoredEvent } from '../model/attempt.ts'
import { jsonTexts } from './dialect.ts'
import { Sql } from './handle.ts'
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

/** Forgets what happened to tasks that ended before; readers are told of the gap. At most `limit` tasks at once. */
export async function dropOldEvents(
  sql: Sql,
  { endedBefore, limit }: { endedBefore: number; limit: number },
): Promise<number> {
  const { numAffectedRows } = await raw`
    delete from task_event where task_id in (
      select id from task where completed_at < ${endedBefore}
        and exists (select 1 from task_event where task_event.task_id = task.id)
      order by completed_at limit ${limit}
    )`.execute(Sql.db(sql))
  return Number(numAffectedRows ?? 0n)
}

async function countEvents(sql: Sql, taskId: string): Promise<number> {
  const task = await Sql.db(sql).selectFrom('task').select('event_count').where('id', '=', taskId).executeTakeFirst()
  return task?.event_count ?? 0
}

function parseEvent(data: string): StoredEvent {
  return JSON.parse(data) as StoredEvent
}
