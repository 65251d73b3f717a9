import { hash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ApiError, type OpenTunnelBody, routes } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { type Bus, createLocalBus } from '../../src/bus.ts'
import type { Routing } from '../../src/routing/routing.ts'
import { claimAgent } from '../../src/store/agents.ts'
import { insertCredential, revokeCredential } from '../../src/store/credentials.ts'
import { Sql } from '../../src/store/handle.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import { endSignIn, insertSignIn } from '../../src/store/sign-ins.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { deleteMember, deleteTeam, insertMember, insertTeam } from '../../src/store/teams.ts'
import { listOpenTunnels } from '../../src/store/tunnels.ts'
import { insertUser } from '../../src/store/users.ts'
import { PortDoors } from '../../src/tunnels/doors/port-doors.ts'
import { LiveTunnels } from '../../src/tunnels/live-tunnels.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { Tunnels, type TunnelsOptions } from '../../src/tunnels/tunnels.ts'
import { holdTransaction } from '../store/away.ts'
import { edgeAddress, FORBIDDEN_PORT, noPortDoors, SILENT, startAgentLink } from './bed.ts'

const TEAM = 'team-1'
const AGENT = 'gpu-1'
const USER = '0199e0a0-0000-7000-8000-000000000001'
const ADA = { userId: USER, credentialId: 'opener-key' }
const NEVER = new AbortController().signal

interface World {
  store: Store
  bus: Bus
  options: TunnelsOptions
  tunnels: Tunnels
  servicePort: number
  /** Sessions that hold the agent in status `tunnel`. */
  held: Set<string>
  clock: { now: number }
}

let world: World
let stack: AsyncDisposableStack

beforeEach(async () => {
  // The sweep comes when a test says so: what a doorbell brings about is then nobody else's doing.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  stack = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-tunnels-'))
  stack.defer(() => rmSync(directory, { recursive: true, force: true }))
  const store = await openStore({ dataDir: directory, log: SILENT })
  stack.defer(() => store.close())
  await fill(store)
  const link = await startAgentLink()
  stack.defer(link.close)
  const service = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.end()))
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  stack.defer(() => void service.close())
  const address = service.address()
  const held = new Set<string>()
  const clock = { now: 1_790_000_000_000 }
  const bus = createLocalBus()
  const options: TunnelsOptions = {
    store,
    bus,
    log: SILENT,
    now: () => clock.now,
    agents: agentsDouble(held),
    routing: link.routing,
    secret: openServerSecret(join(directory, 'secret.key')),
    portDoors: noPortDoors(),
    edge: () => edgeAddress('https://edge.example.org', 'tunnels.example.org'),
  }
  const tunnels = await Tunnels.start(options)
  stack.defer(() => tunnels.stop())
  const servicePort = typeof address === 'object' && address ? address.port : 0
  world = { store, bus, options, tunnels, servicePort, held, clock }
})
afterEach(async () => {
  await stack.disposeAsync()
  vi.useRealTimers()
})

/** Lets the second pass after which rights and idling are looked at. */
const sweep = () => void vi.advanceTimersByTime(1_000)

/** Lists one agent, as connected. */
function agentsDouble(held: Set<string>): TunnelsOptions['agents'] {
  return {
    get: (teamId, agentId) => (teamId === TEAM && agentId === AGENT ? {} : undefined),
    holdTunnel(_teamId, _agentId, sessionId) {
      held.add(sessionId)
      return () => void held.delete(sessionId)
    },
  }
}

async function fill(store: Store): Promise<void> {
  const at = 1_780_000_000_000
  const names = { firstName: '', lastName: '', displayName: 'Ada' }
  await insertUser(store, { id: USER, emailAddress: 'ada@example.org', ...names, passwordHash: '', createdAt: at })
  await insertTeam(store, { id: TEAM, displayName: 'One', createdAt: at })
  await insertMember(store, { teamId: TEAM, userId: USER, role: 'member', joinedAt: at })
  for (const id of ['agent-key', 'opener-key']) {
    const key = { keyPrefix: 'ak-', keyHash: id, companionId: null, createdAt: at, expiresAt: null }
    await insertCredential(store, { id, teamId: TEAM, userId: USER, kind: 'agent', displayName: id, ...key })
  }
  await insertSignIn(store, { id: 'family', userId: USER, createdAt: at, expiresAt: at * 2 })
  const machine = { machineKey: 'm', gatewayId: 'gw', credentialId: 'agent-key', agentVersion: '1', at }
  for (const agentId of [AGENT, 'away']) await claimAgent(store, { teamId: TEAM, agentId, ...machine }, () => false)
}

