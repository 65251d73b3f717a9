import type { ImportWorkflowBody, PageQuery, ToolType, WorkflowView } from '@cyberun/api'
import { lockRows } from './dialect.ts'
import { Sql } from './handle.ts'
import { pageBounds } from './page.ts'
import { sharedRead } from './shared-read.ts'
import type { Store } from './store.ts'

export type WorkflowStatus = WorkflowView['workflow_status']

/** Everything of a workflow that is kept in versions. */
export type WorkflowDefinition = Omit<
  ImportWorkflowBody,
  'workflow_slug' | 'workflow_status' | 'display_name' | 'expose'
> & {
  display_name: string
  /** Versions that were saved before there was one lack it. */
  expose?: ImportWorkflowBody['expose']
}

/** A workflow as of one of its versions. Times are milliseconds since 1970. */
export interface WorkflowRecord {
  id: string
  teamId: string
  slug: string
  status: WorkflowStatus
  version: number
  definition: WorkflowDefinition
  createdAt: number
  updatedAt: number
}

export interface SnapshotRecord {
  version: number
  displayName: string
  createdAt: number
  createdByUserId: string
}

export interface WorkflowImport {
  /** The id it gets when the team has no workflow of this slug. */
  id: string
  teamId: string
  slug: string
  definition: WorkflowDefinition
  status: WorkflowStatus
  userId: string
  at: number
}

export interface WorkflowChange {
  slug?: string | undefined
  status?: WorkflowStatus | undefined
  /** A new version; left out, the version stays. */
  definition?: WorkflowDefinition | undefined
  userId: string
  at: number
}

export interface WorkflowFilter {
  status?: WorkflowStatus | undefined
  toolType?: ToolType | undefined
}

/** Makes a workflow, or the next version of the one that has this slug in the team. */
export async function importWorkflow(
  store: Store,
  { id, teamId, slug, definition, status, userId, at }: WorkflowImport,
): Promise<{ id: string; version: number; isNew: boolean }> {
  return store.transaction(async (sql) => {
    const inserted = await Sql.db(sql)
      .insertInto('workflow')
      .values({
        id,
        team_id: teamId,
        workflow_slug: slug,
        tool_type: definition.tool_type,
        workflow_status: status,
        version: 1,
        created_at: at,
        updated_at: at,
        deleted_at: null,
      })
      .onConflict((conflict) =>
        conflict.columns(['team_id', 'workflow_slug']).where('deleted_at', 'is', null).doNothing(),
      )
      .executeTakeFirst()
    if (inserted.numInsertedOrUpdatedRows === 1n) {
      await insertSnapshot(sql, { workflowId: id, version: 1, definition, userId, at })
      return { id, version: 1, isNew: true }
    }
    const known = await lockWorkflow(sql, teamId, { slug })
    if (known === undefined) throw new Error('a workflow was deleted while it was imported')
    const version = await saveVersion(sql, known, { status, definition, userId, at })
    return { id: known.id, version, isNew: false }
  })
}

/** Changes a workflow; with a definition, by a new version. `revise` makes it of the latest, which nobody changes meanwhile. */
export async function saveWorkflow(
  store: Store,
  teamId: string,
  id: string,
  { revise, ...change }: WorkflowChange & { revise?: (latest: WorkflowDefinition) => WorkflowDefinition },
): Promise<{ kind: 'saved'; version: number } | { kind: 'unknown' } | { kind: 'slug_taken' }> {
  return store.transaction(async (sql) => {
    const known = await lockWorkflow(sql, teamId, { id })
    if (known === undefined) return { kind: 'unknown' }
    if (change.slug !== undefined && change.slug !== known.workflow_slug) {
      if ((await lockWorkflow(sql, teamId, { slug: change.slug })) !== undefined) return { kind: 'slug_taken' }
    }
    const latest = revise && (await getSnapshot(sql, id, known.version))
    const definition = revise && latest ? revise(latest) : change.definition
    return { kind: 'saved', version: await saveVersion(sql, known, { ...change, definition }) }
  })
}

/** The latest version of a workflow. */
export async function getWorkflow(sql: Sql, teamId: string, id: string): Promise<WorkflowRecord | undefined> {
  const row = await selectWorkflows(sql, teamId).where('workflow.id', '=', id).executeTakeFirst()
  return row && recordOf(row)
}

/** A version of the workflow that has this slug now; by default the latest. */
export const getWorkflowBySlug = sharedRead(
  async (sql: Sql, teamId: string, slug: string, version?: number): Promise<WorkflowRecord | undefined> => {
    const row = await selectWorkflows(sql, teamId, version).where('workflow_slug', '=', slug).executeTakeFirst()
    return row && recordOf(row)
  },
)

/** By slug. */
export async function listWorkflows(
  sql: Sql,
  teamId: string,
  filter: WorkflowFilter,
  page: PageQuery,
): Promise<WorkflowRecord[]> {
  const { limit, offset } = pageBounds(page)
  const rows = await selectWorkflows(sql, teamId)
    .$if(filter.status !== undefined, (query) => query.where('workflow_status', '=', filter.status ?? ''))
    .$if(filter.toolType !== undefined, (query) => query.where('tool_type', '=', filter.toolType ?? ''))
    .orderBy('workflow_slug')
    .limit(limit)
    .offset(offset)
    .execute()
  return rows.map(recordOf)
}

