import { expect, test } from 'vitest'
import { holdTransaction } from '../store/away.ts'
import { onBothEngines } from '../store/engines.ts'
import { ADDRESS, DAY, HOUR, identityWorld, PAGE, PASSWORD, refusal, refusalCode, SECOND } from './identity-world.ts'

const CANNOT = '00000000-0000-7000-8000-000000000000'

onBothEngines('signing in', ({ emptyStore }) => {
  test('the first start makes a user, a team and a password, and later starts make nothing', async () => {
    const { identity } = await identityWorld(await emptyStore())
    const first = await identity.bootstrap('Owner@Localhost.example')
    if (first === undefined) throw new Error('expected a first user')
    const pair = await identity.login('owner@localhost.EXAMPLE', first.userPassword, ADDRESS)
    const caller = await identity.authenticate(pair.accessToken, ADDRESS)
    expect(caller).toMatchObject({ kind: 'user', userId: first.userId })
    expect(await identity.roleIn(first.userId, first.teamId)).toBe('owner')
    expect((await identity.me(first.userId)).teams).toMatchObject([{ id: first.teamId, role: 'owner' }])
    expect(await identity.bootstrap('owner@localhost.example')).toBeUndefined()
  })

  test('with a password that is changed meanwhile is refused', async () => {
    const store = await emptyStore()
    const { identity, login, person } = await identityWorld(store)
    const { userId, emailAddress } = await person('ada')
    // Its password was found right by then.
    const held = holdTransaction(store)
    const signingIn = login(emailAddress)
    await held.begun
    await identity.changePassword(userId, PASSWORD, 'another password')
    held.goOn()
    expect(await refusalCode(signingIn)).toBe('unauthenticated')
  })

  test('every failure of a login is the same answer', async () => {
    const { identity, person } = await identityWorld(await emptyStore())
    await person('ada')
    const wrongPassword = await refusal(identity.login('ada@example.org', 'wrong', ADDRESS))
    const unknownUser = await refusal(identity.login('nobody@example.org', PASSWORD, ADDRESS))
    expect(wrongPassword.code).toBe('unauthenticated')
    expect({ ...unknownUser, message: unknownUser.message }).toEqual({
      ...wrongPassword,
      message: wrongPassword.message,
    })
  })

  test('a refresh token is good once; coming back a second time it ends the whole sign-in', async () => {
    const { identity, said, person, login } = await identityWorld(await emptyStore())
    await person('ada')
    const other = await login('ada@example.org')
    const first = await login('ada@example.org')
    const second = await identity.refresh(first.refreshToken, ADDRESS)
    expect(await refusalCode(identity.refresh(first.refreshToken, ADDRESS))).toBe('unauthenticated')
    expect(said['session.revoked']).toHaveLength(1)
    for (const { accessToken } of [first, second]) {
      expect(await refusalCode(identity.authenticate(accessToken, ADDRESS))).toBe('unauthenticated')
    }
    expect(await refusalCode(identity.refresh(second.refreshToken, ADDRESS))).toBe('unauthenticated')
    await identity.authenticate(other.accessToken, ADDRESS)
    expect(await refusalCode(identity.refresh('no such token', ADDRESS))).toBe('unauthenticated')
  })

  test('of two refreshes at the same time at most one wins', async () => {
    const { identity, person, login } = await identityWorld(await emptyStore())
    await person('ada')
    const { refreshToken } = await login('ada@example.org')
    const tries = await Promise.allSettled([1, 2, 3].map(() => identity.refresh(refreshToken, ADDRESS)))
    expect(tries.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
  })

  test('an access token lasts an hour, a sign-in as long as it is refreshed', async () => {
    const { identity, person, login, pass } = await identityWorld(await emptyStore())
    await person('ada')
    let pair = await login('ada@example.org')
    expect(pair.expiresInSeconds).toBe(3600)
    pass(HOUR - SECOND)
    await identity.authenticate(pair.accessToken, ADDRESS)
    pass(SECOND)
    expect(await refusalCode(identity.authenticate(pair.accessToken, ADDRESS))).toBe('unauthenticated')
    for (let week = 0; week < 8; week++) {
      pass(7 * DAY)
      pair = await identity.refresh(pair.refreshToken, ADDRESS)
    }
    pass(30 * DAY)
    expect(await refusalCode(identity.refresh(pair.refreshToken, ADDRESS))).toBe('unauthenticated')
  })

  test('a new password ends every sign-in at once', async () => {
    const { identity, said, person, login } = await identityWorld(await emptyStore())
    const { userId } = await person('ada')
    const pairs = [await login('ada@example.org'), await login('ada@example.org')]
    const wrong = await refusal(identity.changePassword(userId, 'wrong', 'new password'))
    expect([wrong.code, wrong.details?.[0]?.path]).toEqual(['invalid_request', 'body.current_password'])
    await identity.changePassword(userId, PASSWORD, 'new password')
    expect(said['session.revoked']).toHaveLength(2)
    for (const { accessToken, refreshToken } of pairs) {
      expect(await refusalCode(identity.authenticate(accessToken, ADDRESS))).toBe('unauthenticated')
      expect(await refusalCode(identity.refresh(refreshToken, ADDRESS))).toBe('unauthenticated')
    }
    expect(await refusalCode(identity.login('ada@example.org', PASSWORD, ADDRESS))).toBe('unauthenticated')
    await identity.login('ada@example.org', 'new password', ADDRESS)
  })

  test('guessing is slowed down by account and by address; the right password does not count', async () => {
    const { identity, person, pass } = await identityWorld(await emptyStore())
    await person('ada')
    for (let i = 0; i < 12; i++) await identity.login('ada@example.org', PASSWORD, ADDRESS)
    for (let i = 0; i < 10; i++) await refusal(identity.login('ada@example.org', `guess ${i}`, `198.51.100.${i}`))
    const limited = await refusal(identity.login('Ada@example.org', PASSWORD, '203.0.113.9'))
    expect(limited.code).toBe('rate_limited')
    expect(limited.retryAfterSeconds).toBe(6)
    pass(6 * SECOND)
    await identity.login('ada@example.org', PASSWORD, ADDRESS)

    for (let i = 0; i < 30; i++) await refusal(identity.login(`user${i}@example.org`, 'guess', ADDRESS))
    expect(await refusalCode(identity.login('user30@example.org', 'guess', ADDRESS))).toBe('rate_limited')
  })

  test('wrong keys are answered 429 after a while, right ones never', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { member } = await team('one')
    const { rawKey } = await identity.createCredential(member, { kind: 'integration', displayName: 'ci' })
    for (let i = 0; i < 60; i++)
      expect(await refusalCode(identity.authenticate('garbage', ADDRESS))).toBe('unauthenticated')
    expect(await refusalCode(identity.authenticate('garbage', ADDRESS))).toBe('rate_limited')
    expect(await refusalCode(identity.authenticate('garbage', '::ffff:192.0.2.1'))).toBe('rate_limited')
    await identity.authenticate(rawKey, ADDRESS)
  })
})

