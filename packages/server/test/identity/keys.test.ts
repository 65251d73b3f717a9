import { parseKey } from '@cyberun/protocol'
import { expect, test, vi } from 'vitest'
import { Sql } from '../../src/store/handle.ts'
import type { Tables } from '../../src/store/schema.ts'
import type { Store } from '../../src/store/store.ts'
import { holdTransaction } from '../store/away.ts'
import { onBothEngines } from '../store/engines.ts'
import { ADDRESS, DAY, identityWorld, PAGE, PASSWORD, refusal, refusalCode, SECOND } from './identity-world.ts'

onBothEngines('keys', ({ emptyStore }) => {
  test('say whose they are, of which kind, until revoked; then never again', async () => {
    const { identity, said, team } = await identityWorld(await emptyStore())
    const { owner, member } = await team('one')
    const made = await identity.createCredential(member, { kind: 'integration', displayName: 'ci' })
    expect(parseKey(made.rawKey)).toBe('sk')
    expect(made.keyPrefix).toBe(made.rawKey.slice(0, 12))
    const caller = await identity.authenticate(made.rawKey, ADDRESS)
    const { userId, teamId } = member
    expect(caller).toEqual({ kind: 'integration', userId, teamId, credentialId: made.id, role: 'member' })

    await identity.revokeCredential(owner, made.id)
    expect(said['credential.revoked']).toEqual([{ credentialId: made.id }])
    expect(await refusalCode(identity.authenticate(made.rawKey, ADDRESS))).toBe('unauthenticated')
    await identity.revokeCredential(owner, made.id)
    expect((await identity.listCredentials(owner, undefined, PAGE)).rows).toMatchObject([{ keyStatus: 'revoked' }])
  })

  test('are not made for somebody who is removed meanwhile', async () => {
    const store = await emptyStore()
    const { identity, team } = await identityWorld(store)
    const { owner, member } = await team('one')
    const held = holdTransaction(store)
    const making = identity.createCredential(member, { kind: 'agent', displayName: 'box' })
    await held.begun
    await identity.removeMember(owner, member.userId)
    held.goOn()
    expect(await refusalCode(making)).toBe('not_found')
    expect((await identity.listCredentials(owner, undefined, PAGE)).rows).toEqual([])
  })

  test('are revoked by who made them, an admin or the owner', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { admin, member, owner } = await team('one')
    const of = async (actor: typeof member) =>
      (await identity.createCredential(actor, { kind: 'agent', displayName: 'box' })).id
    await identity.revokeCredential(member, await of(member))
    await identity.revokeCredential(admin, await of(owner))
    expect(await refusalCode(identity.revokeCredential(member, await of(admin)))).toBe('forbidden')
  })

  test('expire, and what they hold open is told to end within a second', async () => {
    const { identity, said, team, pass } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const made = await identity.createCredential(member, { kind: 'agent', displayName: 'box', expiresInDays: 1 })
    pass(DAY - 1)
    await identity.authenticate(made.rawKey, ADDRESS)
    pass(1)
    expect(await refusalCode(identity.authenticate(made.rawKey, ADDRESS))).toBe('unauthenticated')
    await vi.waitFor(() => expect(said['credential.revoked']).toEqual([{ credentialId: made.id }]), { timeout: 10_000 })
    expect((await identity.listCredentials(member, 'agent', PAGE)).rows).toMatchObject([{ keyStatus: 'expired' }])
  })

  test('remember when they were last used, to the minute', async () => {
    const { identity, team, pass, now } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const { rawKey } = await identity.createCredential(member, { kind: 'integration', displayName: 'ci' })
    const lastUsed = async () => (await identity.listCredentials(member, undefined, PAGE)).rows[0]?.lastUsedAt
    expect(await lastUsed()).toBeNull()
    const first = now()
    await identity.authenticate(rawKey, ADDRESS)
    pass(59 * SECOND)
    await identity.authenticate(rawKey, ADDRESS)
    expect(await lastUsed()).toBe(first)
    pass(SECOND)
    await identity.authenticate(rawKey, ADDRESS)
    expect(await lastUsed()).toBe(now())
  })

  test('are recalled without the store until their use is noted again or their time is up', async () => {
    const { identity, another, team, pass } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const request = { kind: 'integration', displayName: 'ci', expiresInDays: 1 } as const
    const { id, rawKey } = await identity.createCredential(member, request)
    const recalled = () => identity.recall(rawKey)
    expect(recalled()).toBeUndefined()
    const caller = await identity.authenticate(rawKey, ADDRESS)
    expect(recalled()).toEqual({ ...caller, isRecalled: true })
    pass(59 * SECOND)
    // A second reading lets it be recalled no longer: its use is still that of a minute ago.
    await identity.authenticate(rawKey, ADDRESS)
    expect(recalled()).toBeDefined()
    pass(SECOND)
    expect(recalled()).toBeUndefined()
    pass(DAY - 90 * SECOND)
    await identity.authenticate(rawKey, ADDRESS)
    pass(30 * SECOND - 1)
    await (await another()).revokeCredential(member, id)
    expect(recalled()).toBeDefined()
    pass(1)
    expect(recalled()).toBeUndefined()
    expect(await refusalCode(identity.authenticate(rawKey, ADDRESS))).toBe('unauthenticated')
    expect([recalled(), identity.recall('sk-nobody'), identity.recall('')]).toEqual([undefined, undefined, undefined])
  })

  test('are listed by kind and page, newest first, without the secret', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    for (const name of ['a', 'b', 'c']) await identity.createCredential(member, { kind: 'agent', displayName: name })
    const other = await identity.createCredential(member, { kind: 'integration', displayName: 'd' })
    const page = await identity.listCredentials(member, 'agent', { current_page: 1, per_page: 2 })
    expect([page.totalCount, ...page.rows.map((row) => row.displayName)]).toEqual([3, 'c', 'b'])
    const all = JSON.stringify(await identity.listCredentials(member, undefined, PAGE))
    expect(all).toContain(other.keyPrefix)
    expect(all).not.toContain(other.rawKey.slice(12))
  })
})

