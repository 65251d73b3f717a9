import type { QueryResult, RawBuilder } from 'kysely'
import type { CompiledBatch } from './dialect.ts'
import { Sql } from './handle.ts'
import { Store } from './store.ts'

/**
 * Runs statements that need nothing of each other's answers, in order, all of them or none; resolves with the answer to the
 * last. They travel together, and one that fails fails the transaction. Outside of one, SQLite's thread commits once for
 * them and whatever else waits.
 */
export async function writeAll<R>(
  sql: Sql,
  before: readonly RawBuilder<unknown>[],
  last: RawBuilder<R>,
): Promise<QueryResult<R>> {
  if (sql instanceof Store && Sql.engine(sql) !== 'sqlite') {
    return sql.transaction((inner) => writeAll(inner, before, last))
  }
  const batch: CompiledBatch = {
    ...last.compile(Sql.db(sql)),
    batch: [...before, last].map((statement) => statement.compile(Sql.db(sql))),
  }
  return Sql.db(sql).executeQuery<R>(batch)
}
