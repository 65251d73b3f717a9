import { type CallerKind, ErrorAnswer, type Role, type RouteName, type RouteSpec, routes } from '@cyberun/api'
import { formatKey } from '@cyberun/protocol'
import { createLocalJWKSet, jwtVerify } from 'jose'
import { uuidv7 } from 'uuidv7'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sent, TASK_REQUESTS } from './task-requests.ts'
import { PASSWORD, type Person, type Team, type TeamWorld, teamWorld } from './team-world.ts'

/**
 * Every route by every kind of caller, against a real store and real identity. What must come out is said here in
 * three lines (`expectedStatus`) that know nothing of the code.
 */

let world: TeamWorld
let shared: Team
beforeAll(async () => {
  world = await teamWorld()
  shared = await world.newTeam()
})
afterAll(() => world.close())

interface CallerCase {
  /** What the server should make of the secret; `bad` for whatever is no secret that is good now. */
  is: 'bad' | CallerKind
  role: Role
  /** For a signed-in user, whether X-Team-ID names a team of theirs. */
  team?: 'missing' | 'garbage' | 'foreign'
  user(people: TeamWorld['people']): Person
  headers(team: Team): Promise<Record<string, string>> | Record<string, string>
}

const bearer = (secret: string, teamId?: string) => ({
  authorization: `Bearer ${secret}`,
  ...(teamId !== undefined && { 'x-team-id': teamId }),
})
const bad = (headers: CallerCase['headers']): CallerCase => ({
  is: 'bad',
  role: 'owner',
  user: ({ owner }) => owner,
  headers,
})
const signedIn = (role: Role): CallerCase => ({
  is: 'user',
  role,
  user: (people) => people[role],
  headers: (team) => bearer(world.people[role].jwt, team.id),
})
const withTeam = (team: NonNullable<CallerCase['team']>, teamId: () => string | undefined): CallerCase => ({
  ...signedIn('owner'),
  team,
  headers: () => bearer(world.people.owner.jwt, teamId()),
})
const keyOf = (is: 'integration' | 'device', role: Role): CallerCase => ({
  is,
  role,
  user: (people) => people[role],
  headers: async (team) =>
    bearer(is === 'integration' ? await integrationKey(team, role) : (await pair(team, role)).raw_key),
})

const integrationKey = async (team: Team, role: Role) =>
  (await world.identity.createCredential(team.actor(role), { kind: 'integration', displayName: 'key' })).rawKey

async function pair(team: Team, role: Role): Promise<{ raw_key: string; agent_key: string }> {
  const { deviceCode, userCode } = await world.identity.startPairing('127.0.0.1')
  await world.identity.confirmPairing(team.actor(role), userCode, 'laptop')
  const state = await world.identity.pollPairing(deviceCode, '127.0.0.1')
  if (state.status !== 'approved') throw new Error('the pairing was confirmed')
  return { raw_key: state.rawKey, agent_key: state.agentKey }
}

async function revokedKey(team: Team): Promise<string> {
  const { id, rawKey } = await world.identity.createCredential(team.actor('owner'), {
    kind: 'integration',
    displayName: 'old',
  })
  await world.identity.revokeCredential(team.actor('owner'), id)
  return rawKey
}

/** A JWT whose sign-in is over: its refresh token came back a second time. */
async function endedJwt(): Promise<string> {
  const { accessToken, refreshToken } = await world.identity.login(world.people.owner.emailAddress, PASSWORD, '::1')
  await world.identity.refresh(refreshToken, '::1')
  await world.identity.refresh(refreshToken, '::1').catch(() => {})
  return accessToken
}