export async function countWorkflows(sql: Sql, teamId: string, filter: WorkflowFilter): Promise<number> {
  const { count } = await Sql.db(sql)
    .selectFrom('workflow')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('team_id', '=', teamId)
    .where('deleted_at', 'is', null)
    .$if(filter.status !== undefined, (query) => query.where('workflow_status', '=', filter.status ?? ''))
    .$if(filter.toolType !== undefined, (query) => query.where('tool_type', '=', filter.toolType ?? ''))
    .executeTakeFirstOrThrow()
  return count
}

/** Takes a workflow away. Its snapshots stay: what was submitted with them goes on. False when there is none. */
export async function deleteWorkflow(sql: Sql, teamId: string, id: string, at: number): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('workflow')
    .set({ deleted_at: at })
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** What a version says, also of a workflow that was deleted since. It never changes. */
export async function getSnapshot(
  sql: Sql,
  workflowId: string,
  version: number,
): Promise<WorkflowDefinition | undefined> {
  const row = await Sql.db(sql)
    .selectFrom('workflow_snapshot')
    .select('definition')
    .where('workflow_id', '=', workflowId)
    .where('version', '=', version)
    .executeTakeFirst()
  return row && parseDefinition(row.definition)
}

/** Newest first. */
export async function listSnapshots(sql: Sql, workflowId: string, page: PageQuery): Promise<SnapshotRecord[]> {
  const { limit, offset } = pageBounds(page)
  return Sql.db(sql)
    .selectFrom('workflow_snapshot')
    .select([
      'version',
      'display_name as displayName',
      'created_at as createdAt',
      'created_by_user_id as createdByUserId',
    ])
    .where('workflow_id', '=', workflowId)
    .orderBy('version', 'desc')
    .limit(limit)
    .offset(offset)
    .execute()
}

/** Makes the content of an old version the next version. Undefined when there is no such workflow or version. */
export async function restoreSnapshot(
  store: Store,
  { teamId, id, version, userId, at }: { teamId: string; id: string; version: number; userId: string; at: number },
): Promise<{ version: number } | undefined> {
  return store.transaction(async (sql) => {
    const known = await lockWorkflow(sql, teamId, { id })
    if (known === undefined) return undefined
    const definition = await getSnapshot(sql, id, version)
    if (definition === undefined) return undefined
    return { version: await saveVersion(sql, known, { definition, userId, at }) }
  })
}

interface LockedWorkflow {
  id: string
  version: number
  workflow_slug: string
}

async function lockWorkflow(
  sql: Sql,
  teamId: string,
  by: { id: string } | { slug: string },
): Promise<LockedWorkflow | undefined> {
  const query = Sql.db(sql)
    .selectFrom('workflow')
    .select(['id', 'version', 'workflow_slug'])
    .where('team_id', '=', teamId)
    .where('deleted_at', 'is', null)
    .where((eb) => ('id' in by ? eb('id', '=', by.id) : eb('workflow_slug', '=', by.slug)))
  return lockRows(Sql.engine(sql), query).executeTakeFirst()
}

async function saveVersion(sql: Sql, known: LockedWorkflow, change: WorkflowChange): Promise<number> {
  const { slug, status, definition, userId, at } = change
  const version = known.version + (definition === undefined ? 0 : 1)
  await Sql.db(sql)
    .updateTable('workflow')
    .set({
      version,
      updated_at: at,
      ...(slug !== undefined && { workflow_slug: slug }),
      ...(status !== undefined && { workflow_status: status }),
      ...(definition !== undefined && { tool_type: definition.tool_type }),
    })
    .where('id', '=', known.id)
    .execute()
  if (definition !== undefined) await insertSnapshot(sql, { workflowId: known.id, version, definition, userId, at })
  return version
}

interface NewSnapshot {
  workflowId: string
  version: number
  definition: WorkflowDefinition
  userId: string
  at: number
}

async function insertSnapshot(sql: Sql, { workflowId, version, definition, userId, at }: NewSnapshot): Promise<void> {
  await Sql.db(sql)
    .insertInto('workflow_snapshot')
    .values({
      workflow_id: workflowId,
      version,
      display_name: definition.display_name,
      definition: JSON.stringify(definition),
      created_at: at,
      created_by_user_id: userId,
    })
    .execute()
}

function selectWorkflows(sql: Sql, teamId: string, version?: number) {
  return Sql.db(sql)
    .selectFrom('workflow')
    .innerJoin('workflow_snapshot', (join) =>
      join
        .onRef('workflow_snapshot.workflow_id', '=', 'workflow.id')
        .on((eb) =>
          version === undefined
            ? eb('workflow_snapshot.version', '=', eb.ref('workflow.version'))
            : eb('workflow_snapshot.version', '=', version),
        ),
    )
    .select([
      'workflow.id',
      'team_id',
      'workflow_slug',
      'workflow_status',
      'workflow_snapshot.version',
      'definition',
      'workflow.created_at',
      'updated_at',
    ])
    .where('team_id', '=', teamId)
    .where('deleted_at', 'is', null)
}

type WorkflowRow = Awaited<ReturnType<ReturnType<typeof selectWorkflows>['execute']>>[number]

function recordOf(row: WorkflowRow): WorkflowRecord {
  return {
    id: row.id,
    teamId: row.team_id,
    slug: row.workflow_slug,
    status: row.workflow_status === 'disabled' ? 'disabled' : 'active',
    version: row.version,
    definition: parseDefinition(row.definition),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

function parseDefinition(json: string): WorkflowDefinition {
  return JSON.parse(json) as WorkflowDefinition
}
