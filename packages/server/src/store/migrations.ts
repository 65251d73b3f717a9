import { ApiError } from '@cyberun/api'
import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { exposedRuns } from './migration-exposed-runs.ts'
import { sharedTunnels } from './migration-shared-tunnels.ts'
import { taskLists } from './migration-task-lists.ts'
import { tasks } from './migration-tasks.ts'
import { StoreOpenError } from './store-error.ts'

const MIGRATION_TABLE = 'schema_migration'

/**
 * Every step of the schema, oldest first. Steps only go forward and are never edited once released: a change is a new
 * step. Only what SQLite and PostgreSQL 15 both accept.
 */
const MIGRATIONS: Record<string, Migration> = {
  '0001_first_tunnel': { up: firstTunnel },
  '0002_tasks': { up: tasks },
  '0003_shared_tunnels': { up: sharedTunnels },
  '0004_exposed_runs': { up: exposedRuns },
  '0005_task_lists': { up: taskLists },
}

/**
 * Brings the schema up to date. Throws `StoreOpenError` when the database was written by a newer release: its data may
 * mean something this release does not know.
 */
export async function migrate(db: Kysely<unknown>): Promise<void> {
  const unknown = (await appliedMigrations(db)).filter((name) => !(name in MIGRATIONS))
  if (unknown.length > 0) {
    throw new StoreOpenError(
      `the database was written by a newer release (schema ${unknown.join(', ')}); start that release, or restore a backup`,
    )
  }
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(MIGRATIONS) },
    migrationTableName: MIGRATION_TABLE,
    migrationLockTableName: 'schema_migration_lock',
  })
  const { error } = await migrator.migrateToLatest()
  if (error === undefined) return
  // What cannot be used now says why in its cause: that the disk is full, say.
  const told = error instanceof ApiError && error.cause instanceof Error ? error.cause : error
  const reason = told instanceof Error ? told.message : String(told)
  throw new StoreOpenError(`the database schema could not be updated, and is as it was: ${reason}`, { cause: error })
}

async function appliedMigrations(db: Kysely<unknown>): Promise<string[]> {
  const tables = await db.introspection.getTables()
  if (!tables.some((table) => table.name === MIGRATION_TABLE)) return []
  const known = db as Kysely<{ [MIGRATION_TABLE]: { name: string } }>
  return (await known.selectFrom(MIGRATION_TABLE).select('name').execute()).map((row) => row.name)
}