const CALLERS: Record<string, CallerCase> = {
  nobody: bad(() => ({})),
  'an empty bearer': bad(() => ({ authorization: 'Bearer ' })),
  'another scheme': bad((team) => ({ authorization: 'Basic b3duZXI6cGFzcw==', 'x-team-id': team.id })),
  garbage: bad((team) => bearer('garbage', team.id)),
  'a made-up sk-': bad(() => bearer(formatKey('sk', new Uint8Array(32)))),
  'a made-up JWT': bad((team) => bearer('eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.', team.id)),
  'a JWT of an ended sign-in': bad(async (team) => bearer(await endedJwt(), team.id)),
  'a JWT from before': bad(async (team) => {
    const { accessToken } = await world.daysAhead(-1, () =>
      world.identity.login(world.people.owner.emailAddress, PASSWORD, '::1'),
    )
    return bearer(accessToken, team.id)
  }),
  'a revoked sk-': bad(async (team) => bearer(await revokedKey(team))),
  'an expired sk-': bad(async (team) => {
    const { rawKey } = await world.daysAhead(-2, () =>
      world.identity.createCredential(team.actor('owner'), {
        kind: 'integration',
        displayName: 'short',
        expiresInDays: 1,
      }),
    )
    return bearer(rawKey)
  }),
  'an ak-': bad(async (team) => {
    const { rawKey } = await world.identity.createCredential(team.actor('owner'), { kind: 'agent', displayName: 'gpu' })
    return bearer(rawKey, team.id)
  }),
  'the ak- of a device': bad(async (team) => bearer((await pair(team, 'owner')).agent_key, team.id)),
  'the owner': signedIn('owner'),
  'an admin': signedIn('admin'),
  'a member': signedIn('member'),
  'a viewer': signedIn('viewer'),
  'the owner without X-Team-ID': withTeam('missing', () => undefined),
  'the owner with a garbage X-Team-ID': withTeam('garbage', () => "x' or 1=1"),
  'the owner with a foreign X-Team-ID': withTeam('foreign', () => world.foreign.id),
  'the owner with an unknown X-Team-ID': withTeam('foreign', uuidv7),
  'an sk- of the owner': keyOf('integration', 'owner'),
  'an sk- of a member': keyOf('integration', 'member'),
  'an sk- with a foreign X-Team-ID': {
    ...keyOf('integration', 'member'),
    headers: async (team) => bearer(await integrationKey(team, 'member'), world.foreign.id),
  },
  'a dk- of the owner': keyOf('device', 'owner'),
  'a dk- of a member': keyOf('device', 'member'),
}

const RANK: Record<Role, number> = { viewer: 0, member: 1, admin: 2, owner: 3 }

function expectedStatus(spec: RouteSpec, caller: CallerCase): number {
  const done = spec.answer || spec.eventStream ? (spec.status ?? 200) : 204
  if (spec.callers === 'anyone') return done
  if (caller.is === 'bad') return 401
  if (!spec.callers.includes(caller.is)) return 403
  if (!spec.role) return done
  if (caller.team) return { missing: 400, garbage: 400, foreign: 404 }[caller.team]
  return RANK[caller.role] < RANK[spec.role] ? 403 : done
}

/** A request that succeeds for whoever is let in: about objects of `team`, made for it. */
type Prepare = (team: Team, caller: CallerCase) => Promise<Sent> | Sent

const invite = (team: Team, emailAddress: string) =>
  world.identity.createInvitation(team.actor('owner'), emailAddress, 'viewer')
const freshAddress = () => `${uuidv7()}@example.org`
const agentOf = (team: Team): Sent => ({ params: { agentId: team.agentId } })
const sessionOf = (team: Team): Sent => ({ params: { agentId: team.agentId, sessionId: team.sessionId } })

const inspectedOf: Prepare = async (team) => {
  const number = String(await world.inspected(team))
  return { params: { agentId: team.agentId, sessionId: team.sessionId, number } }
}