const open = (
  opener = ADA as { userId: string; credentialId?: string; familyId?: string },
  protocol: 'http' | 'tcp' = 'http',
) => world.tunnels.open(opener, TEAM, AGENT, bodyFor(world.servicePort, { tunnel_protocol: protocol }), NEVER)

/** A request to open a tunnel, as the API fills it in. */
const bodyFor = (target_port: number, changes: Partial<OpenTunnelBody> = {}) =>
  routes['POST /agents/{agentId}/tunnel'].body.parse({ target_port, ...changes })

const tokenOf = (url: string) => /\/tunnel\/([^/]+)\/$/.exec(url)?.[1] ?? ''

function find(url: string): OpenTunnel | undefined {
  return world.tunnels.byToken(tokenOf(url))
}

const hashOf = (secret: string) => hash('sha256', secret, 'hex')

/** What the audit trail says, oldest first; without what every record of a tunnel has. */
async function audits(): Promise<{ action: string; actor: string; cause?: string }[]> {
  const rows = await Sql.db(world.store).selectFrom('audit_record').selectAll().orderBy('id').execute()
  return rows.map(({ action, actor, detail }) => {
    const { cause } = JSON.parse(detail) as { cause?: string }
    return { action, actor, ...(cause !== undefined && { cause }) }
  })
}

test('opening answers as the contract says and the tunnel is found by its token and its label', async () => {
  const opened = await open()
  expect(routes['POST /agents/{agentId}/tunnel'].answer.parse(opened)).toEqual(opened)
  expect(opened.tunnel_url).toMatch(/^https:\/\/edge\.example\.org\/tunnel\/[\w-]{43}\/$/)
  expect(opened.tunnel_url).not.toContain(opened.admin_token)
  expect(find(opened.tunnel_url)?.facts).toMatchObject({ sessionId: opened.session_id, protocol: 'http' })
  expect(world.tunnels.byLabel(/^https:\/\/([0-9a-f]{32})\.tunnels/.exec(opened.host_url ?? '')?.[1] ?? '')).toBe(
    find(opened.tunnel_url),
  )
  expect(world.held).toEqual(new Set([opened.session_id]))
  const tcp = await open(ADA, 'tcp')
  expect(tcp.tunnel_url).toMatch(/^wss:/)
})

test('listing shows the newest first, and each session whole', async () => {
  const none = await world.tunnels.list(TEAM, AGENT)
  expect(none).toEqual({ is_active: false, session_id: '', tunnel_url: '', session_list: [] })
  const first = await open()
  world.clock.now += 1_000
  const second = await open()
  const list = routes['GET /agents/{agentId}/tunnel'].answer.parse(await world.tunnels.list(TEAM, AGENT))
  expect(list).toMatchObject({ is_active: true, session_id: second.session_id, tunnel_url: second.tunnel_url })
  expect(list.session_list.map(({ session_id }) => session_id)).toEqual([second.session_id, first.session_id])
  expect(list.session_list[1]).toMatchObject({
    ...{ target_port: world.servicePort, tunnel_protocol: 'http', tunnel_url: first.tunnel_url, opened_by: USER },
    ...{ task_id: null, viewer_count: 0, bytes_in: 0, bytes_out: 0, opened_at: '2026-09-21T14:13:20.000Z' },
  })
})

