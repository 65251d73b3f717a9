import { sql as raw } from 'kysely'
import type { Attempt } from '../model/attempt.ts'
import { clock, jsonTexts, lockRows } from './dialect.ts'
import { Sql } from './handle.ts'
import { HELD } from './migration-tasks.ts'
import type { Store } from './store.ts'
import { applyChanges } from './task-changes.ts'

/** A file that a caller uploads, or is about to. Times are milliseconds since 1970. */
export interface InputFile {
  fileKey: string
  teamId: string
  fileName: string
  contentType: string
  /** Bytes. */
  size: number
  /** Hex; null until it is there. */
  sha256: string | null
  objectKey: string | null
  uploadedAt: number | null
  expiresAt: number
}

export interface NewInput {
  fileKey: string
  teamId: string
  userId: string
  fileName: string
  contentType: string
  size: number
  createdAt: number
  expiresAt: number
}

interface ArtifactFile {
  key: string
  fileName: string
  contentType: string
  size: number
  sha256: string
  objectKey: string
}

/** A file that a run made. */
export interface Artifact extends ArtifactFile {
  id: string
  teamId: string
  taskId: string
  /** Of the attempt that made it. */
  fence: number
  createdAt: number
}

export interface NewArtifact extends ArtifactFile {
  artifactId: string
}

export type ArtifactCommit =
  /** The row is there and its event with it. */
  | { kind: 'stored'; artifactId: string }
  /** The same file was committed before: the object that was just written is superfluous. */
  | { kind: 'again'; artifactId: string }
  /** Another file was committed under this key. */
  | { kind: 'conflict' }
  | { kind: 'late' }

export async function createInput(sql: Sql, input: NewInput): Promise<void> {
  await Sql.db(sql)
    .insertInto('input_file')
    .values({
      file_key: input.fileKey,
      team_id: input.teamId,
      user_id: input.userId,
      file_name: input.fileName,
      content_type: input.contentType,
      size: input.size,
      sha256: null,
      object_key: null,
      created_at: input.createdAt,
      uploaded_at: null,
      expires_at: input.expiresAt,
    })
    .execute()
}

/** Of any team: who asks has a signed URL for it. */
export async function findInput(sql: Sql, fileKey: string): Promise<InputFile | undefined> {
  return selectInputs(sql).where('file_key', '=', fileKey).executeTakeFirst()
}

export async function getInput(sql: Sql, teamId: string, fileKey: string): Promise<InputFile | undefined> {
  return selectInputs(sql).where('team_id', '=', teamId).where('file_key', '=', fileKey).executeTakeFirst()
}

/** Those of these files that the team has, in no order. */
export async function inputFiles(sql: Sql, teamId: string, fileKeys: readonly string[]): Promise<InputFile[]> {
  if (fileKeys.length === 0) return []
  return selectInputs(sql)
    .where('team_id', '=', teamId)
    .where('file_key', 'in', [...fileKeys])
    .execute()
}

/** Notes that a file's bytes are safe. The first to say so wins. */
export async function commitInput(
  sql: Sql,
  fileKey: string,
  upload: { objectKey: string; sha256: string; uploadedAt: number; expiresAt: number },
): Promise<'committed' | 'exists' | 'unknown'> {
  const result = await Sql.db(sql)
    .updateTable('input_file')
    .set({
      object_key: upload.objectKey,
      sha256: upload.sha256,
      uploaded_at: upload.uploadedAt,
      expires_at: upload.expiresAt,
    })
    .where('file_key', '=', fileKey)
    .where('uploaded_at', 'is', null)
    .executeTakeFirst()
  if (result.numUpdatedRows === 1n) return 'committed'
  return (await findInput(sql, fileKey)) === undefined ? 'unknown' : 'exists'
}

/**
 * Makes a file of an attempt visible, with its event, in one transaction. The attempt must be the task's current one.
 * Of two that commit the same key at once, the task's lock lets the second see the first.
 */
export async function commitArtifact(store: Store, attempt: Attempt, artifact: NewArtifact): Promise<ArtifactCommit> {
  return store.transaction(async (sql) => {
    const announced = {
      artifact_id: artifact.artifactId,
      key: artifact.key,
      file_name: artifact.fileName,
      content_type: artifact.contentType,
      size: artifact.size,
    }
    const known = await lockAttemptArtifact(sql, attempt, artifact.key)
    if (known === 'late') return { kind: 'late' }
    if (known !== undefined) {
      return known.sha256 === artifact.sha256 ? { kind: 'again', artifactId: known.id } : { kind: 'conflict' }
    }
    const change = { kind: 'announce', attempt, artifact: announced } as const
    const [answer] = await applyChanges(sql, [{ taskId: attempt.taskId, change }])
    if (answer?.kind !== 'stored') return { kind: 'late' }
    await insertArtifact(sql, attempt, artifact)
    return { kind: 'stored', artifactId: artifact.artifactId }
  })
}

export async function findArtifact(sql: Sql, artifactId: string): Promise<Artifact | undefined> {
  return selectArtifacts(sql).where('id', '=', artifactId).executeTakeFirst()
}

/** Whether an attempt has committed a file under this key; `late` when it may not commit any. */
export async function findAttemptArtifact(
  sql: Sql,
  attempt: Attempt,
  key: string,
): Promise<Artifact | 'late' | undefined> {
  if (!(await isHeld(sql, attempt))) return 'late'
  return attemptArtifact(sql, attempt, key)
}