const REQUESTS: Record<RouteName, Prepare> = {
  'POST /auth/login': (_team, caller) => ({
    body: { email_address: caller.user(world.people).emailAddress, user_password: PASSWORD },
  }),
  'POST /auth/refresh': async () => {
    const { refreshToken } = await world.identity.login(world.people.owner.emailAddress, PASSWORD, '::1')
    return { body: { refresh_token: refreshToken } }
  },
  'GET /users/me': () => ({}),
  'PUT /users/me/password': () => ({ body: { current_password: PASSWORD, new_password: PASSWORD } }),
  'POST /teams': () => ({ body: { display_name: 'Another' } }),
  'GET /teams': () => ({}),
  'PUT /teams/current': () => ({ body: { display_name: 'Renamed' } }),
  'DELETE /teams/current': () => ({}),
  'POST /teams/current/transfer': () => ({ body: { new_owner_id: world.people.member.id } }),
  'GET /members': () => ({}),
  'PUT /members/{userId}': () => ({ params: { userId: world.people.viewer.id }, body: { role: 'member' } }),
  // Anybody may leave but the owner, who may remove others.
  'DELETE /members/{userId}': (_team, caller) => ({
    params: { userId: caller.role === 'owner' ? world.people.viewer.id : caller.user(world.people).id },
  }),
  'GET /invitations': () => ({}),
  'POST /invitations': () => ({ body: { email_address: freshAddress(), invitation_role: 'member' } }),
  'DELETE /invitations/{id}': async (team) => ({ params: { id: (await invite(team, freshAddress())).id } }),
  'POST /invitations/accept': async (_team, caller) => {
    const { invitationToken } = await world.identity.createInvitation(
      { ...(await teamOfSomebodyElse(caller)), role: 'owner' },
      caller.user(world.people).emailAddress,
      'viewer',
    )
    return { body: { invitation_token: invitationToken } }
  },
  'POST /invitations/register': async (team) => {
    const { invitationToken } = await invite(team, freshAddress())
    return { body: { invitation_token: invitationToken, display_name: 'New', user_password: PASSWORD } }
  },
  'GET /audit': () => ({}),
  'GET /credentials': () => ({}),
  'POST /credentials': () => ({ body: { kind: 'integration', display_name: 'key', expires_in_days: 30 } }),
  // One's own: those of others take an admin.
  'DELETE /credentials/{id}': async (team, caller) => {
    const { id } = await world.identity.createCredential(team.actor(caller.role), { kind: 'agent', displayName: 'x' })
    return { params: { id } }
  },
  'POST /desktop/pair/start': () => ({}),
  'POST /desktop/pair/poll': async () => ({
    body: { device_code: (await world.identity.startPairing('127.0.0.1')).deviceCode },
  }),
  'POST /desktop/pair/confirm': async () => ({
    body: { user_code: (await world.identity.startPairing('127.0.0.1')).userCode.toLowerCase().replace('-', ' ') },
  }),
  'POST /auth/device/revoke': () => ({}),
  'GET /agents': () => ({}),
  'GET /r/agents': () => ({ query: { per_page: '100' } }),
  'GET /agents/{agentId}': agentOf,
  'POST /agents/{agentId}/tunnel': agentOf,
  'GET /agents/{agentId}/tunnel': agentOf,
  'DELETE /agents/{agentId}/tunnel': (team) => ({ ...agentOf(team), query: { session_id: team.sessionId } }),
  'PATCH /agents/{agentId}/tunnel/{sessionId}': (team) => ({ ...sessionOf(team), body: { extend: true } }),
  'POST /agents/{agentId}/tunnel/{sessionId}/revoke': sessionOf,
  'PUT /agents/{agentId}/tunnel/{sessionId}/inspector': (team) => ({ ...sessionOf(team), body: { is_enabled: true } }),
  'GET /agents/{agentId}/tunnel/{sessionId}/inspector': sessionOf,
  'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}': inspectedOf,
  'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay': inspectedOf,
  ...TASK_REQUESTS,
}

async function teamOfSomebodyElse(caller: CallerCase): Promise<{ userId: string; teamId: string }> {
  const { stranger, owner } = world.people
  const userId = caller.user(world.people) === stranger ? owner.id : stranger.id
  return { userId, teamId: (await world.identity.createTeam(userId, 'Elsewhere')).id }
}

