import { lockRows } from './dialect.ts'
import { Sql } from './handle.ts'

export interface UserRecord {
  id: string
  /** Lower case. */
  emailAddress: string
  firstName: string
  lastName: string
  displayName: string
  passwordHash: string
}

/** False when the e-mail address is taken. */
export async function insertUser(sql: Sql, user: UserRecord & { createdAt: number }): Promise<boolean> {
  const result = await Sql.db(sql)
    .insertInto('user_account')
    .values({
      id: user.id,
      email_address: user.emailAddress,
      first_name: user.firstName,
      last_name: user.lastName,
      display_name: user.displayName,
      password_hash: user.passwordHash,
      created_at: user.createdAt,
    })
    .onConflict((conflict) => conflict.column('email_address').doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}

export function findUser(sql: Sql, id: string): Promise<UserRecord | undefined> {
  return selectUsers(sql).where('id', '=', id).executeTakeFirst()
}

export function findUserByEmail(sql: Sql, emailAddress: string): Promise<UserRecord | undefined> {
  return selectUsers(sql).where('email_address', '=', emailAddress).executeTakeFirst()
}

export async function hasUsers(sql: Sql): Promise<boolean> {
  return (await Sql.db(sql).selectFrom('user_account').select('id').limit(1).execute()).length > 0
}

/** Replaces the hash that was checked; false when another change came first. */
export async function replacePasswordHash(sql: Sql, id: string, checked: string, next: string): Promise<boolean> {
  const result = await Sql.db(sql)
    .updateTable('user_account')
    .set({ password_hash: next })
    .where('id', '=', id)
    .where('password_hash', '=', checked)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}

/** Whether the hash that was checked is still the user's, held still until the transaction ends. */
export async function lockPasswordHash(sql: Sql, id: string, checked: string): Promise<boolean> {
  const query = selectUsers(sql).where('id', '=', id).where('password_hash', '=', checked)
  return (await lockRows(Sql.engine(sql), query).executeTakeFirst()) !== undefined
}

const selectUsers = (sql: Sql) =>
  Sql.db(sql)
    .selectFrom('user_account')
    .select([
      'id',
      'email_address as emailAddress',
      'first_name as firstName',
      'last_name as lastName',
      'display_name as displayName',
      'password_hash as passwordHash',
    ])