test('an agent that is away is told apart from one that never was; another team’s is the latter', async () => {
  const body = bodyFor(world.servicePort)
  const code = async (attempt: Promise<unknown>) =>
    attempt.then(
      () => 'none',
      (error) => error instanceof ApiError && error.code,
    )
  expect(await code(world.tunnels.open(ADA, TEAM, 'away', body, NEVER))).toBe('agent_offline')
  expect(await code(world.tunnels.open(ADA, TEAM, 'never', body, NEVER))).toBe('not_found')
  expect(await code(world.tunnels.open(ADA, 'team-2', AGENT, body, NEVER))).toBe('not_found')
  expect(await code(world.tunnels.list('team-2', AGENT))).toBe('not_found')
  expect(await code(world.tunnels.close(ADA, 'team-2', AGENT))).toBe('not_found')
  const { session_id } = await open()
  expect(await code(world.tunnels.close(ADA, TEAM, 'away', session_id))).toBe('not_found')
  expect(await code(world.tunnels.close(ADA, TEAM, AGENT, 'no-such-session'))).toBe('not_found')
})

test('the port is asked before the tunnel opens', async () => {
  const attempt = (port: number) => world.tunnels.open(ADA, TEAM, AGENT, bodyFor(port), NEVER)
  await expect(attempt(FORBIDDEN_PORT)).rejects.toMatchObject({ code: 'port_not_allowed' })
  const closed = createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const address = closed.address()
  await new Promise((resolve) => closed.close(resolve))
  const port = typeof address === 'object' && address ? address.port : 0
  await expect(attempt(port)).rejects.toMatchObject({ code: 'target_refused', status: 502 })
  expect(world.tunnels.openCount).toBe(0)
})

test('closing ends every visit, frees the agent, and closing all of none is fine', async () => {
  const opened = [await open(), await open(), await open()]
  const ended: string[] = []
  for (const { tunnel_url, session_id } of opened) {
    find(tunnel_url)?.begin(
      { address: '192.0.2.1', userAgent: '', tunnelClosed: () => void ended.push(session_id) },
      world.clock.now,
    )
  }
  const closed: string[] = []
  world.bus.subscribe('tunnel.closed', ({ sessionId }) => void closed.push(sessionId))
  const [first] = opened
  await world.tunnels.close(ADA, TEAM, AGENT, first?.session_id)
  expect(ended).toEqual([first?.session_id])
  expect(find(first?.tunnel_url ?? '')).toBeUndefined()
  await world.tunnels.close(ADA, TEAM, AGENT)
  expect(ended).toHaveLength(3)
  expect(closed).toHaveLength(3)
  expect(world.held.size).toBe(0)
  await world.tunnels.close(ADA, TEAM, AGENT)
})

test('who opened it, who closed it and why is in the audit', async () => {
  const [{ session_id }] = [await open(), await open()]
  await world.tunnels.close(ADA, TEAM, AGENT, session_id)
  await revoke('opener-key')
  const actor = 'credential:opener-key'
  await expect.poll(audits).toEqual([
    { action: 'tunnel.opened', actor },
    { action: 'tunnel.opened', actor },
    { action: 'tunnel.closed', actor, cause: 'closed' },
    { action: 'tunnel.closed', actor: 'server', cause: 'revoked' },
  ])
})

const ends: [
  name: string,
  opener: { userId: string; credentialId?: string; familyId?: string },
  end: () => Promise<unknown>,
][] = [
  ['its opener’s key is revoked', ADA, () => revoke('opener-key')],
  ['its agent’s key is revoked', { userId: USER }, () => revoke('agent-key')],
  ['its opener’s sign-in ends', { userId: USER, familyId: 'family' }, () => endFamily()],
  ['its opener leaves the team', { userId: USER }, () => leave()],
  ['its team is deleted', { userId: USER }, () => dissolve()],
]

async function revoke(credentialId: string): Promise<void> {
  await revokeCredential(world.store, credentialId, world.clock.now)
  world.bus.publish('credential.revoked', { credentialId })
}
async function endFamily(): Promise<void> {
  await endSignIn(world.store, 'family', world.clock.now)
  world.bus.publish('session.revoked', { familyId: 'family' })
}
async function leave(): Promise<void> {
  await deleteMember(world.store, TEAM, USER)
  world.bus.publish('member.removed', { teamId: TEAM, userId: USER })
}
async function dissolve(): Promise<void> {
  await deleteTeam(world.store, TEAM)
  world.bus.publish('team.deleted', { teamId: TEAM })
}

