import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { ApiError } from '@cyberun/api'
import { lacksPrograms, type Postgres, startPostgres } from '@cyberun/testkit'
import { until } from '@cyberun/testkit/until'
import { sql as raw } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendAudit } from '../../src/store/audit.ts'
import { Sql } from '../../src/store/handle.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { silent } from './engines.ts'

const ROUNDS = 50
/** Kills fall after 1 to this many acknowledged rows, another number each round. */
const MOST_ROWS = 40

/** Most of a round is starting the next process; this makes it shorter. */
let compileCache: string
beforeAll(async () => {
  compileCache = await mkdtemp(join(tmpdir(), 'cyberun-cache-'))
})
afterAll(() => rm(compileCache, { recursive: true }))

const WRITER = new URL('./writer-process.ts', import.meta.url).pathname

/** Kills writers of the same store, one after the other, each in the middle of its work. Returns what they were told. */
async function killWriters(where: string[]): Promise<string[]> {
  const acknowledged: string[] = []
  let next = startWriter(0, where)
  for (let round = 0; round < ROUNDS; round++) {
    const writer = next
    if (round + 1 < ROUNDS) next = startWriter(round + 1, where)
    const killAfter = acknowledged.length + 1 + ((round * 17) % MOST_ROWS)
    writer.stdin.write('go\n')
    for await (const id of createInterface({ input: writer.stdout })) {
      acknowledged.push(id)
      if (acknowledged.length === killAfter) writer.kill('SIGKILL')
    }
    expect(writer.signalCode ?? (await once(writer, 'exit'))[1], 'it was killed, and did not end itself').toBe(
      'SIGKILL',
    )
  }
  return acknowledged
}

function startWriter(round: number, where: string[]): ChildProcessByStdio<Writable, Readable, null> {
  const env = { ...process.env, NODE_COMPILE_CACHE: compileCache }
  return spawn(process.execPath, [WRITER, String(round), ...where], { env, stdio: ['pipe', 'pipe', 'inherit'] })
}

async function expectAll(store: Store, acknowledged: string[]): Promise<void> {
  const rows = await Sql.db(store).selectFrom('audit_record').select('id').execute()
  const stored = new Set(rows.map((row) => row.id))
  expect(acknowledged.filter((id) => !stored.has(id))).toEqual([])
  const inPairs = [...stored].filter((id) => !id.endsWith('-twin') && Number(id.split('-')[2]) % 2 === 1)
  expect(inPairs.filter((id) => !stored.has(`${id}-twin`))).toEqual([])
  expect(acknowledged.length).toBeGreaterThan(ROUNDS)
}

test('SQLite: no acknowledged row is lost when the process is killed', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-kill-'))
  const acknowledged = await killWriters([dataDir])
  const store = await openStore({ dataDir, log: silent })
  await expectAll(store, acknowledged)
  const check = await raw<{ integrity_check: string }>`pragma integrity_check`.execute(Sql.db(store))
  expect(check.rows.map((row) => row.integrity_check)).toEqual(['ok'])
  await store.close()
  await rm(dataDir, { recursive: true })
})

describe.skipIf(lacksPrograms('postgres'))('PostgreSQL', () => {
  let postgres: Postgres
  beforeAll(async () => {
    postgres = await startPostgres()
  })
  afterAll(() => postgres[Symbol.asyncDispose]())

  test('no acknowledged row is lost when our process is killed', async () => {
    const databaseUrl = await postgres.createDatabase('killed')
    const acknowledged = await killWriters(['unused', databaseUrl])
    const store = await openStore({ dataDir: 'unused', databaseUrl, log: silent })
    await expectAll(store, acknowledged)
    await store.close()
  })

  test('when the database itself crashes callers learn that it is unavailable, and go on once it is back', async () => {
    const databaseUrl = await postgres.createDatabase('crashed')
    const store = await openStore({ dataDir: 'unused', databaseUrl, log: silent })
    const acknowledged: string[] = []
    const errors: unknown[] = []
    let crashes = 0
    const writer = async () => {
      for (let at = 0; crashes < 3 || acknowledged.length < 100; at++) {
        const id = `0-0-${at * 2}`
        const record = { id, teamId: 't', at: 0, actor: 'server', action: 'test.wrote', subject: 's', detail: {} }
        await appendAudit(store, record).then(
          () => acknowledged.push(id),
          (error: unknown) => errors.push(error),
        )
      }
    }
    const crashing = async () => {
      for (; crashes < 3; crashes++) await postgres.crash()
    }
    await Promise.all([writer(), crashing()])
    expect(errors.length).toBeGreaterThan(0)
    expect(errors.filter((error) => !(error instanceof ApiError && error.code === 'unavailable'))).toEqual([])
    await expectAll(store, acknowledged)
    await store.close()
  })

  test('one that takes no writes now, as a standby or a provider’s full one, is unavailable', async () => {
    const databaseUrl = await postgres.createDatabase('reading')
    const store = await openStore({ dataDir: 'unused', databaseUrl, log: silent })
    const db = Sql.db(store)
    await raw`alter database reading set default_transaction_read_only = on`.execute(db)
    // Whoever connects from here on finds it so.
    const endAll = raw`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()`
    await expect(endAll.execute(db)).rejects.toMatchObject({ code: 'unavailable' })
    const record = { id: '1', teamId: 't', at: 0, actor: 'server', action: 'test.wrote', subject: 's', detail: {} }
    // Until a new connection is there, it is the loss of the old ones that is told.
    const told = await until(async () => {
      const error = await appendAudit(store, record).then(
        () => new Error('it was written'),
        (thrown: Error) => thrown,
      )
      const isLoss = error instanceof ApiError && (error.cause as { code?: string }).code !== '25006'
      return isLoss ? undefined : error
    })
    expect(told).toMatchObject({ code: 'unavailable', cause: { code: '25006' } })
    await store.close()
  })

  test('a database that does not answer is one line without the password', async () => {
    const databaseUrl = 'postgres://someone:hunter2-secret@127.0.0.1:1/none'
    const opening = openStore({ dataDir: 'unused', databaseUrl, log: silent })
    await expect(opening).rejects.toThrow(
      /^the database of CYBERUN_DATABASE_URL does not answer: [^\n]*ECONNREFUSED[^\n]*$/,
    )
    await expect(opening).rejects.not.toThrow('hunter2')
  })
})