onBothEngines('what was done in a team', ({ emptyStore }) => {
  test('is told newest first, page by page, of one action if it is named, and of no other team', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { member, owner } = await team('one')
    const other = await team('two')
    await identity.createCredential(other.member, { kind: 'agent', displayName: 'theirs' })
    const first = await identity.createCredential(member, { kind: 'agent', displayName: 'first' })
    const second = await identity.createCredential(member, { kind: 'integration', displayName: 'second' })
    await identity.revokeCredential(owner, first.id)

    const [newest] = (await identity.listAudit(owner, undefined, { current_page: 1, per_page: 1 })).rows
    expect(newest).toMatchObject({ action: 'credential.revoked', subject: first.id, actor: `user:${owner.userId}` })
    const made = await identity.listAudit(owner, 'credential.created', PAGE)
    expect([made.totalCount, ...made.rows.map(({ subject }) => subject)]).toEqual([2, second.id, first.id])
    expect(made.rows.map(({ detail }) => detail)).toEqual([{ kind: 'integration' }, { kind: 'agent' }])
    const next = await identity.listAudit(owner, 'credential.created', { current_page: 2, per_page: 1 })
    expect([next.totalCount, ...next.rows.map(({ subject }) => subject)]).toEqual([2, first.id])
  })
})

