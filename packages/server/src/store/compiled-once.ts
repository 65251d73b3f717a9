import type { CompiledQuery } from 'kysely'
import type { Engine } from './dialect.ts'
import { Sql } from './handle.ts'

/** Stands for one of a call's values while the statement is put together. */
class Placeholder {
  readonly at: number

  constructor(at: number) {
    this.at = at
  }
}

/**
 * A statement that is put together once for each engine, for those that every call waits for: Kysely takes a quarter of a
 * millisecond for a join when it has not been asked for a while, longer than the database. `build` is given what stands for
 * the values, and may only pass it on as values.
 */
export function compiledOnce<A extends readonly (string | number)[], R>(
  build: (sql: Sql, ...values: A) => CompiledQuery<R>,
): (sql: Sql, ...values: A) => Promise<R[]> {
  const compiled = new Map<Engine, CompiledQuery<R>>()

  function compiledFor(sql: Sql, values: A): CompiledQuery<R> {
    const known = compiled.get(Sql.engine(sql))
    if (known) return known
    const placeholders: unknown = values.map((_, at) => new Placeholder(at))
    const made = build(sql, ...(placeholders as A))
    compiled.set(Sql.engine(sql), made)
    return made
  }

  return async (sql, ...values) => {
    const query = compiledFor(sql, values)
    const parameters = query.parameters.map((given) => (given instanceof Placeholder ? values[given.at] : given))
    return (await Sql.db(sql).executeQuery<R>({ ...query, parameters })).rows
  }
}
