import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { lacksPrograms, type Postgres, startPostgres } from '@cyberun/testkit'
import { afterAll, afterEach, beforeAll, describe } from 'vitest'
import { openStore, type Store } from '../../src/store/store.ts'

export const silent = createLog({ level: 'silent', format: 'json' })

/** Where an empty store can be opened, more than once. */
export interface EmptyPlace {
  open(): Promise<Store>
}

/** Runs `suite` on SQLite and on a real PostgreSQL. Whatever it opened is closed after each test. */
export function onBothEngines(name: string, suite: (empty: () => Promise<EmptyPlace>) => void): void {
  describe(`${name}, on SQLite`, () => {
    const cleanUps: (() => Promise<void>)[] = []
    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
    })
    suite(async () => {
      const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-store-'))
      cleanUps.push(() => rm(dataDir, { recursive: true }))
      return placeAt({ dataDir }, cleanUps)
    })
  })

  describe.skipIf(lacksPrograms('postgres'))(`${name}, on PostgreSQL`, () => {
    const cleanUps: (() => Promise<void>)[] = []
    let postgres: Postgres
    let databases = 0
    beforeAll(async () => {
      postgres = await startPostgres()
    })
    afterAll(() => postgres[Symbol.asyncDispose]())
    afterEach(async () => {
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
    })
    suite(async () => {
      const databaseUrl = await postgres.createDatabase(`suite_${++databases}`)
      return placeAt({ dataDir: 'unused', databaseUrl }, cleanUps)
    })
  })
}

function placeAt(where: { dataDir: string; databaseUrl?: string }, cleanUps: (() => Promise<void>)[]): EmptyPlace {
  return {
    async open() {
      const store = await openStore({ ...where, log: silent })
      let closed: Promise<void> | undefined
      const close = store.close.bind(store)
      store.close = () => {
        closed ??= close()
        return closed
      }
      cleanUps.push(() => store.close())
      return store
    },
  }
}