async function send(name: RouteName, { params = {}, query = {}, body }: Sent, headers: Record<string, string>) {
  const [method = '', path = ''] = name.split(' ')
  const filled = path.replace(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(params[key] ?? ''))
  const response = await fetch(`${world.control.url}/api/v1${filled}?${new URLSearchParams(query)}`, {
    method,
    headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

/** What is wrong with an answer, if anything: its status, its shape, a secret that came back. */
function faultOf(
  spec: RouteSpec,
  expected: number,
  answer: Awaited<ReturnType<typeof send>>,
  secret: string,
): string | undefined {
  if (answer.status !== expected) return `${answer.status} instead of ${expected}: ${answer.text}`
  if (!answer.headers.get('x-request-id')) return 'no X-Request-ID'
  if (expected === 200 && spec.eventStream) return eventStreamFault(answer)
  const shape = expected >= 400 ? ErrorAnswer : spec.answer
  if (shape ? !shape.safeParse(JSON.parse(answer.text)).success : answer.text !== '')
    return `wrong shape: ${answer.text}`
  if (expected === 401 && answer.headers.get('www-authenticate') !== 'Bearer') return 'no WWW-Authenticate'
  if (expected >= 400 && secret.length > 10 && answer.text.includes(secret))
    return `the secret came back: ${answer.text}`
  return undefined
}

function eventStreamFault({ headers, text }: Awaited<ReturnType<typeof send>>): string | undefined {
  if (headers.get('content-type') !== 'text/event-stream') return `no event stream: ${headers.get('content-type')}`
  return text.includes('event: cancelled\n') ? undefined : `not the whole story: ${text}`
}

describe.each(Object.keys(routes) as RouteName[])('%s', (name) => {
  const spec: RouteSpec = routes[name]

  test('answers every kind of caller as the contract says', async () => {
    const faults: Record<string, string> = {}
    for (const [who, caller] of Object.entries(CALLERS)) {
      const expected = expectedStatus(spec, caller)
      // A call that is let in changes its team, so it gets one of its own.
      const team = expected < 300 && spec.role ? await world.newTeam() : shared
      const headers = await caller.headers(team)
      // A new password ends every sign-in: this one call is made by somebody of its own, below.
      if (name === 'PUT /users/me/password' && expected < 300) continue
      const answer = await send(name, await REQUESTS[name](team, caller), headers)
      const fault = faultOf(spec, expected, answer, headers['authorization']?.split(' ')[1] ?? '')
      if (fault) faults[who] = fault
    }
    expect(faults).toEqual({})
  })
})

/** Where an id of another team, one of nobody, and one that cannot be are the same to a caller. */
const IDS: {
  name: RouteName
  at: 'params' | 'query' | 'body'
  key: string
  foreign: (team: Team) => Promise<string> | string
  unknown: () => string
}[] = [
  {
    name: 'PUT /members/{userId}',
    at: 'params',
    key: 'userId',
    foreign: () => world.people.stranger.id,
    unknown: uuidv7,
  },
  {
    name: 'DELETE /members/{userId}',
    at: 'params',
    key: 'userId',
    foreign: () => world.people.stranger.id,
    unknown: uuidv7,
  },
  {
    name: 'POST /teams/current/transfer',
    at: 'body',
    key: 'new_owner_id',
    foreign: () => world.people.stranger.id,
    unknown: uuidv7,
  },
  { name: 'DELETE /invitations/{id}', at: 'params', key: 'id', foreign: foreignInvitation, unknown: uuidv7 },
  {
    name: 'POST /invitations/accept',
    at: 'body',
    key: 'invitation_token',
    foreign: tokenForAnother,
    unknown: () => 'x'.repeat(43),
  },
  { name: 'DELETE /credentials/{id}', at: 'params', key: 'id', foreign: foreignCredential, unknown: uuidv7 },
  {
    name: 'GET /agents/{agentId}',
    at: 'params',
    key: 'agentId',
    foreign: () => world.foreign.agentId,
    unknown: () => 'nobody',
  },
  {
    name: 'POST /agents/{agentId}/tunnel',
    at: 'params',
    key: 'agentId',
    foreign: () => world.foreign.agentId,
    unknown: () => 'nobody',
  },
  {
    name: 'GET /agents/{agentId}/tunnel',
    at: 'params',
    key: 'agentId',
    foreign: () => world.foreign.agentId,
    unknown: () => 'nobody',
  },
  {
    name: 'DELETE /agents/{agentId}/tunnel',
    at: 'params',
    key: 'agentId',
    foreign: () => world.foreign.agentId,
    unknown: () => 'nobody',
  },
  {
    name: 'DELETE /agents/{agentId}/tunnel',
    at: 'query',
    key: 'session_id',
    foreign: () => world.foreign.sessionId,
    unknown: uuidv7,
  },
  ...(
    [
      'PATCH /agents/{agentId}/tunnel/{sessionId}',
      'POST /agents/{agentId}/tunnel/{sessionId}/revoke',
      'PUT /agents/{agentId}/tunnel/{sessionId}/inspector',
      'GET /agents/{agentId}/tunnel/{sessionId}/inspector',
      'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}',
      'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay',
    ] as const
  ).map((name) => ({
    ...{ name, at: 'params' as const, key: 'sessionId' },
    ...{ foreign: () => world.foreign.sessionId, unknown: uuidv7 },
  })),
]
const OBJECTS: { name: RouteName; foreign: () => string }[] = [
  ...(
    [
      'GET /workflows/{id}',
      'PUT /workflows/{id}',
      'DELETE /workflows/{id}',
      'GET /workflows/{id}/snapshots',
      'POST /workflows/{id}/snapshots/{version}/restore',
      'GET /r/workflows/{id}',
      'POST /r/workflows/{id}/run',
    ] as const
  ).map((name) => ({ name, foreign: () => world.foreign.workflowId })),
  ...(
    ['GET /r/tasks/{id}', 'GET /r/tasks/{id}/result', 'POST /r/tasks/{id}/cancel', 'GET /r/tasks/{id}/events'] as const
  ).map((name) => ({ name, foreign: () => world.foreign.taskId })),
]
for (const { name, foreign } of OBJECTS) IDS.push({ name, at: 'params', key: 'id', foreign, unknown: uuidv7 })
const strangerActor = () => ({ userId: world.people.stranger.id, teamId: world.foreign.id, role: 'owner' as const })
async function foreignInvitation(): Promise<string> {
  return (await world.identity.createInvitation(strangerActor(), freshAddress(), 'viewer')).id
}
async function tokenForAnother(): Promise<string> {
  return (await world.identity.createInvitation(strangerActor(), freshAddress(), 'viewer')).invitationToken
}
async function foreignCredential(): Promise<string> {
  return (await world.identity.createCredential(strangerActor(), { kind: 'integration', displayName: 'theirs' })).id
}

test.each(IDS)(
  "$name: another team's $key is answered like an unknown one",
  async ({ name, at, key, foreign, unknown }) => {
    const caller = signedIn('owner')
    const headers = await caller.headers(shared)
    const sent = await REQUESTS[name](shared, caller)
    const withId = (id: string): Sent => ({ ...sent, [at]: { ...(sent[at] as object | undefined), [key]: id } })
    const theirs = await send(name, withId(await foreign(shared)), headers)
    const nobodys = await send(name, withId(unknown()), headers)
    expect(theirs.status).toBe(404)
    expect(visible(theirs)).toEqual(visible(nobodys))
    if (at === 'params') expect((await send(name, withId('../no such%00id'), headers)).status).toBe(404)
  },
)

/** All of an answer but what differs between any two. */
function visible({ status, headers, text }: Awaited<ReturnType<typeof send>>) {
  const fields = [...headers].filter(([name]) => name !== 'x-request-id' && name !== 'date')
  return { status, fields, text }
}

test('finer rules: keys and members of others, the owner who cannot leave', async () => {
  const team = await world.newTeam()
  const ofOwner = await world.identity.createCredential(team.actor('owner'), { kind: 'agent', displayName: 'gpu' })
  const as = (role: Role) => bearer(world.people[role].jwt, team.id)
  const revoke = (role: Role) => send('DELETE /credentials/{id}', { params: { id: ofOwner.id } }, as(role))
  expect((await revoke('member')).status).toBe(403)
  expect((await revoke('admin')).status).toBe(204)
  const remove = (role: Role, target: Role) =>
    send('DELETE /members/{userId}', { params: { userId: world.people[target].id } }, as(role))
  expect((await remove('viewer', 'member')).status).toBe(403)
  expect((await remove('admin', 'owner')).status).toBe(409)
  expect((await remove('owner', 'owner')).status).toBe(409)
  expect((await remove('admin', 'viewer')).status).toBe(204)
})

test('changing the password ends what was signed in with the old one', async () => {
  const { invitationToken } = await invite(shared, 'changer@example.org')
  await world.identity.registerByInvitation(invitationToken, 'Changer', PASSWORD, '::1')
  const { accessToken } = await world.identity.login('changer@example.org', PASSWORD, '::1')
  const body = { current_password: PASSWORD, new_password: `${PASSWORD}!` }
  expect((await send('PUT /users/me/password', { body }, bearer(accessToken))).status).toBe(200)
  expect((await send('GET /users/me', {}, bearer(accessToken))).status).toBe(401)
  const login = (user_password: string) =>
    send('POST /auth/login', { body: { email_address: 'Changer@Example.org', user_password } }, {})
  expect((await login(PASSWORD)).status).toBe(401)
  expect((await login(`${PASSWORD}!`)).status).toBe(200)
})

test('a device that gives itself up takes its agent key with it', async () => {
  const { raw_key, agent_key } = await pair(shared, 'member')
  const before = world.revoked.length
  expect((await send('POST /auth/device/revoke', {}, bearer(raw_key))).status).toBe(200)
  expect(world.revoked.length - before).toBe(2)
  expect((await send('GET /agents', {}, bearer(raw_key))).status).toBe(401)
  await expect(world.identity.authenticate(agent_key, '::1')).rejects.toMatchObject({ code: 'unauthenticated' })
})

test('anybody can verify our JWTs with the published keys, and they publish no private part', async () => {
  const keys = await (await fetch(`${world.control.url}/.well-known/jwks.json`)).json()
  const { payload } = await jwtVerify(world.people.owner.jwt, createLocalJWKSet(keys))
  expect(payload.sub).toBe(world.people.owner.id)
  for (const key of keys.keys) expect(Object.keys(key)).not.toContain('d')
})