test.each(ends)('a tunnel ends at once when %s', async (_name, opener, end) => {
  const { tunnel_url } = await open(opener)
  let visits = 1
  const visit = { address: '192.0.2.1', userAgent: '', tunnelClosed: () => void visits-- }
  find(tunnel_url)?.begin(visit, world.clock.now)
  await end()
  await expect.poll(() => world.tunnels.openCount).toBe(0)
  expect(visits).toBe(0)
  expect(find(tunnel_url)).toBeUndefined()
})

test('a doorbell that is lost is made up for by the sweep', async () => {
  await open()
  await revokeCredential(world.store, 'opener-key', world.clock.now)
  sweep()
  await expect.poll(() => world.tunnels.openCount).toBe(0)
})

test('a tunnel that is not used is closed after its idle time, however many look at it', async () => {
  const used = await open()
  const forgotten = await open()
  const tab = { address: '192.0.2.1', userAgent: 'Mozilla/5.0', tunnelClosed() {} }
  find(forgotten.tunnel_url)?.begin(tab, world.clock.now)
  const work = find(used.tunnel_url)?.activity.request({ method: 'POST', path: '/a', by: 'page' }, world.clock.now)
  const poll = find(forgotten.tunnel_url)?.activity
  for (let seconds = 0; seconds < 30 * 60; seconds += 5) {
    world.clock.now += 5_000
    const use = poll?.request({ method: 'GET', path: '/api/kernels', by: 'page' }, world.clock.now)
    use?.answered(200, true, world.clock.now)
    use?.ended(world.clock.now)
  }
  // The first of the polls was news. Released within the limit and ten seconds; the sweep comes each second.
  world.clock.now += 10_000
  sweep()
  await expect.poll(() => find(forgotten.tunnel_url)).toBeUndefined()
  work?.ended(world.clock.now)
  expect(find(used.tunnel_url)?.activity.lastUsedAt(world.clock.now)).toBe(world.clock.now)
  world.clock.now += 30 * 60_000 + 1
  sweep()
  await expect.poll(() => world.tunnels.openCount).toBe(0)
  // It is out of reach before that is written down.
  const idle = { action: 'tunnel.closed', actor: 'server', cause: 'idle' }
  await expect
    .poll(async () => (await audits()).filter(({ action }) => action === 'tunnel.closed'))
    .toEqual([idle, idle])
})

test('extending sets the idle time and lets it start anew', async () => {
  const opened = await world.tunnels.open(ADA, TEAM, AGENT, bodyFor(world.servicePort, { idle_timeout_s: 60 }), NEVER)
  expect(opened.expires_at).toBe(new Date(world.clock.now + 60_000).toISOString())
  world.clock.now += 50_000
  const kept = await world.tunnels.extend(ADA, TEAM, AGENT, opened.session_id, { extend: true })
  expect(kept).toEqual({
    id: opened.session_id,
    idle_timeout_s: 60,
    expires_at: new Date(world.clock.now + 60_000).toISOString(),
  })
  world.clock.now += 50_000
  const longer = await world.tunnels.extend(ADA, TEAM, AGENT, opened.session_id, { idle_timeout_s: 3600 })
  expect(longer.expires_at).toBe(new Date(world.clock.now - 50_000 + 3_600_000).toISOString())
  await world.tunnels.stop()
  world.tunnels = await Tunnels.start(world.options)
  stack.defer(() => world.tunnels.stop())
  const [session] = (await world.tunnels.list(TEAM, AGENT)).session_list
  expect(session).toMatchObject({ idle_timeout_s: 3600, expires_at: longer.expires_at })
  const extended = (await audits()).filter(({ action }) => action === 'tunnel.extended')
  expect(extended).toMatchObject([{ actor: 'credential:opener-key' }, { actor: 'credential:opener-key' }])
  await expect(world.tunnels.extend(ADA, TEAM, AGENT, uuidv7(), { extend: true })).rejects.toMatchObject({
    code: 'not_found',
  })
})

