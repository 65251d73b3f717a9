import type { RawBuilder } from 'kysely'
import { Sql } from './handle.ts'
import type { CompiledBatch } from './sqlite.ts'
import { Store } from './store.ts'

/**
 * Runs statements that need nothing of each other's answers, in order, all of them or none; resolves with the rows of the
 * last. SQLite's thread gets them in one message and commits once for whatever else waits; in a transaction, and on
 * PostgreSQL, they are run one after the other.
 */
export async function writeAll<R>(
  sql: Sql,
  before: readonly RawBuilder<unknown>[],
  last: RawBuilder<R>,
): Promise<readonly R[]> {
  if (!(sql instanceof Store)) {
    for (const statement of before) await statement.execute(Sql.db(sql))
    return (await last.execute(Sql.db(sql))).rows
  }
  if (Sql.engine(sql) !== 'sqlite') return sql.transaction((inner) => writeAll(inner, before, last))
  const batch: CompiledBatch = {
    ...last.compile(Sql.db(sql)),
    batch: [...before, last].map((statement) => statement.compile(Sql.db(sql))),
  }
  return (await Sql.db(sql).executeQuery<R>(batch)).rows
}