onBothEngines('pairing a device', ({ emptyStore }) => {
  test('hands out both keys once, after a person typed the code in any spelling', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const codes = await identity.startPairing(ADDRESS)
    expect(codes.userCode).toMatch(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
    expect([codes.expiresInSeconds, codes.intervalSeconds]).toEqual([300, 2])
    expect(await identity.pollPairing(codes.deviceCode, ADDRESS)).toEqual({ status: 'pending' })

    const [left = '', right = ''] = codes.userCode.toLowerCase().split('-')
    await identity.confirmPairing(member, ` ${left} ${right}\t`, "Ada's laptop")
    expect(await refusalCode(identity.confirmPairing(member, codes.userCode, undefined))).toBe('not_found')
    const state = await identity.pollPairing(codes.deviceCode, ADDRESS)
    if (state.status !== 'approved') throw new Error('expected the keys')
    const device = await identity.authenticate(state.rawKey, ADDRESS)
    const agent = await identity.authenticate(state.agentKey, ADDRESS)
    expect(device).toMatchObject({ kind: 'device', userId: member.userId, teamId: member.teamId })
    expect(agent).toMatchObject({ kind: 'agent', userId: member.userId, teamId: member.teamId })
    expect([parseKey(state.rawKey), parseKey(state.agentKey)]).toEqual(['dk', 'ak'])
    expect(await refusalCode(identity.pollPairing(codes.deviceCode, ADDRESS))).toBe('not_found')
  })

  test('is over after five minutes', async () => {
    const { identity, team, pass } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const codes = await identity.startPairing(ADDRESS)
    pass(300 * SECOND)
    expect(await refusalCode(identity.confirmPairing(member, codes.userCode, undefined))).toBe('not_found')
    expect(await refusalCode(identity.pollPairing(codes.deviceCode, ADDRESS))).toBe('not_found')
  })

  test('gives nothing to a device whose person was removed in between', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { owner, member } = await team('one')
    const codes = await identity.startPairing(ADDRESS)
    await identity.confirmPairing(member, codes.userCode, undefined)
    await identity.removeMember(owner, member.userId)
    expect(await refusalCode(identity.pollPairing(codes.deviceCode, ADDRESS))).toBe('not_found')
  })

  test('is undone with both keys, by the device or by revoking its key', async () => {
    const { identity, said, team } = await identityWorld(await emptyStore())
    const { owner, member } = await team('one')
    const pair = async () => {
      const codes = await identity.startPairing(ADDRESS)
      await identity.confirmPairing(member, codes.userCode, undefined)
      const state = await identity.pollPairing(codes.deviceCode, ADDRESS)
      if (state.status !== 'approved') throw new Error('expected the keys')
      const device = await identity.authenticate(state.rawKey, ADDRESS)
      if (device.kind === 'user') throw new Error('expected a device')
      return { device, keys: [state.rawKey, state.agentKey] }
    }
    const [first, second] = [await pair(), await pair()]
    await identity.revokeDevice(first.device)
    expect(said['credential.revoked']).toHaveLength(2)
    for (const key of second.keys) await identity.authenticate(key, ADDRESS)
    await identity.revokeCredential(owner, second.device.credentialId)
    expect(said['credential.revoked']).toHaveLength(4)
    for (const key of [...first.keys, ...second.keys]) {
      expect(await refusalCode(identity.authenticate(key, ADDRESS))).toBe('unauthenticated')
    }
  })

  test('is slow to guess and bounded in number', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    for (let i = 0; i < 10; i++) await refusal(identity.confirmPairing(member, 'BBBB-BBBB', undefined))
    expect(await refusalCode(identity.confirmPairing(member, 'BBBB-BBBB', undefined))).toBe('rate_limited')
    for (let i = 0; i < 20; i++) await identity.startPairing(ADDRESS)
    expect(await refusalCode(identity.startPairing(ADDRESS))).toBe('rate_limited')
  })
})

onBothEngines('at rest', (engines) => {
  test('no secret that was handed out stands in the database', async () => {
    const { identity, store, team, login } = await identityWorld(await engines.emptyStore())
    const { owner, member } = await team('one')
    const pair = await login('one-owner@example.org')
    const next = await identity.refresh(pair.refreshToken, ADDRESS)
    const { rawKey } = await identity.createCredential(member, { kind: 'integration', displayName: 'ci' })
    const invitation = await identity.createInvitation(owner, 'new@example.org', 'member')
    const waiting = await identity.startPairing(ADDRESS)
    const codes = await identity.startPairing(ADDRESS)
    await identity.confirmPairing(member, codes.userCode, 'laptop')
    const paired = await identity.pollPairing(codes.deviceCode, ADDRESS)
    if (paired.status !== 'approved') throw new Error('expected the keys')

    const rows = await everyRow(store)
    const secrets = {
      password: PASSWORD,
      accessToken: pair.accessToken,
      usedRefreshToken: pair.refreshToken,
      refreshToken: next.refreshToken,
      integrationKey: rawKey,
      invitation: invitation.invitationToken,
      waitingDevice: waiting.deviceCode,
      deviceKey: paired.rawKey,
      agentKey: paired.agentKey,
    }
    expect(Object.entries(secrets).filter(([, secret]) => rows.includes(secret))).toEqual([])
    expect(rows, 'the private signing key is sealed').not.toMatch(/"d":/)
    expect(rows, 'and this is indeed what is kept').toContain(rawKey.slice(0, 12))
  })
})

async function everyRow(store: Store): Promise<string> {
  const db = Sql.db(store)
  const tables = await db.introspection.getTables()
  const rows = await Promise.all(
    tables.map(({ name }) =>
      db
        .selectFrom(name as keyof Tables)
        .selectAll()
        .execute(),
    ),
  )
  return JSON.stringify(rows)
}
