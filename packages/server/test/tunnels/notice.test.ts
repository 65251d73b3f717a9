import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { VISITOR_LIMITS } from '../../src/tunnels/visitor-limits.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'
import { type Bed, startBed } from './bed.ts'

/** What visitors meet before a tunnel's service does, over real sockets. */

let bed: Bed
let service: Server
/** Request lines and cookies that reached the service. */
const reached: { line: string; cookie: string | undefined }[] = []

beforeAll(async () => {
  bed = await startBed({ visitorNotice: true, visitorAddress: createVisitorAddress(['127.0.0.1']) })
  service = createServer((incoming, response) => {
    reached.push({ line: `${incoming.method} ${incoming.url}`, cookie: incoming.headers.cookie })
    response.setHeader('Set-Cookie', 'cyberun-notice=planted')
    response.end('the service')
  })
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
})
afterAll(async () => {
  await bed[Symbol.asyncDispose]()
  service.close()
})

async function ask(path: string, headers: Record<string, string>, method = 'GET', { edge } = bed) {
  const outgoing = request({ host: '127.0.0.1', port: edge.port, path, method, headers, agent: false })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of incoming) body += chunk
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, body }
}

const open = () => bed.open((service.address() as AddressInfo).port)
const from = (address: string) => ({ Host: 'localhost', 'X-Forwarded-For': address })
const NAVIGATES = { 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'document', Accept: 'text/html' }

/** A browser that was let in at the tunnel's own host. */
function tab(tunnel: OpenTunnel) {
  const cookies = new Map([['cyberun-tunnel', tunnel.facts.visitSecret]])
  const host = `${tunnel.facts.label}.localhost:${bed.edge.port}`
  return async (path: string, headers: Record<string, string> = NAVIGATES, method = 'GET') => {
    const Cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const got = await ask(path, { Host: host, Cookie, ...headers }, method)
    for (const line of got.headers['set-cookie'] ?? []) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      cookies.set(name, value)
    }
    return got
  }
}

const linkIn = (body: string): URL => new URL((/href="([^"]+)"/.exec(body)?.[1] ?? '').replace(/&#38;/g, '&'))

test('a person sees the notice once for each tunnel, and comes to the address they asked for', async () => {
  const tunnel = open()
  const visit = tab(tunnel)
  reached.length = 0
  const notice = await visit('//a/b?c=%2F&d')
  expect(notice).toMatchObject({ status: 200, body: expect.stringContaining('somebody else’s machine') })
  expect(notice.body).not.toMatch(/<script|<form|the service/)
  expect(notice.headers['content-security-policy']).toContain("frame-ancestors 'none'")
  expect(notice.headers['cache-control']).toBe('no-store')
  const [cookie = ''] = notice.headers['set-cookie'] ?? []
  expect(cookie).toMatch(/^cyberun-notice=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax$/)
  expect(notice.body + cookie).not.toContain(tunnel.facts.token)

  const link = linkIn(notice.body)
  expect(link.host).toBe(`${tunnel.facts.label}.localhost:${bed.edge.port}`)
  const next = await visit(link.pathname + link.search)
  expect(next.status).toBe(302)
  expect(next.headers.location).toBe(`http://${link.host}//a/b?c=%2F&d`)
  expect(await visit('//a/b?c=%2F&d')).toMatchObject({ status: 200, body: 'the service' })
  expect(reached).toEqual([{ line: 'GET //a/b?c=%2F&d', cookie: undefined }])
  expect((await visit('/later')).body, 'the service cannot take the cookie away').toBe('the service')
  expect((await tab(open())('/')).body).toContain('somebody else’s machine')
})

test('a link of somebody else does not lead past it', async () => {
  const tunnel = open()
  const theirs = linkIn((await tab(tunnel)('/')).body)
  const mine = tab(tunnel)
  expect((await mine(theirs.pathname + theirs.search)).body).toContain('somebody else’s machine')
  const own = await mine('/')
  expect((await mine(`/?cyberun-continue=${'0'.repeat(32)}`)).status).toBe(200)
  expect(linkIn(own.body).search).not.toBe(theirs.search)
})

test.each<[string, Record<string, string>, string?]>([
  ['a client that is no browser', { Accept: '*/*', 'User-Agent': 'curl/8' }],
  ['fetch', { 'Sec-Fetch-Mode': 'cors', 'Sec-Fetch-Dest': 'empty' }],
  ['an image', { 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'image' }],
  ['a frame within a page', { ...NAVIGATES, 'Sec-Fetch-Dest': 'iframe' }],
  ['a form', NAVIGATES, 'POST'],
  ['a client that asks for none', { ...NAVIGATES, 'Cyberun-Skip-Notice': '1' }],
])('%s does not see it', async (_who, headers, method) => {
  expect(await tab(open())('/', headers, method)).toMatchObject({ status: 200, body: 'the service' })
})

test('on the path door the cookie is of this tunnel and below its prefix', async () => {
  const tunnel = open()
  const Host = `edge.example.org:${bed.edge.port}`
  const path = `/tunnel/${tunnel.facts.token}/x`
  const got = await ask(path, { Host: '127.0.0.1', ...NAVIGATES })
  expect(got.status, 'where there is a host door, people are sent there').toBe(302)
  expect((await ask(path, { Host, ...NAVIGATES })).status).toBe(421)
})

