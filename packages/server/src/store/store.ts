import type { Log } from '@cyberun/link/log'
import { type Dialect, Kysely, sql as rawSql } from 'kysely'
import { mayRunAgain } from './dialect.ts'
import { Sql } from './handle.ts'
import { migrate } from './migrations.ts'
import { openPostgresDialect } from './postgres.ts'
import type { Tables } from './schema.ts'
import { openSqliteDialect } from './sqlite.ts'

const MAX_RUNS = 4

export interface StoreOptions {
  /** Where the SQLite file lives when there is no `databaseUrl`. Made if it is not there. */
  dataDir: string
  /** `postgres://…`: use this database instead of a file. */
  databaseUrl?: string | undefined
  log: Log
}

/**
 * What we keep. A write is on disk when its promise resolves. Every function may throw ApiError `unavailable` when the
 * database cannot be used now.
 */
export class Store extends Sql {
  /**
   * Runs `work` in one transaction: all of its writes or, when it throws, none. On PostgreSQL it may run more than once
   * (after a deadlock), so it must have no effect but its writes. SQLite has one writer: do not wait for anything else
   * in here. It is rolled back after 10 s.
   */
  async transaction<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    const engine = Sql.engine(this)
    for (let run = 1; ; run++) {
      try {
        return await Sql.db(this)
          .transaction()
          .execute((db) => work(new Sql(db, engine)))
      } catch (error) {
        if (run === MAX_RUNS || !mayRunAgain(error)) throw error
      }
    }
  }

  /** Asks the database for one answer; rejects when it has none now. */
  async ping(): Promise<void> {
    await rawSql`select 1`.execute(Sql.db(this))
  }

  async close(): Promise<void> {
    await Sql.db(this).destroy()
  }
}

/**
 * Opens the store and brings its schema up to date. Throws `StoreOpenError`, with one line for a person, when the
 * directory is in use by another server, the database does not answer, or its schema is newer than this release.
 */
export async function openStore({ dataDir, databaseUrl, log }: StoreOptions): Promise<Store> {
  if (databaseUrl === undefined) return new Store(await migrated(await openSqliteDialect(dataDir, log)), 'sqlite')
  // To make an index of a large table, or to wait for another server that does, takes longer than a call may.
  const migrator = await migrated(await openPostgresDialect(databaseUrl, log, { hasTimeLimits: false }))
  await migrator.destroy()
  const dialect = await openPostgresDialect(databaseUrl, log, { hasTimeLimits: true })
  const store = new Store(new Kysely<Tables>({ dialect }), 'postgres')
  // Kysely closes only what it has used.
  await store.ping()
  return store
}

/** A database whose schema is up to date; closed when it cannot be. */
async function migrated(dialect: Dialect): Promise<Kysely<Tables>> {
  const db = new Kysely<Tables>({ dialect })
  try {
    await migrate(db as Kysely<unknown>)
    return db
  } catch (error) {
    await db.destroy()
    throw error
  }
}
