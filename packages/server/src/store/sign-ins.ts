import { lockRows } from './dialect.ts'
import { Sql } from './handle.ts'

/** A sign-in is a family of refresh tokens, each good once (schema: `refresh_family`, `refresh_token`). */
export interface SignIn {
  id: string
  userId: string
  createdAt: number
  expiresAt: number
}

export interface RefreshToken {
  /** SHA-256, hex. */
  tokenHash: string
  familyId: string
  createdAt: number
}

export async function insertSignIn(sql: Sql, signIn: SignIn): Promise<void> {
  await Sql.db(sql)
    .insertInto('refresh_family')
    .values({
      id: signIn.id,
      user_id: signIn.userId,
      created_at: signIn.createdAt,
      expires_at: signIn.expiresAt,
      ended_at: null,
    })
    .execute()
}

export async function insertRefreshToken(sql: Sql, token: RefreshToken): Promise<void> {
  await Sql.db(sql)
    .insertInto('refresh_token')
    .values({ token_hash: token.tokenHash, family_id: token.familyId, created_at: token.createdAt, used_at: null })
    .execute()
}

export async function familyOfToken(sql: Sql, tokenHash: string): Promise<string | undefined> {
  const row = await Sql.db(sql)
    .selectFrom('refresh_token')
    .select('family_id')
    .where('token_hash', '=', tokenHash)
    .executeTakeFirst()
  return row?.family_id
}

/** Uses a token up. False when it was used before. */
export async function useRefreshToken(sql: Sql, tokenHash: string, now: number): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('refresh_token')
    .set({ used_at: now })
    .where('token_hash', '=', tokenHash)
    .where('used_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** The user of a sign-in that has neither ended nor expired. */
export async function userOfSignIn(sql: Sql, id: string, now: number): Promise<string | undefined> {
  return (await selectLive(sql, id, now).executeTakeFirst())?.user_id
}

/** `userOfSignIn`, held still until the transaction ends. */
export async function lockSignIn(sql: Sql, id: string, now: number): Promise<string | undefined> {
  return (await lockRows(Sql.engine(sql), selectLive(sql, id, now)).executeTakeFirst())?.user_id
}

const selectLive = (sql: Sql, id: string, now: number) =>
  Sql.db(sql)
    .selectFrom('refresh_family')
    .select('user_id')
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', now)

export async function extendSignIn(sql: Sql, id: string, expiresAt: number): Promise<void> {
  await Sql.db(sql).updateTable('refresh_family').set({ expires_at: expiresAt }).where('id', '=', id).execute()
}

export async function endSignIn(sql: Sql, id: string, now: number): Promise<void> {
  await Sql.db(sql)
    .updateTable('refresh_family')
    .set({ ended_at: now })
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .execute()
}

/** Ends every sign-in of a user and returns their ids. */
export async function endSignInsOf(sql: Sql, userId: string, now: number): Promise<string[]> {
  const rows = await Sql.db(sql)
    .updateTable('refresh_family')
    .set({ ended_at: now })
    .where('user_id', '=', userId)
    .where('ended_at', 'is', null)
    .returning('id')
    .execute()
  return rows.map((row) => row.id)
}

/** Forgets sign-ins that expired, with their tokens. */
export async function deleteExpiredSignIns(sql: Sql, now: number): Promise<void> {
  await Sql.db(sql).deleteFrom('refresh_family').where('expires_at', '<=', now).execute()
}
