import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ApiError } from '@cyberun/api'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { setMark } from '../../src/store/server-state.ts'
import type { SqliteAnswer } from '../../src/store/sqlite-messages.ts'
import { SqliteWriter } from '../../src/store/sqlite-writer.ts'
import { openStore } from '../../src/store/store.ts'
import { StoreOpenError } from '../../src/store/store-error.ts'
import { hasUsers } from '../../src/store/users.ts'
import { silent } from './engines.ts'

/** More than the table of these tests may have, and how SQLite says so. */
const LARGE = 'x'.repeat(200_000)
const FULL = 13

let dataDir: string
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'cyberun-sqlite-'))
})
afterEach(() => rm(dataDir, { recursive: true }))

test('what belongs to an open transaction is taken however much waits behind it', async () => {
  const store = await openStore({ dataDir, log: silent })
  const others: Promise<unknown>[] = []
  let refused = 0
  await store.transaction(async (sql) => {
    for (let at = 0; at < 10_500; at++) others.push(setMark(store, `mark-${at}`, 1).catch(() => refused++))
    await setMark(sql, 'own', 1)
  })
  await Promise.all(others)
  expect(refused).toBeGreaterThan(0)
  await store.close()
})

describe('the data directory', () => {
  test('is refused to a second server, which learns who has it, and free again after close', async () => {
    const first = await openStore({ dataDir, log: silent })
    const second = openStore({ dataDir, log: silent })
    await expect(second).rejects.toThrow(StoreOpenError)
    await expect(second).rejects.toThrow(`${dataDir} is in use by another server (pid ${process.pid})`)
    await first.close()
    await (await openStore({ dataDir, log: silent })).close()
  })

  test('is made when it is missing, for its owner only', async () => {
    const inner = join(dataDir, 'a', 'b')
    await (await openStore({ dataDir: inner, log: silent })).close()
    expect((await stat(inner)).mode & 0o777).toBe(0o700)
    expect((await stat(join(inner, 'cyberun.db'))).mode & 0o777).toBe(0o600)
  })

  test('that cannot be made is a clear line', async () => {
    const opening = openStore({ dataDir: '/dev/null/x', log: silent })
    await expect(opening).rejects.toThrow(StoreOpenError)
    await expect(opening).rejects.toThrow('/dev/null/x')
  })
})

test('a file that is no database is refused by name', async () => {
  await writeFile(join(dataDir, 'cyberun.db'), 'not a database, but long enough to have a header of one'.repeat(20))
  const opening = openStore({ dataDir, log: silent })
  await expect(opening).rejects.toThrow(
    `${join(dataDir, 'cyberun.db')} cannot be opened: file is not a database; restore`,
  )
})

test('a folder in its place is no reason to restore a backup', async () => {
  await mkdir(join(dataDir, 'cyberun.db'))
  const opening = openStore({ dataDir, log: silent })
  await expect(opening).rejects.toThrow(/cyberun\.db cannot be opened: EISDIR[^;]*$/)
})

test('more requests than may wait are told to try again, and the others are served', async () => {
  const store = await openStore({ dataDir, log: silent })
  const results = await Promise.allSettled(Array.from({ length: 10_500 }, () => hasUsers(store)))
  const refused = results.filter((result) => result.status === 'rejected').map(({ reason }) => reason)
  expect(refused.length).toBeGreaterThan(0)
  expect(refused.length).toBeLessThanOrEqual(500)
  expect(refused.every((reason) => reason instanceof ApiError && reason.code === 'unavailable')).toBe(true)
  expect(await hasUsers(store)).toBe(false)
  await store.close()
})