test('revoking gives new addresses and secrets, ends every visit, and keeps the agent held', async () => {
  const before = await open()
  const tunnel = find(before.tunnel_url)
  if (!tunnel) throw new Error('it was just opened')
  tunnel.bytesIn = 7
  let visits = 1
  tunnel.begin({ address: '192.0.2.1', userAgent: '', tunnelClosed: () => void visits-- }, world.clock.now)
  const admin = world.tunnels.findByAdminToken(hashOf(before.admin_token))
  expect(admin).toMatchObject({ sessionId: before.session_id, agentId: AGENT, openedByUserId: USER })
  const holds: number[] = []
  tunnel.closed.addEventListener('abort', () => void holds.push(world.held.size))

  const after = await world.tunnels.revoke(ADA, TEAM, AGENT, before.session_id)
  expect(routes['POST /agents/{agentId}/tunnel/{sessionId}/revoke'].answer.parse(after)).toEqual(after)
  expect(after.session_id).toBe(before.session_id)
  for (const key of ['tunnel_url', 'host_url', 'admin_token'] as const) expect(after[key]).not.toBe(before[key])
  expect(visits).toBe(0)
  expect([admin?.closed.aborted, holds, world.held.size]).toEqual([true, [1], 1])
  expect(find(before.tunnel_url)).toBeUndefined()
  expect(world.tunnels.byLabel(tunnel.facts.label)).toBeUndefined()
  expect(world.tunnels.findByAdminToken(hashOf(before.admin_token))).toBeUndefined()
  expect(world.tunnels.findByAdminToken(hashOf(after.admin_token))?.closed.aborted).toBe(false)
  expect(find(after.tunnel_url)).toMatchObject({
    bytesIn: 7,
    facts: { label: expect.not.stringMatching(tunnel.facts.label) },
  })
  expect(find(after.tunnel_url)?.facts.visitSecret).not.toBe(tunnel.facts.visitSecret)
  expect(await audits()).toContainEqual({ action: 'tunnel.revoked', actor: 'credential:opener-key' })

  await world.tunnels.stop()
  world.tunnels = await Tunnels.start(world.options)
  stack.defer(() => world.tunnels.stop())
  expect(find(before.tunnel_url)).toBeUndefined()
  expect(find(after.tunnel_url)?.facts.sessionId).toBe(before.session_id)
})

test('of two revocations at the same time one wins, and a closed tunnel is not found', async () => {
  const { session_id } = await open()
  const attempts = await Promise.allSettled([1, 2].map(() => world.tunnels.revoke(ADA, TEAM, AGENT, session_id)))
  const won = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []))
  expect(won).toHaveLength(1)
  expect(attempts).toContainEqual({ status: 'rejected', reason: expect.objectContaining({ code: 'conflict' }) })
  expect(find(won[0]?.tunnel_url ?? '')).toBeDefined()
  await world.tunnels.close(ADA, TEAM, AGENT, session_id)
  await expect(world.tunnels.revoke(ADA, TEAM, AGENT, session_id)).rejects.toMatchObject({ code: 'not_found' })
})

test('who is on a tunnel is listed with where and since when', async () => {
  const { tunnel_url } = await open()
  const tunnel = find(tunnel_url)
  const visit = { address: '192.0.2.7', userAgent: 'Mozilla/5.0 (X11)', tunnelClosed() {} }
  tunnel?.begin(visit, world.clock.now)
  const list = async () => (await world.tunnels.list(TEAM, AGENT)).session_list[0]
  const connected_at = new Date(world.clock.now).toISOString()
  const who = { address: '192.0.2.7', user_agent: 'Mozilla/5.0 (X11)', connected_at }
  expect(await list()).toMatchObject({
    viewer_count: 1,
    viewer_list: [{ ...who, last_seen_at: connected_at, open_count: 1 }],
  })
  world.clock.now += 5_000
  tunnel?.end(visit, world.clock.now)
  const last_seen_at = new Date(world.clock.now).toISOString()
  expect((await list())?.viewer_list).toEqual([{ ...who, last_seen_at, open_count: 0 }])
  world.clock.now += 60_000
  expect(await list()).toMatchObject({ viewer_count: 0, viewer_list: [] })
})

