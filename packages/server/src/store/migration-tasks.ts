import { type CreateTableBuilder, type Kysely, sql } from 'kysely'

/** Statuses of tasks that wait for an agent, and of those that an agent has, as SQL: the conditions of partial indexes. */
export const WAITING = sql<boolean>`status in ('pending', 'waiting')`
export const HELD = sql<boolean>`status in ('queued', 'running')`

/** Workflows, tasks and their files. */
export async function tasks(db: Kysely<unknown>): Promise<void> {
  await workflowTables(db)
  await taskTables(db)
  await fileTables(db)
}

async function workflowTables({ schema }: Kysely<unknown>): Promise<void> {
  await table(schema.createTable('workflow').addColumn('id', 'text', (column) => column.primaryKey()))
    .texts('workflow_slug', 'tool_type', 'workflow_status')
    .numbers('version', 'created_at', 'updated_at')
    .mayBe('bigint', 'deleted_at')
    .ofTeam()
    .execute()
  await schema
    .createIndex('workflow_slug_once')
    .unique()
    .on('workflow')
    .columns(['team_id', 'workflow_slug'])
    .where(sql<boolean>`deleted_at is null`)
    .execute()
  await table(schema.createTable('workflow_snapshot'))
    .texts('display_name', 'definition', 'created_by_user_id')
    .numbers('version', 'created_at')
    .of('workflow_id', 'workflow.id')
    .execute((made) => made.addPrimaryKeyConstraint('workflow_snapshot_pk', ['workflow_id', 'version']))
}

async function taskTables({ schema }: Kysely<unknown>): Promise<void> {
  await table(schema.createTable('task').addColumn('id', 'text', (column) => column.primaryKey()))
    .texts('workflow_slug', 'tool_type', 'status', 'submitter_id', 'creation_source', 'parameters')
    .texts('requirement_key', 'refused_by', 'models', 'agent_labels')
    .mayBe('text', 'dispatch_target', 'target_pool', 'submitter_region', 'error', 'output')
    .mayBe('text', 'agent_id', 'gateway_id', 'gpu_type', 'progress')
    .numbers('workflow_version', 'priority', 'created_at', 'retry_count', 'max_retries', 'task_timeout_ms')
    .numbers('resume_window_ms', 'attempt_fence', 'acknowledged_sequence', 'event_count')
    .mayBe('bigint', 'started_at', 'completed_at', 'ack_until', 'lease_until', 'deadline_at', 'forgotten_at')
    .of('workflow_id', 'workflow.id')
    .ofTeam()
    .execute()
  await schema.createIndex('task_team').on('task').columns(['team_id', 'id']).execute()
  await schema.createIndex('task_workflow').on('task').column('workflow_id').execute()
  // The lanes of model/fairness.ts: to step from one to the next, and to take the oldest of one.
  await schema
    .createIndex('task_lane')
    .on('task')
    .columns(['team_id', 'priority', 'submitter_id', 'requirement_key', 'refused_by', 'created_at', 'id'])
    .where(WAITING)
    .execute()
  await schema
    .createIndex('task_pending')
    .on('task')
    .columns(['team_id', 'created_at'])
    .where(sql<boolean>`status = 'pending'`)
    .execute()
  await schema
    .createIndex('task_retention')
    .on('task')
    .column('completed_at')
    .where(sql<boolean>`completed_at is not null and forgotten_at is null`)
    .execute()
  await schema.createIndex('task_held').on('task').columns(['team_id', 'submitter_id']).where(HELD).execute()

  await schema
    .createTable('task_requirement')
    .addColumn('requirement_key', 'text', (column) => column.primaryKey())
    .addColumn('requirements', 'text', (column) => column.notNull())
    .execute()
  await table(schema.createTable('task_refusal'))
    .texts('agent_id', 'reason', 'message')
    .numbers('refused_at')
    .of('task_id', 'task.id')
    .execute((made) => made.addPrimaryKeyConstraint('task_refusal_pk', ['task_id', 'agent_id']))
  await schema.createIndex('task_refusal_agent').on('task_refusal').column('agent_id').execute()
  await table(schema.createTable('task_input'))
    .texts('file_key')
    .of('task_id', 'task.id')
    .execute((made) => made.addPrimaryKeyConstraint('task_input_pk', ['file_key', 'task_id']))
  await schema.createIndex('task_input_task').on('task_input').column('task_id').execute()
  await table(schema.createTable('task_event'))
    .texts('data')
    .numbers('number', 'at')
    .of('task_id', 'task.id')
    .execute((made) => made.addPrimaryKeyConstraint('task_event_pk', ['task_id', 'number']))
  await table(schema.createTable('idempotency_key'))
    .texts('submitter_id', 'idempotency_key', 'body_hash', 'task_id')
    .numbers('expires_at')
    .ofTeam()
    .execute((made) =>
      made.addPrimaryKeyConstraint('idempotency_key_pk', ['team_id', 'submitter_id', 'idempotency_key']),
    )
  await schema.createIndex('idempotency_key_expiry').on('idempotency_key').column('expires_at').execute()
  await table(schema.createTable('agent_history'))
    .texts('agent_id', 'model')
    .numbers('used_at')
    .ofTeam()
    .execute((made) => made.addPrimaryKeyConstraint('agent_history_pk', ['team_id', 'agent_id', 'model']))
}

async function fileTables({ schema }: Kysely<unknown>): Promise<void> {
  await table(schema.createTable('input_file').addColumn('file_key', 'text', (column) => column.primaryKey()))
    .texts('user_id', 'file_name', 'content_type')
    .mayBe('text', 'sha256', 'object_key')
    .numbers('size', 'created_at', 'expires_at')
    .mayBe('bigint', 'uploaded_at')
    .ofTeam()
    .execute()
  await schema.createIndex('input_file_expiry').on('input_file').column('expires_at').execute()
  await schema.createIndex('input_file_object').on('input_file').column('object_key').execute()
  await table(schema.createTable('artifact').addColumn('id', 'text', (column) => column.primaryKey()))
    .texts('artifact_key', 'file_name', 'content_type', 'sha256', 'object_key')
    .numbers('fence', 'size', 'created_at')
    .of('task_id', 'task.id')
    .ofTeam()
    .execute((made) => made.addUniqueConstraint('artifact_once', ['task_id', 'fence', 'artifact_key']))
  await schema.createIndex('artifact_age').on('artifact').column('created_at').execute()
  await schema.createIndex('artifact_object').on('artifact').column('object_key').execute()
}

type Building = CreateTableBuilder<string, string>

/** Columns by kind, so that a table of thirty is a few lines. */
function table(made: CreateTableBuilder<string, never> | Building) {
  let builder = made as Building
  const columns = {
    texts: (...names: string[]) => add('text', names, true),
    numbers: (...names: string[]) => add('bigint', names, true),
    mayBe: (type: 'text' | 'bigint', ...names: string[]) => add(type, names, false),
    /** A row that goes with the one it belongs to. */
    of(name: string, target: string) {
      builder = builder.addColumn(name, 'text', (column) => column.notNull().references(target).onDelete('cascade'))
      return columns
    },
    ofTeam: () => columns.of('team_id', 'team.id'),
    async execute(finish: (made: Building) => Building = (same) => same) {
      await finish(builder).execute()
    },
  }
  function add(type: 'text' | 'bigint', names: readonly string[], isRequired: boolean) {
    for (const name of names) {
      builder = builder.addColumn(name, type, (column) => (isRequired ? column.notNull() : column))
    }
    return columns
  }
  return columns
}
