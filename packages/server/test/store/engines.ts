import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { lacksPrograms, type Postgres, startPostgres } from '@cyberun/testkit'
import { afterAll, afterEach, beforeAll, describe } from 'vitest'
import { Sql } from '../../src/store/handle.ts'
import { openStore, type Store, type StoreOptions } from '../../src/store/store.ts'

export const silent = createLog({ level: 'silent', format: 'json' })

/** One server for all suites of a test file. */
let postgres: Promise<Postgres> | undefined
let databases = 0
const startedPostgres = () => (postgres ??= startPostgres())
afterAll(async () => (await postgres)?.[Symbol.asyncDispose]())

export interface Engines {
  /** The suite's store with nothing in it: opened once, emptied for each test. */
  emptyStore(): Promise<Store>
  /** Opens a store of this test's own, more than once if it likes; what is left open is closed after the test. */
  ownPlace(): Promise<() => Promise<Store>>
}

/** Runs `suite` on SQLite and on a real PostgreSQL. */
export function onBothEngines(name: string, suite: (engines: Engines) => void): void {
  describe(`${name}, on SQLite`, () => {
    const directories: string[] = []
    afterAll(() => Promise.all(directories.map((directory) => rm(directory, { recursive: true }))))
    suite(
      enginesOf(async () => {
        const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-store-'))
        directories.push(dataDir)
        return { dataDir }
      }),
    )
  })

  describe.skipIf(lacksPrograms('postgres'))(`${name}, on PostgreSQL`, () => {
    // Not in the time of the first test: to make and start a server takes longer than most of them.
    beforeAll(async () => void (await startedPostgres()))
    suite(
      enginesOf(async () => {
        const databaseUrl = await (await startedPostgres()).createDatabase(`suite_${++databases}`)
        return { dataDir: 'unused', databaseUrl }
      }),
    )
  })
}

/** Registers its own clean-up, so that it runs before that of whoever made the places. */
function enginesOf(newPlace: () => Promise<Omit<StoreOptions, 'log'>>): Engines {
  let shared: Store | undefined
  const own = new Set<Store>()
  afterEach(async () => {
    for (const store of own) await store.close()
    own.clear()
  })
  afterAll(() => shared?.close())
  return {
    async emptyStore() {
      shared ??= await openStore({ ...(await newPlace()), log: silent })
      await deleteEverything(shared)
      return shared
    },
    async ownPlace() {
      const place = await newPlace()
      return async () => {
        const store = await openStore({ ...place, log: silent })
        own.add(store)
        return store
      }
    },
  }
}

/** What hangs on a user or a team goes with it. */
async function deleteEverything(store: Store): Promise<void> {
  await store.transaction(async (sql) => {
    for (const table of ['user_account', 'team', 'pairing', 'signing_key', 'server_state', 'audit_record'] as const) {
      await Sql.db(sql).deleteFrom(table).execute()
    }
  })
}