test('viewers are counted while they look and for a minute after', async () => {
  const tunnel = find((await open()).tunnel_url)
  const now = world.clock.now
  for (const address of ['192.0.2.1', '192.0.2.2', '192.0.2.1']) {
    const visit = { address, userAgent: '', tunnelClosed() {} }
    tunnel?.begin(visit, now)
    tunnel?.end(visit, now)
  }
  tunnel?.begin({ address: '192.0.2.3', userAgent: '', tunnelClosed() {} }, now)
  expect(tunnel?.presence.count(now)).toBe(3)
  expect(tunnel?.presence.count(now + 60_000)).toBe(1)
})

test('tunnels survive a restart: same address, figures kept, rights looked at again', async () => {
  const kept = await open({ userId: USER })
  const revoked = await open()
  const tunnel = find(kept.tunnel_url)
  if (tunnel) Object.assign(tunnel, { bytesIn: 7, bytesOut: 11 })
  await world.tunnels.stop()
  expect(world.held.size).toBe(0)
  await revokeCredential(world.store, 'opener-key', world.clock.now)
  world.tunnels = await Tunnels.start(world.options)
  stack.defer(() => world.tunnels.stop())
  sweep()
  await expect.poll(() => world.tunnels.openCount).toBe(1)
  expect(find(revoked.tunnel_url)).toBeUndefined()
  const [session] = (await world.tunnels.list(TEAM, AGENT)).session_list
  expect(session).toMatchObject({
    session_id: kept.session_id,
    tunnel_url: kept.tunnel_url,
    bytes_in: 7,
    bytes_out: 11,
  })
  expect(world.held).toEqual(new Set([kept.session_id]))
})

test('without the way to the agent nothing is opened', async () => {
  const away: Routing = { pathTo: () => undefined }
  const tunnels = await Tunnels.start({ ...world.options, routing: away })
  stack.defer(() => tunnels.stop())
  const body = bodyFor(world.servicePort)
  await expect(tunnels.open(ADA, TEAM, AGENT, body, NEVER)).rejects.toMatchObject({ code: 'agent_offline' })
})

test('what kind of service it is the opening finds out, unless it is told', async () => {
  // Its patience is not what is tested: a busy machine may take longer to answer.
  const patience = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(NEVER)
  onTestFinished(() => patience.mockRestore())
  const { tunnels, store } = world
  const workbench = createHttpServer((request, response) => {
    if (request.url === '/healthz') response.end('{"status":"expired","lastHeartbeat":0}')
    else response.writeHead(302, { Location: './login' }).end()
  }).listen(0, '127.0.0.1')
  await once(workbench, 'listening')
  stack.defer(() => void workbench.close())
  const { port } = workbench.address() as AddressInfo
  const openedAs = async (changes: Partial<OpenTunnelBody> = {}) => {
    const { session_id, profile } = await tunnels.open(ADA, TEAM, AGENT, bodyFor(port, changes), NEVER)
    const record = (await listOpenTunnels(store)).find(({ sessionId }) => sessionId === session_id)
    expect(record?.profile).toBe(profile)
    return [profile, record?.hostPolicy]
  }
  expect(await openedAs()).toEqual(['code-server', 'preserve'])
  expect(await openedAs({ host_policy: 'rewrite' })).toEqual(['code-server', 'rewrite'])
  expect(await openedAs({ profile: 'jupyter' })).toEqual(['jupyter', 'rewrite'])
  expect(await openedAs({ tunnel_protocol: 'tcp' })).toEqual(['generic', 'rewrite'])
})

test('a service with the prefix as its base path may be started once the tunnel has told it', async () => {
  const { tunnels } = world
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address() as AddressInfo
  await once(free.close(), 'close')
  await expect(tunnels.open(ADA, TEAM, AGENT, bodyFor(port), NEVER)).rejects.toMatchObject({ code: 'target_refused' })
  const opened = await tunnels.open(ADA, TEAM, AGENT, bodyFor(port, { path_mode: 'keep' }), NEVER)
  expect(opened.warning_list.join()).toContain(`base path`)
  expect(opened.warning_list.join()).toContain(`/tunnel/${tokenOf(opened.tunnel_url)}/`)
  const forbidden = tunnels.open(ADA, TEAM, AGENT, bodyFor(FORBIDDEN_PORT, { path_mode: 'keep' }), NEVER)
  await expect(forbidden).rejects.toMatchObject({ code: 'port_not_allowed' })
})

