import { type Kysely, sql } from 'kysely'

/** What a tunnel needs to know of its service and its doors. */
export async function sharedTunnels(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  const texts = { profile: 'generic', host_policy: 'rewrite', path_mode: 'strip', label: '' }
  for (const [name, value] of Object.entries(texts)) {
    await schema
      .alterTable('tunnel')
      .addColumn(name, 'text', (column) => column.notNull().defaultTo(value))
      .execute()
  }
  await schema.alterTable('tunnel').addColumn('edge_port', 'integer').execute()
  // Until now a tunnel's host was named after its session: those that are open keep their addresses.
  await sql`update tunnel set label = replace(session_id, '-', '')`.execute(db)
  // Closed ones stay in the table, so this also says that a host name is never given twice.
  await schema.createIndex('tunnel_label').unique().on('tunnel').column('label').execute()
}