onBothEngines('teams', ({ emptyStore }) => {
  test('are private: a stranger has no role, and what is not there looks like what is foreign', async () => {
    const { identity, team, person } = await identityWorld(await emptyStore())
    const one = await team('one')
    const two = await team('two')
    const stranger = await person('stranger')
    expect(await identity.roleIn(stranger.userId, one.owner.teamId)).toBeUndefined()
    expect(await identity.roleIn(one.owner.userId, CANNOT)).toBeUndefined()
    const foreignKey = await identity.createCredential(two.owner, { kind: 'agent', displayName: 'x' })
    const foreignInvitation = await identity.createInvitation(two.owner, 'new@example.org', 'viewer')
    for (const [foreign, unknown] of [
      [() => identity.revokeCredential(one.owner, foreignKey.id), () => identity.revokeCredential(one.owner, CANNOT)],
      [
        () => identity.deleteInvitation(one.owner, foreignInvitation.id),
        () => identity.deleteInvitation(one.owner, CANNOT),
      ],
      [() => identity.removeMember(one.owner, two.member.userId), () => identity.removeMember(one.owner, CANNOT)],
      [
        () => identity.updateMember(one.owner, two.member.userId, 'viewer'),
        () => identity.updateMember(one.owner, CANNOT, 'viewer'),
      ],
      [() => identity.transferTeam(one.owner, two.member.userId), () => identity.transferTeam(one.owner, CANNOT)],
    ] as const) {
      const [first, second] = [await refusal(foreign()), await refusal(unknown())]
      expect(first.code).toBe('not_found')
      expect({ ...first, message: first.message }).toEqual({ ...second, message: second.message })
    }
  })

  test('are listed by pages', async () => {
    const { identity, person } = await identityWorld(await emptyStore())
    const { userId } = await person('ada')
    for (let i = 0; i < 5; i++) await identity.createTeam(userId, `team ${i}`)
    const names = async (current_page: number) => {
      const { rows, totalCount } = await identity.listTeams(userId, { current_page, per_page: 2 })
      return [totalCount, ...rows.map((row) => row.displayName)]
    }
    expect([await names(1), await names(3), await names(4)]).toEqual([[5, 'team 0', 'team 1'], [5, 'team 4'], [5]])
  })

  test('have one owner, who leaves only after giving the team away', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { owner, admin, member } = await team('one')
    expect(await refusalCode(identity.removeMember(owner, owner.userId))).toBe('conflict')
    expect(await refusalCode(identity.updateMember(admin, owner.userId, 'viewer'))).toBe('conflict')
    expect(await refusalCode(identity.transferTeam(admin, admin.userId))).toBe('forbidden')
    await identity.transferTeam(owner, member.userId)
    expect(await identity.roleIn(member.userId, owner.teamId)).toBe('owner')
    expect(await identity.roleIn(owner.userId, owner.teamId)).toBe('admin')
    expect(await refusalCode(identity.deleteTeam(owner))).toBe('forbidden')
    await identity.removeMember({ ...owner, role: 'admin' }, owner.userId)
    expect(await identity.roleIn(owner.userId, owner.teamId)).toBeUndefined()
  })

  test('are left by anybody; only admin and owner remove others, and the keys of who is gone are dead', async () => {
    const { identity, said, team } = await identityWorld(await emptyStore())
    const { owner, admin, member, viewer } = await team('one')
    const key = await identity.createCredential(member, { kind: 'agent', displayName: 'box' })
    expect(await refusalCode(identity.removeMember(viewer, member.userId))).toBe('forbidden')
    await identity.removeMember(viewer, viewer.userId)
    await identity.removeMember(admin, member.userId)
    expect(said['member.removed'].map((message) => message.userId)).toEqual([viewer.userId, member.userId])
    expect(said['credential.revoked']).toEqual([{ credentialId: key.id }])
    expect(await refusalCode(identity.authenticate(key.rawKey, ADDRESS))).toBe('unauthenticated')
    expect((await identity.listMembers(owner, PAGE)).rows.map((row) => row.role)).toEqual(['owner', 'admin'])
  })

  test('are changed by those alone who may now: the role by which a call was let in may have gone since', async () => {
    const { identity, team, person } = await identityWorld(await emptyStore())
    const { owner, admin, member } = await team('one')
    const { emailAddress } = await person('friend')
    await identity.updateMember(owner, admin.userId, 'viewer')
    expect(await refusalCode(identity.updateMember(admin, admin.userId, 'admin'))).toBe('forbidden')
    expect(await refusalCode(identity.removeMember(admin, member.userId))).toBe('forbidden')
    expect(await refusalCode(identity.createInvitation(admin, emailAddress, 'admin'))).toBe('forbidden')
    expect(await identity.roleIn(admin.userId, owner.teamId)).toBe('viewer')

    const { emailAddress: own } = await identity.me(admin.userId)
    await identity.removeMember(owner, admin.userId)
    expect(await refusalCode(identity.createInvitation(admin, own, 'admin'))).toBe('not_found')
    expect(await refusalCode(identity.removeMember(admin, member.userId))).toBe('not_found')
  })

  test('tell when somebody loses the role that let them work', async () => {
    const { identity, said, team } = await identityWorld(await emptyStore())
    const { owner, member } = await team('one')
    await identity.updateMember(owner, member.userId, 'admin')
    expect(said['member.removed']).toEqual([])
    await identity.updateMember(owner, member.userId, 'viewer')
    expect(said['member.removed']).toEqual([{ teamId: owner.teamId, userId: member.userId }])
  })

  test('when deleted take their keys with them', async () => {
    const { identity, said, team } = await identityWorld(await emptyStore())
    const { owner } = await team('one')
    const key = await identity.createCredential(owner, { kind: 'integration', displayName: 'ci' })
    await identity.deleteTeam(owner)
    expect(said['team.deleted']).toEqual([{ teamId: owner.teamId }])
    expect(said['credential.revoked']).toEqual([{ credentialId: key.id }])
    expect(await refusalCode(identity.authenticate(key.rawKey, ADDRESS))).toBe('unauthenticated')
    expect((await identity.listTeams(owner.userId, PAGE)).totalCount).toBe(0)
  })

  test('are joined by invitation: for one address, once, for a week', async () => {
    const { identity, team, person, pass } = await identityWorld(await emptyStore())
    const { owner } = await team('one')
    const [ada, eve] = [await person('ada'), await person('eve')]
    const stale = await identity.createInvitation(owner, 'ADA@example.org', 'viewer')
    const { invitationToken } = await identity.createInvitation(owner, 'ada@example.org', 'member')
    expect((await identity.listInvitations(owner, PAGE)).rows).toMatchObject([{ invitationRole: 'member' }])
    for (const [userId, token] of [
      [eve.userId, invitationToken],
      [ada.userId, stale.invitationToken],
      [ada.userId, 'garbage'],
    ] as const) {
      expect(await refusalCode(identity.acceptInvitation(userId, token))).toBe('not_found')
    }
    await identity.acceptInvitation(ada.userId, invitationToken)
    expect(await identity.roleIn(ada.userId, owner.teamId)).toBe('member')
    expect(await refusalCode(identity.acceptInvitation(ada.userId, invitationToken))).toBe('not_found')
    expect(await refusalCode(identity.createInvitation(owner, 'Ada@example.org', 'viewer'))).toBe('already_member')

    const late = await identity.createInvitation(owner, 'eve@example.org', 'member')
    pass(7 * DAY)
    expect((await identity.listInvitations(owner, PAGE)).totalCount).toBe(0)
    expect(await refusalCode(identity.acceptInvitation(eve.userId, late.invitationToken))).toBe('not_found')
  })

  test('let in who has no account yet, with the invitation alone', async () => {
    const { identity, team } = await identityWorld(await emptyStore())
    const { owner } = await team('one')
    const { invitationToken } = await identity.createInvitation(owner, 'new@example.org', 'member')
    const register = (token: string) => identity.registerByInvitation(token, 'New', PASSWORD, ADDRESS)
    expect(await refusalCode(register('garbage'))).toBe('not_found')
    const { id } = await register(invitationToken)
    expect(await identity.roleIn(id, owner.teamId)).toBe('member')
    expect((await identity.me(id)).emailAddress).toBe('new@example.org')
    expect(await refusalCode(register(invitationToken))).toBe('not_found')

    const { id: otherTeam } = await identity.createTeam(owner.userId, 'other')
    const again = await identity.createInvitation({ ...owner, teamId: otherTeam }, 'new@example.org', 'viewer')
    expect(await refusalCode(register(again.invitationToken))).toBe('conflict')
    await identity.acceptInvitation(id, again.invitationToken)
  })
})