test('wrong tokens look alike, and many of them from one address end in 429, but not for who is on the tunnel', async () => {
  const tunnel = open()
  const closed = open()
  bed.close(closed)
  const path = (token: string) => `/tunnel/${token}/x`
  const plain = ({ status, headers: { date: _date, ...headers }, body }: Awaited<ReturnType<typeof ask>>) => ({
    ...{ status, headers, body },
  })
  const unknown = await ask(path('a'.repeat(43)), from('198.51.100.1'))
  expect(plain(await ask(path(closed.facts.token), from('198.51.100.1')))).toEqual(plain(unknown))
  expect(unknown.status).toBe(404)

  expect((await ask(path(tunnel.facts.token), from('198.51.100.2'))).status).toBe(200)
  for (const address of ['198.51.100.2', '198.51.100.3']) {
    for (let i = 0; i < VISITOR_LIMITS.guesses; i++) await ask(path(`${i}`.padEnd(43, 'x')), from(address))
    const refused = await ask(path('b'.repeat(43)), from(address))
    expect(refused).toMatchObject({ status: 429, headers: { 'retry-after': expect.stringMatching(/^\d+$/) } })
  }
  expect((await ask(path(tunnel.facts.token), from('198.51.100.2'))).status).toBe(200)
  expect((await ask(path(tunnel.facts.token), from('198.51.100.3'))).status).toBe(429)
  expect((await ask(path(tunnel.facts.token), from('198.51.100.4'))).status).toBe(200)
})

const tooMany = (code: string, what: string) => ({
  status: 429,
  headers: { 'retry-after': '1' },
  body: expect.stringMatching(new RegExp(`${what}.*"error_code":"${code}"`)),
})

test('more under way than one address, or all of a tunnel, may have: 429, until there is room again', async () => {
  const tunnel = open()
  const path = `/tunnel/${tunnel.facts.token}/x`
  const visit = (address: string) => ({ address, userAgent: '' })
  const visits = Array.from({ length: VISITOR_LIMITS.addressOpen }, () => visit('198.51.100.20'))
  for (const each of visits) tunnel.begin(each, Date.now())
  const refused = tooMany('too_many_requests', 'too much is under way from your address')
  expect(await ask(path, from('198.51.100.20'))).toMatchObject(refused)
  const socket = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' }
  const upgrade = { ...from('198.51.100.20'), ...socket, 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }
  expect(await ask(path, upgrade)).toMatchObject(refused)
  expect((await ask(path, from('198.51.100.21'))).status).toBe(200)
  for (const each of visits.slice(0, 1)) tunnel.end(each, Date.now())
  expect((await ask(path, from('198.51.100.20'))).status).toBe(200)

  for (let i = visits.length - 1; i < VISITOR_LIMITS.tunnelOpen; i++) tunnel.begin(visit(`203.0.113.${i % 200}`), 0)
  const full = tooMany('too_many_requests', 'too much is under way through this tunnel')
  expect(await ask(path, from('198.51.100.21'))).toMatchObject(full)
})

test('more new connections in a second than one address may make, or a tunnel takes: 429, and later again', async () => {
  let now = Date.now()
  await using slow = await startBed({ visitorAddress: createVisitorAddress(['127.0.0.1']), now: () => now })
  const tunnel = slow.open((service.address() as AddressInfo).port)
  const connect = (address: string, path = `/tunnel/${tunnel.facts.token}/x`) => ask(path, from(address), 'GET', slow)
  const limit = VISITOR_LIMITS.addressConnections
  const front = await Promise.all(Array.from({ length: limit }, () => connect('198.51.100.30', '/')))
  expect(new Set(front.map(({ status }) => status))).toEqual(new Set([200]))
  const tooOften = tooMany('rate_limited', 'connections come too fast from your address')
  expect(await connect('198.51.100.30')).toMatchObject(tooOften)

  expect((await connect('198.51.100.31')).status).toBe(200)
  for (let i = 1; i < VISITOR_LIMITS.tunnelConnections; i++) tunnel.admit('198.51.100.31', true, now)
  const full = tooMany('rate_limited', 'connections to this tunnel come too fast')
  expect(await connect('198.51.100.32')).toMatchObject(full)
  now += 1_000
  for (const address of ['198.51.100.30', '198.51.100.32']) expect((await connect(address)).status).toBe(200)
})

test('a person who sent a form is not led to think that it arrived, a reader waits', async () => {
  const Host = 'localhost'
  const path = `/tunnel/${'c'.repeat(43)}/x`
  const headers = { Host, 'X-Forwarded-For': '198.51.100.3', Accept: 'text/html' }
  const reader = await ask(path, headers)
  expect(reader.body).toContain('<meta http-equiv="refresh"')
  const sender = await ask(path, headers, 'POST')
  expect(sender.body).not.toContain('http-equiv')
  expect(sender.body).toContain('did not arrive')
})
