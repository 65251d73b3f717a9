import type { Kysely } from 'kysely'
import type { Engine } from './dialect.ts'
import type { Tables } from './schema.ts'

/**
 * What every function of the store takes first: the store itself, or one transaction on it. Outside this folder it is
 * opaque, so that SQL is written nowhere else.
 */
export class Sql {
  readonly #db: Kysely<Tables>
  readonly #engine: Engine

  constructor(db: Kysely<Tables>, engine: Engine) {
    this.#db = db
    this.#engine = engine
  }

  static db(sql: Sql): Kysely<Tables> {
    return sql.#db
  }

  static engine(sql: Sql): Engine {
    return sql.#engine
  }
}
