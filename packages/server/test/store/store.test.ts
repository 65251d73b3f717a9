import { sql as raw } from 'kysely'
import { expect, test } from 'vitest'
import { type AuditRecord, appendAudit } from '../../src/store/audit.ts'
import { Sql } from '../../src/store/handle.ts'
import { approvePairing, insertPairing, takeApprovedPairing } from '../../src/store/pairings.ts'
import type { Store } from '../../src/store/store.ts'
import { StoreOpenError } from '../../src/store/store-error.ts'
import {
  countMembers,
  deleteTeam,
  insertMember,
  insertTeam,
  listMembers,
  lockRole,
  roleOf,
  setRole,
} from '../../src/store/teams.ts'
import { findUserByEmail, insertUser } from '../../src/store/users.ts'
import { writeAll } from '../../src/store/write-all.ts'
import { onBothEngines } from './engines.ts'

const AT = 1_790_000_000_123
const PAGE = { current_page: 1, per_page: 20 }

const user = (id: string) => ({
  id,
  emailAddress: `${id}@example.org`,
  firstName: 'Ada',
  lastName: "O'Neil; drop table team",
  displayName: 'Ada ☃',
  passwordHash: '$argon2id$',
  createdAt: AT,
})
const record = (id: string): AuditRecord => ({
  id,
  teamId: 'team-1',
  at: AT,
  actor: 'server',
  action: 'test.wrote',
  subject: 'x',
  detail: { count: 1 },
})
const auditIds = async (store: Store) =>
  (await Sql.db(store).selectFrom('audit_record').select('id').orderBy('id').execute()).map((row) => row.id)

async function teamOfTwo(store: Store): Promise<void> {
  await insertUser(store, user('ada'))
  await insertUser(store, user('bob'))
  await insertTeam(store, { id: 'team-1', displayName: 'One', createdAt: AT })
  await insertMember(store, { teamId: 'team-1', userId: 'ada', role: 'owner', joinedAt: AT })
  await insertMember(store, { teamId: 'team-1', userId: 'bob', role: 'member', joinedAt: AT + 1 })
}

