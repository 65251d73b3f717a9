import { CREDENTIAL_KINDS, type CredentialKind, type PageQuery, type Role } from '@cyberun/api'
import { parseRole } from '../model/roles.ts'
import { compiledOnce } from './compiled-once.ts'
import { Sql } from './handle.ts'
import { pageBounds } from './page.ts'
import { sharedRead } from './shared-read.ts'

export interface CredentialRecord {
  id: string
  teamId: string
  userId: string
  kind: CredentialKind
  displayName: string
  keyPrefix: string
  createdAt: number
  lastUsedAt: number | null
  expiresAt: number | null
  revokedAt: number | null
}

export interface NewCredentialRecord {
  id: string
  teamId: string
  userId: string
  kind: CredentialKind
  displayName: string
  keyPrefix: string
  /** SHA-256 of the key, hex. */
  keyHash: string
  /** For a device: the agent credential that ends with it. */
  companionId: string | null
  createdAt: number
  expiresAt: number | null
}

export async function insertCredential(sql: Sql, credential: NewCredentialRecord): Promise<void> {
  await Sql.db(sql)
    .insertInto('credential')
    .values({
      id: credential.id,
      team_id: credential.teamId,
      user_id: credential.userId,
      kind: credential.kind,
      display_name: credential.displayName,
      key_prefix: credential.keyPrefix,
      key_hash: credential.keyHash,
      companion_id: credential.companionId,
      created_at: credential.createdAt,
      last_used_at: null,
      expires_at: credential.expiresAt,
      revoked_at: null,
    })
    .execute()
}

/** A key as a call shows it, and the role that its holder has in its team now; undefined once they have left. */
export interface PresentedCredential extends CredentialRecord {
  role: Role | undefined
}

const selectPresented = compiledOnce((sql: Sql, keyHash: string) =>
  selectCredentials(sql)
    .leftJoin('membership', (join) =>
      join
        .onRef('membership.team_id', '=', 'credential.team_id')
        .onRef('membership.user_id', '=', 'credential.user_id'),
    )
    .select('membership.role')
    .where('key_hash', '=', keyHash)
    .compile(),
)

export const findCredentialByHash = sharedRead(
  async (sql: Sql, keyHash: string): Promise<PresentedCredential | undefined> => {
    const [row] = await selectPresented(sql, keyHash)
    return row && { ...row, kind: parseKind(row.kind), role: row.role === null ? undefined : parseRole(row.role) }
  },
)

export async function findCredential(sql: Sql, teamId: string, id: string): Promise<CredentialRecord | undefined> {
  const row = await selectCredentials(sql).where('team_id', '=', teamId).where('id', '=', id).executeTakeFirst()
  return row && { ...row, kind: parseKind(row.kind) }
}

/** Notes that the key was used, unless it is already noted for a time after `unlessSince`. */
export async function touchCredential(sql: Sql, id: string, now: number, unlessSince: number): Promise<void> {
  await Sql.db(sql)
    .updateTable('credential')
    .set({ last_used_at: now })
    .where('id', '=', id)
    .where((eb) => eb.or([eb('last_used_at', 'is', null), eb('last_used_at', '<=', unlessSince)]))
    .execute()
}

/** Revokes a credential and its companion. Returns the ids of those that were not revoked yet. */
export async function revokeCredential(sql: Sql, id: string, now: number): Promise<string[]> {
  const db = Sql.db(sql)
  const rows = await db
    .updateTable('credential')
    .set({ revoked_at: now })
    .where('revoked_at', 'is', null)
    .where((eb) =>
      eb.or([
        eb('id', '=', id),
        eb('id', '=', db.selectFrom('credential as device').select('device.companion_id').where('device.id', '=', id)),
      ]),
    )
    .returning('id')
    .execute()
  return rows.map((row) => row.id)
}

/** Revokes what somebody holds in a team. Returns the ids of those that were not revoked yet. */
export async function revokeCredentialsOf(sql: Sql, teamId: string, userId: string, now: number): Promise<string[]> {
  const rows = await Sql.db(sql)
    .updateTable('credential')
    .set({ revoked_at: now })
    .where('team_id', '=', teamId)
    .where('user_id', '=', userId)
    .where('revoked_at', 'is', null)
    .returning('id')
    .execute()
  return rows.map((row) => row.id)
}

/** The credentials of a team that are not revoked. */
export async function liveCredentialIds(sql: Sql, teamId: string): Promise<string[]> {
  const rows = await Sql.db(sql)
    .selectFrom('credential')
    .select('id')
    .where('team_id', '=', teamId)
    .where('revoked_at', 'is', null)
    .execute()
  return rows.map((row) => row.id)
}

/** The credentials whose time ended after `after` and not after `until`. */
export async function expiredCredentialIds(sql: Sql, after: number, until: number): Promise<string[]> {
  const rows = await Sql.db(sql)
    .selectFrom('credential')
    .select('id')
    .where('expires_at', '>', after)
    .where('expires_at', '<=', until)
    .execute()
  return rows.map((row) => row.id)
}

/** Newest first. */
export async function listCredentials(
  sql: Sql,
  teamId: string,
  kind: CredentialKind | undefined,
  page: PageQuery,
): Promise<CredentialRecord[]> {
  const { limit, offset } = pageBounds(page)
  let query = selectCredentials(sql).where('team_id', '=', teamId)
  if (kind !== undefined) query = query.where('kind', '=', kind)
  const rows = await query.orderBy('id', 'desc').limit(limit).offset(offset).execute()
  return rows.map((row) => ({ ...row, kind: parseKind(row.kind) }))
}

export async function countCredentials(sql: Sql, teamId: string, kind: CredentialKind | undefined): Promise<number> {
  let query = Sql.db(sql)
    .selectFrom('credential')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('team_id', '=', teamId)
  if (kind !== undefined) query = query.where('kind', '=', kind)
  return (await query.executeTakeFirstOrThrow()).count
}

const selectCredentials = (sql: Sql) =>
  Sql.db(sql)
    .selectFrom('credential')
    .select([
      'id',
      'credential.team_id as teamId',
      'credential.user_id as userId',
      'kind',
      'display_name as displayName',
      'key_prefix as keyPrefix',
      'created_at as createdAt',
      'last_used_at as lastUsedAt',
      'expires_at as expiresAt',
      'revoked_at as revokedAt',
    ])

function parseKind(raw: string): CredentialKind {
  const kind = CREDENTIAL_KINDS.find((known) => known === raw)
  if (kind === undefined) throw new Error(`no such kind of credential in the store: ${raw}`)
  return kind
}
