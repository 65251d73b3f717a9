import { Sql } from './handle.ts'

/** Whether something that happens once in an installation's life has happened. */
export async function isMarked(sql: Sql, mark: string): Promise<boolean> {
  const row = await Sql.db(sql)
    .selectFrom('server_state')
    .select('state_key')
    .where('state_key', '=', mark)
    .executeTakeFirst()
  return row !== undefined
}

/** Marking twice is harmless. `at`: milliseconds since 1970. */
export async function setMark(sql: Sql, mark: string, at: number): Promise<void> {
  await Sql.db(sql)
    .insertInto('server_state')
    .values({ state_key: mark, state_value: String(at) })
    .onConflict((conflict) => conflict.column('state_key').doNothing())
    .execute()
}