describe('the writer', () => {
  let answers: SqliteAnswer[]
  let writer: SqliteWriter
  let id = 0
  beforeEach(() => {
    vi.useFakeTimers()
    answers = []
    const file = join(dataDir, 'test.db')
    const connections = [new DatabaseSync(file), new DatabaseSync(file)] as const
    connections[0].exec('pragma journal_mode = wal')
    connections[0].exec('create table item (name text primary key)')
    connections[0].exec('pragma max_page_count = 20')
    writer = new SqliteWriter(...connections, (answer) => answers.push(answer))
    return () => {
      writer.close()
      for (const connection of connections) connection.close()
      vi.useRealTimers()
    }
  })
  const insert = (name: string) => ({ sql: 'insert into item values (?)', parameters: [name] })
  const names = () => {
    const statements = [{ sql: 'select name from item order by name', parameters: [] }]
    writer.accept({ id: ++id, kind: 'read', statements })
    return answers.at(-1)?.rows?.map((row) => row['name'])
  }

  test('lets later writes wait for an open transaction, in order', () => {
    writer.accept({ id: 1, kind: 'begin' })
    writer.accept({ id: 2, kind: 'write', statements: [insert('later')] })
    vi.runOnlyPendingTimers()
    expect(answers).toEqual([{ id: 1, transaction: 1 }])
    writer.accept({ id: 3, kind: 'run', transaction: 1, statements: [insert('first')] })
    writer.accept({ id: 4, kind: 'commit', transaction: 1 })
    vi.runOnlyPendingTimers()
    expect(answers.slice(1)).toEqual([{ id: 3, changes: 1 }, { id: 4 }, { id: 2, changes: 1 }])
    expect(names()).toEqual(['first', 'later'])
  })

  test('rolls a forgotten transaction back and lets the next one in', () => {
    writer.accept({ id: 1, kind: 'begin' })
    vi.advanceTimersByTime(1)
    writer.accept({ id: 2, kind: 'run', transaction: 1, statements: [insert('forgotten')] })
    writer.accept({ id: 3, kind: 'begin' })
    vi.advanceTimersByTime(10_001)
    expect(answers.at(-1)).toEqual({ id: 3, transaction: 2 })
    writer.accept({ id: 4, kind: 'run', transaction: 1, statements: [insert('late')] })
    writer.accept({ id: 5, kind: 'commit', transaction: 1 })
    writer.accept({ id: 6, kind: 'rollback', transaction: 1 })
    expect(answers.slice(-3).map((answer) => [answer.id, answer.error?.errcode])).toEqual([
      [4, 5],
      [5, 5],
      [6, undefined],
    ])
    writer.accept({ id: 7, kind: 'commit', transaction: 2 })
    expect(names()).toEqual([])
  })

  test('keeps a transaction for as long as its owner goes on: a large migration takes its time', () => {
    writer.accept({ id: 1, kind: 'begin' })
    vi.advanceTimersByTime(1)
    for (const name of ['a', 'b', 'c']) {
      vi.advanceTimersByTime(9_000)
      writer.accept({ id: 2, kind: 'run', transaction: 1, statements: [insert(name)] })
    }
    vi.advanceTimersByTime(9_000)
    writer.accept({ id: 3, kind: 'commit', transaction: 1 })
    expect(names()).toEqual(['a', 'b', 'c'])
  })

  test('does nothing more of a transaction that a full disk has undone, and says why', () => {
    writer.accept({ id: 1, kind: 'begin' })
    vi.advanceTimersByTime(1)
    writer.accept({ id: 2, kind: 'run', transaction: 1, statements: [insert('first')] })
    writer.accept({ id: 3, kind: 'run', transaction: 1, statements: [insert(LARGE)] })
    writer.accept({ id: 4, kind: 'run', transaction: 1, statements: [insert('after')] })
    writer.accept({ id: 5, kind: 'commit', transaction: 1 })
    writer.accept({ id: 6, kind: 'rollback', transaction: 1 })
    expect(answers.slice(2).map((answer) => [answer.id, answer.error?.errcode])).toEqual([
      ...[
        [3, FULL],
        [4, 5],
        [5, 5],
      ],
      [6, undefined],
    ])
    expect(names()).toEqual([])
    writer.accept({ id: 7, kind: 'write', statements: [insert('next')] })
    vi.runOnlyPendingTimers()
    expect(names()).toEqual(['next'])
  })

  test('does none of the writes that share a commit with one for which the disk was full, and tells all of them', () => {
    for (const [at, name] of ['a', LARGE, 'b'].entries()) {
      writer.accept({ id: at, kind: 'write', statements: [insert(name)] })
    }
    vi.runOnlyPendingTimers()
    expect(answers.map((answer) => [answer.id, answer.error?.errcode])).toEqual([0, 1, 2].map((at) => [at, FULL]))
    expect(names()).toEqual([])
  })

  test('joins what waits into one commit and undoes only what fails', () => {
    for (const [at, name] of ['a', 'b', 'a', 'c'].entries()) {
      writer.accept({ id: at, kind: 'write', statements: [insert(name)] })
    }
    vi.runOnlyPendingTimers()
    expect(answers.map((answer) => [answer.id, answer.changes, answer.error?.errcode])).toEqual([
      [0, 1, undefined],
      [1, 1, undefined],
      [2, undefined, 1555], // SQLITE_CONSTRAINT_PRIMARYKEY
      [3, 1, undefined],
    ])
    expect(names()).toEqual(['a', 'b', 'c'])
  })

  test('does all statements of a write or none, and answers as its last one does', () => {
    const returning = { sql: 'insert into item values (?) returning name', parameters: ['b'] }
    writer.accept({ id: 1, kind: 'write', statements: [insert('a'), returning] })
    vi.runOnlyPendingTimers()
    writer.accept({ id: 2, kind: 'write', statements: [insert('c'), insert('a')] })
    writer.accept({ id: 3, kind: 'write', statements: [insert('d')] })
    vi.runOnlyPendingTimers()
    expect(answers.map((answer) => [answer.id, answer.rows ?? answer.changes, answer.error?.errcode])).toEqual([
      [1, [{ name: 'b' }], undefined],
      [2, undefined, 1555],
      [3, 1, undefined],
    ])
    expect(names()).toEqual(['a', 'b', 'd'])
  })
})
