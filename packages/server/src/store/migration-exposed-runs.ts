import type { Kysely } from 'kysely'

/** Tasks whose runs have a service that a tunnel leads to. */
export async function exposedRuns(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('task_exposure')
    .addColumn('task_id', 'text', (column) => column.primaryKey().references('task.id').onDelete('cascade'))
    .addColumn('tunnel_protocol', 'text', (column) => column.notNull())
    .addColumn('credential_id', 'text')
    .addColumn('family_id', 'text')
    .addColumn('opened_fence', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute()
  await db.schema.createIndex('tunnel_task').on('tunnel').column('task_id').execute()
}