test('a tunnel has its port for as long as it is open, also over a restart, and the next one gets another', async () => {
  const { options, servicePort } = world
  const listening = new Set<number>()
  const started = async () => {
    const portDoors = new PortDoors({ range: { first: 40, last: 42 }, host: '127.0.0.1', log: SILENT })
    // No port is really listened on: what is tested is who has which.
    const make = (port: number) =>
      pretendServer(
        () => void listening.add(port),
        () => void listening.delete(port),
      )
    const tunnels = await Tunnels.start({ ...options, portDoors })
    await portDoors.start(make, tunnels.edgePorts())
    return tunnels
  }
  const openOn = async (tunnels: Tunnels, changes = {}) => {
    const { tunnel_url } = await tunnels.open(ADA, TEAM, AGENT, bodyFor(servicePort, changes), NEVER)
    return tunnels.byToken(tokenOf(tunnel_url))?.facts
  }
  const before = await started()
  const first = await openOn(before)
  const second = await openOn(before)
  expect([first?.edgePort, second?.edgePort]).toEqual([40, 41])
  expect((await openOn(before, { tunnel_protocol: 'tcp' }))?.edgePort).toBeNull()
  await before.close(ADA, TEAM, AGENT, first?.sessionId)
  expect([...listening]).toEqual([41])
  await before.stop()

  listening.clear()
  const after = await started()
  stack.defer(() => after.stop())
  expect([...listening]).toEqual([41])
  expect(after.byEdgePort(41)?.facts.token).toBe(second?.token)
  expect((await openOn(after))?.edgePort, 'not the one that was free all the time').toBe(42)
  expect((await openOn(after))?.edgePort).toBe(40)
  expect((await openOn(after))?.edgePort, 'the range is used up').toBeNull()
  const revoked = await after.revoke(ADA, TEAM, AGENT, second?.sessionId ?? '')
  expect(after.byEdgePort(41)?.facts.token).toBe(tokenOf(revoked.tunnel_url))
  expect(listening.has(41)).toBe(true)
})

/** A server that listens and closes at once, and says so. */
function pretendServer(onListen: () => void, onClose: () => void): Server {
  const server = createServer()
  server.listen = () => {
    onListen()
    setImmediate(() => server.emit('listening'))
    return server
  }
  server.close = () => {
    onClose()
    return server
  }
  return server
}

test('an agent has a hundred tunnels at most, however many are opened at once', async () => {
  const opened = await Promise.allSettled(Array.from({ length: 105 }, () => open(ADA, 'tcp')))
  expect(opened.filter(({ status }) => status === 'fulfilled')).toHaveLength(100)
  const refused = opened.flatMap((each) => (each.status === 'rejected' ? [each.reason] : []))
  expect(refused).toEqual(Array.from({ length: 5 }, () => expect.objectContaining({ code: 'conflict' })))
  await world.tunnels.close(ADA, TEAM, AGENT)
  await open(ADA, 'tcp')
})

test('closing all tunnels of an agent leaves none open, also when somebody revokes one of them meanwhile', async () => {
  await open()
  const second = await open()
  const held = holdTransaction(world.store)
  const closing = world.tunnels.close(ADA, TEAM, AGENT)
  await held.begun
  await Promise.allSettled([world.tunnels.revoke(ADA, TEAM, AGENT, second.session_id)])
  held.goOn()
  await closing
  expect([world.tunnels.openCount, await listOpenTunnels(world.store)]).toEqual([0, []])
})

test('whoever asks for a look gets one that begins after that, however the last one is just ending', async () => {
  let looks = 0
  const now = () => {
    looks += 1
    return world.clock.now
  }
  const live = await LiveTunnels.start({ ...world.options, now })
  stack.defer(() => live.stop())
  for (let turns = 0; turns < 20; turns++) {
    void live.sweepNow()
    for (let turn = 0; turn < turns; turn++) await undefined
    const before = looks
    await live.sweepNow()
    expect(looks, `after ${turns} turns`).toBeGreaterThan(before)
  }
})
