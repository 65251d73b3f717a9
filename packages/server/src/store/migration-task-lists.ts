import { type Kysely, sql } from 'kysely'

/** Whoever looks for what went wrong should not wait for a look at every task. Written only when something does. */
export async function taskLists({ schema }: Kysely<unknown>): Promise<void> {
  await schema
    .createIndex('task_ended_badly')
    .on('task')
    .columns(['team_id', 'status', 'id'])
    .where(sql<boolean>`status in ('failed', 'cancelled')`)
    .execute()
}