onBothEngines('the store', ({ emptyStore, ownPlace }) => {
  test('gives back what was written, numbers as numbers, also after it was opened again', async () => {
    const open = await ownPlace()
    const first = await open()
    await teamOfTwo(first)
    await first.close()

    const store = await open()
    expect({ ...(await findUserByEmail(store, 'ada@example.org')) }).toStrictEqual(
      (({ createdAt: _, ...rest }) => rest)(user('ada')),
    )
    const members = await listMembers(store, 'team-1', PAGE)
    expect(members.map((member) => [member.userId, member.role, member.joinedAt])).toEqual([
      ['ada', 'owner', AT],
      ['bob', 'member', AT + 1],
    ])
    expect(await countMembers(store, 'team-1')).toBe(2)
  })

  test('a transaction that throws leaves nothing behind', async () => {
    const store = await emptyStore()
    const failing = store.transaction(async (sql) => {
      await appendAudit(sql, record('a'))
      throw new Error('changed my mind')
    })
    await expect(failing).rejects.toThrow('changed my mind')
    expect(await auditIds(store)).toEqual([])
  })

  test('statements that travel together happen all or not at all, and the connection goes on', async () => {
    const store = await emptyStore()
    await appendAudit(store, record('b'))
    const insert = (id: string) => raw`
      insert into audit_record (id, team_id, at, actor, action, subject, detail)
      select ${id}, team_id, at, actor, action, subject, detail from audit_record where id = 'b'`
    const fail = (sql: Sql) => writeAll(sql, [insert('a'), insert('b')], raw`delete from audit_record where id = 'b'`)
    await expect(fail(store)).rejects.toThrow(/unique/i)
    await expect(store.transaction(fail)).rejects.toThrow(/unique/i)
    expect(await auditIds(store)).toEqual(['b'])

    const work = (sql: Sql) => writeAll(sql, [insert('a'), insert('c')], raw`delete from audit_record where id <> 'b'`)
    expect(await store.transaction(work)).toMatchObject({ numAffectedRows: 2n })
    expect(await work(store)).toMatchObject({ numAffectedRows: 2n })
    expect(await auditIds(store)).toEqual(['b'])
  })

  test('of many writes at once only the wrong one fails', async () => {
    const store = await emptyStore()
    await appendAudit(store, record('050'))
    const ids = Array.from({ length: 100 }, (_, i) => String(i).padStart(3, '0'))
    const results = await Promise.allSettled(ids.map((id) => appendAudit(store, record(id))))
    expect(ids.filter((_, i) => results[i]?.status === 'rejected')).toEqual(['050'])
    expect(await auditIds(store)).toEqual(ids)
  })

  test('an acknowledged write is on disk, whatever its database is set to', async () => {
    const open = await ownPlace()
    const store = await open()
    const [question, answer] =
      Sql.engine(store) === 'sqlite'
        ? [raw`pragma synchronous`, { synchronous: 2 }]
        : [raw`show synchronous_commit`, { synchronous_commit: 'on' }]
    if (Sql.engine(store) === 'postgres') {
      const { rows } = await raw<{ name: string }>`select current_database() as name`.execute(Sql.db(store))
      await raw`alter database ${raw.id(rows[0]?.name ?? '')} set synchronous_commit = off`.execute(Sql.db(store))
    }
    await store.close()
    expect((await question.execute(Sql.db(await open()))).rows).toEqual([answer])
  })

  test('what a transaction wrote is seen by others only when it is over', async () => {
    const store = await emptyStore()
    await store.transaction(async (sql) => {
      await appendAudit(sql, record('a'))
      expect(await auditIds(store)).toEqual([])
    })
    expect(await auditIds(store)).toEqual(['a'])
  })

  test('transactions that wait for each other are run again, and both happen', async () => {
    const store = await emptyStore()
    await teamOfTwo(store)
    // Only PostgreSQL lets both begin; there each holds what the other wants.
    const together = new Set<string>()
    const { promise: bothHold, resolve } = Promise.withResolvers<void>()
    const lockBoth = (first: string, second: string) =>
      store.transaction(async (sql) => {
        await lockRole(sql, 'team-1', first)
        if (together.add(first).size === 2) resolve()
        if (Sql.engine(store) === 'postgres') await bothHold
        await lockRole(sql, 'team-1', second)
        await appendAudit(sql, record(`${first}-${second}`))
      })
    await Promise.all([lockBoth('ada', 'bob'), lockBoth('bob', 'ada')])
    expect(await auditIds(store)).toEqual(['ada-bob', 'bob-ada'])
  })

  test('a team never has two owners', async () => {
    const store = await emptyStore()
    await teamOfTwo(store)
    await expect(setRole(store, 'team-1', 'bob', 'owner')).rejects.toThrow()
    expect(await roleOf(store, 'team-1', 'bob')).toBe('member')
  })

  test('what is given out once goes to one of many who ask at the same time', async () => {
    const store = await emptyStore()
    await teamOfTwo(store)
    await insertPairing(store, { deviceCodeHash: 'h', userCode: 'CODE', createdAt: AT, expiresAt: AT + 1000 })
    await approvePairing(store, 'CODE', { userId: 'ada', teamId: 'team-1', deviceName: null }, AT)
    const takers = Array.from({ length: 20 }, () => store.transaction((sql) => takeApprovedPairing(sql, 'h', AT)))
    expect((await Promise.all(takers)).filter((approval) => approval !== undefined)).toHaveLength(1)
  })

  test('deleting a team takes its members and leaves its audit', async () => {
    const store = await emptyStore()
    await teamOfTwo(store)
    await appendAudit(store, record('a'))
    await deleteTeam(store, 'team-1')
    expect(await roleOf(store, 'team-1', 'ada')).toBeUndefined()
    expect(await auditIds(store)).toEqual(['a'])
  })

  test('refuses a schema of a newer release, by name', async () => {
    const open = await ownPlace()
    const store = await open()
    await raw`insert into schema_migration (name, timestamp) values ('9999_from_the_future', '')`.execute(Sql.db(store))
    await store.close()
    const opening = open()
    await expect(opening).rejects.toThrow(StoreOpenError)
    await expect(opening).rejects.toThrow('newer release (schema 9999_from_the_future)')
  })

  test('once closed every call fails, and none hangs', async () => {
    const store = await (await ownPlace())()
    await store.close()
    await expect(appendAudit(store, record('a'))).rejects.toThrow()
    await expect(store.transaction((sql) => appendAudit(sql, record('a')))).rejects.toThrow()
  })
})