async function firstTunnel(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('server_state')
    .addColumn('state_key', 'text', (column) => column.primaryKey())
    .addColumn('state_value', 'text', (column) => column.notNull())
    .execute()

  await schema
    .createTable('user_account')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('email_address', 'text', (column) => column.notNull().unique())
    .addColumn('first_name', 'text', (column) => column.notNull())
    .addColumn('last_name', 'text', (column) => column.notNull())
    .addColumn('display_name', 'text', (column) => column.notNull())
    .addColumn('password_hash', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .execute()

  await schema
    .createTable('team')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('display_name', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .execute()

  await schema
    .createTable('membership')
    .addColumn('team_id', 'text', (column) => column.notNull().references('team.id').onDelete('cascade'))
    .addColumn('user_id', 'text', (column) => column.notNull().references('user_account.id').onDelete('cascade'))
    .addColumn('role', 'text', (column) => column.notNull())
    .addColumn('joined_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('membership_pk', ['team_id', 'user_id'])
    .execute()
  await schema.createIndex('membership_user').on('membership').column('user_id').execute()
  await schema
    .createIndex('membership_one_owner')
    .unique()
    .on('membership')
    .column('team_id')
    .where(sql<boolean>`role = 'owner'`)
    .execute()

  await schema
    .createTable('invitation')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull().references('team.id').onDelete('cascade'))
    .addColumn('email_address', 'text', (column) => column.notNull())
    .addColumn('invitation_role', 'text', (column) => column.notNull())
    .addColumn('token_hash', 'text', (column) => column.notNull().unique())
    .addColumn('invited_by_user_id', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addUniqueConstraint('invitation_once', ['team_id', 'email_address'])
    .execute()

  await schema
    .createTable('credential')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull().references('team.id').onDelete('cascade'))
    .addColumn('user_id', 'text', (column) => column.notNull().references('user_account.id').onDelete('cascade'))
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('display_name', 'text', (column) => column.notNull())
    .addColumn('key_prefix', 'text', (column) => column.notNull())
    .addColumn('key_hash', 'text', (column) => column.notNull().unique())
    .addColumn('companion_id', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('last_used_at', 'bigint')
    .addColumn('expires_at', 'bigint')
    .addColumn('revoked_at', 'bigint')
    .execute()
  await schema.createIndex('credential_team').on('credential').columns(['team_id', 'id']).execute()
  await schema.createIndex('credential_expiry').on('credential').column('expires_at').execute()

  await schema
    .createTable('pairing')
    .addColumn('device_code_hash', 'text', (column) => column.primaryKey())
    .addColumn('user_code', 'text', (column) => column.notNull().unique())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addColumn('approved_by_user_id', 'text', (column) => column.references('user_account.id').onDelete('cascade'))
    .addColumn('approved_team_id', 'text', (column) => column.references('team.id').onDelete('cascade'))
    .addColumn('device_name', 'text')
    .execute()

  await schema
    .createTable('refresh_family')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('user_id', 'text', (column) => column.notNull().references('user_account.id').onDelete('cascade'))
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addColumn('ended_at', 'bigint')
    .execute()
  await schema.createIndex('refresh_family_user').on('refresh_family').column('user_id').execute()
  await schema.createIndex('refresh_family_expiry').on('refresh_family').column('expires_at').execute()

  await schema
    .createTable('refresh_token')
    .addColumn('token_hash', 'text', (column) => column.primaryKey())
    .addColumn('family_id', 'text', (column) => column.notNull().references('refresh_family.id').onDelete('cascade'))
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('used_at', 'bigint')
    .execute()
  await schema.createIndex('refresh_token_family').on('refresh_token').column('family_id').execute()

  await schema
    .createTable('signing_key')
    .addColumn('kid', 'text', (column) => column.primaryKey())
    .addColumn('public_jwk', 'text', (column) => column.notNull())
    .addColumn('private_sealed', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('retired_at', 'bigint')
    .execute()

  await schema
    .createTable('agent')
    .addColumn('team_id', 'text', (column) => column.notNull().references('team.id').onDelete('cascade'))
    .addColumn('agent_id', 'text', (column) => column.notNull())
    .addColumn('machine_key', 'text', (column) => column.notNull())
    .addColumn('generation', 'bigint', (column) => column.notNull())
    .addColumn('gateway_id', 'text', (column) => column.notNull())
    .addColumn('credential_id', 'text', (column) => column.notNull())
    .addColumn('agent_version', 'text', (column) => column.notNull())
    .addColumn('connected_at', 'bigint', (column) => column.notNull())
    .addColumn('last_heartbeat_at', 'bigint', (column) => column.notNull())
    .addColumn('tasks_completed', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('agent_pk', ['team_id', 'agent_id'])
    .execute()

  await schema
    .createTable('tunnel')
    .addColumn('session_id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull().references('team.id').onDelete('cascade'))
    .addColumn('agent_id', 'text', (column) => column.notNull())
    .addColumn('target_port', 'integer', (column) => column.notNull())
    .addColumn('tunnel_protocol', 'text', (column) => column.notNull())
    .addColumn('token_hash', 'text', (column) => column.notNull().unique())
    .addColumn('token_sealed', 'text', (column) => column.notNull())
    .addColumn('admin_token_hash', 'text', (column) => column.notNull())
    .addColumn('opened_by_user_id', 'text', (column) => column.notNull())
    .addColumn('opened_by_credential_id', 'text')
    .addColumn('opened_by_family_id', 'text')
    .addColumn('task_id', 'text')
    .addColumn('opened_at', 'bigint', (column) => column.notNull())
    .addColumn('last_activity_at', 'bigint', (column) => column.notNull())
    .addColumn('idle_timeout_ms', 'bigint', (column) => column.notNull())
    .addColumn('bytes_in', 'bigint', (column) => column.notNull())
    .addColumn('bytes_out', 'bigint', (column) => column.notNull())
    .addColumn('closed_at', 'bigint')
    .execute()
  await schema.createIndex('tunnel_agent').on('tunnel').columns(['team_id', 'agent_id']).execute()
  await schema
    .createIndex('tunnel_open')
    .on('tunnel')
    .column('session_id')
    .where(sql<boolean>`closed_at is null`)
    .execute()

  await schema
    .createTable('audit_record')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('team_id', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addColumn('detail', 'text', (column) => column.notNull())
    .execute()
  await schema.createIndex('audit_record_team').on('audit_record').columns(['team_id', 'id']).execute()
}