/** The files of one attempt of a task, in the order in which they were made. */
export async function listArtifacts(sql: Sql, teamId: string, taskId: string, fence: number): Promise<Artifact[]> {
  return selectArtifacts(sql)
    .where('team_id', '=', teamId)
    .where('task_id', '=', taskId)
    .where('fence', '=', fence)
    .orderBy('created_at')
    .orderBy('id')
    .execute()
}

/** The upload that an attempt asks for: its task names it, and the agent has the attempt now. */
export async function attemptMayReadInput(
  sql: Sql,
  attempt: Attempt,
  fileKey: string,
): Promise<InputFile | 'late' | undefined> {
  if (!(await isHeld(sql, attempt))) return 'late'
  return selectInputs(sql)
    .innerJoin('task_input', 'task_input.file_key', 'input_file.file_key')
    .where('task_input.task_id', '=', attempt.taskId)
    .where('input_file.file_key', '=', fileKey)
    .where('team_id', '=', attempt.teamId)
    .executeTakeFirst()
}

/**
 * Forgets inputs whose time is up, unless a task that has not ended names them, and artifacts made before
 * `artifactsBefore`. Returns the object keys that nobody needs any more.
 */
export async function forgetExpiredFiles(
  store: Store,
  { now, artifactsBefore, limit }: { now: number; artifactsBefore: number; limit: number },
): Promise<string[]> {
  return store.transaction(async (sql) => {
    const inputs = await raw<{ object_key: string | null }>`
      delete from input_file where file_key in (
        select file_key from input_file where expires_at < ${now} and not exists (
          select 1 from task_input join task on task.id = task_input.task_id
          where task_input.file_key = input_file.file_key and task.completed_at is null
        ) order by expires_at limit ${limit}
      ) returning object_key`.execute(Sql.db(sql))
    const artifacts = await raw<{ object_key: string | null }>`
      delete from artifact where id in (
        select id from artifact where created_at < ${artifactsBefore} order by created_at limit ${limit}
      ) returning object_key`.execute(Sql.db(sql))
    return [...inputs.rows, ...artifacts.rows].flatMap(({ object_key }) => (object_key === null ? [] : [object_key]))
  })
}

/** Those of these objects that a row names. */
export async function knownObjectKeys(sql: Sql, keys: readonly string[]): Promise<Set<string>> {
  if (keys.length === 0) return new Set()
  const engine = Sql.engine(sql)
  const asked = raw`(select cast(value as text) from ${jsonTexts(engine, keys)})`
  const { rows } = await raw<{ object_key: string }>`
    select object_key from input_file where object_key in ${asked}
    union all select object_key from artifact where object_key in ${asked}`.execute(Sql.db(sql))
  return new Set(rows.map(({ object_key }) => object_key))
}

/** Whether the agent has the attempt now. */
async function isHeld(sql: Sql, attempt: Attempt): Promise<boolean> {
  const task = await Sql.db(sql)
    .selectFrom('task')
    .select('id')
    .where('id', '=', attempt.taskId)
    .where('team_id', '=', attempt.teamId)
    .where('agent_id', '=', attempt.agentId)
    .where('attempt_fence', '=', attempt.fence)
    .where(HELD)
    .executeTakeFirst()
  return task !== undefined
}

/** As `findAttemptArtifact`, with the task locked so that the answer holds until the end of the transaction. */
async function lockAttemptArtifact(sql: Sql, attempt: Attempt, key: string): Promise<Artifact | 'late' | undefined> {
  const task = await lockRows(
    Sql.engine(sql),
    Sql.db(sql)
      .selectFrom('task')
      .select('id')
      .where('id', '=', attempt.taskId)
      .where('team_id', '=', attempt.teamId)
      .where('agent_id', '=', attempt.agentId)
      .where('attempt_fence', '=', attempt.fence),
  ).executeTakeFirst()
  if (task === undefined) return 'late'
  return attemptArtifact(sql, attempt, key)
}

async function attemptArtifact(sql: Sql, attempt: Attempt, key: string): Promise<Artifact | undefined> {
  return selectArtifacts(sql)
    .where('task_id', '=', attempt.taskId)
    .where('fence', '=', attempt.fence)
    .where('artifact_key', '=', key)
    .executeTakeFirst()
}

async function insertArtifact(sql: Sql, attempt: Attempt, artifact: NewArtifact): Promise<void> {
  await Sql.db(sql)
    .insertInto('artifact')
    .values({
      id: artifact.artifactId,
      team_id: attempt.teamId,
      task_id: attempt.taskId,
      fence: attempt.fence,
      artifact_key: artifact.key,
      file_name: artifact.fileName,
      content_type: artifact.contentType,
      size: artifact.size,
      sha256: artifact.sha256,
      object_key: artifact.objectKey,
      created_at: clock(Sql.engine(sql)),
    })
    .execute()
}

function selectInputs(sql: Sql) {
  return Sql.db(sql)
    .selectFrom('input_file')
    .select([
      'input_file.file_key as fileKey',
      'input_file.team_id as teamId',
      'file_name as fileName',
      'content_type as contentType',
      'size',
      'sha256',
      'object_key as objectKey',
      'uploaded_at as uploadedAt',
      'expires_at as expiresAt',
    ])
}

function selectArtifacts(sql: Sql) {
  return Sql.db(sql)
    .selectFrom('artifact')
    .select([
      'id',
      'team_id as teamId',
      'task_id as taskId',
      'fence',
      'artifact_key as key',
      'file_name as fileName',
      'content_type as contentType',
      'size',
      'sha256',
      'object_key as objectKey',
      'created_at as createdAt',
    ])
}
