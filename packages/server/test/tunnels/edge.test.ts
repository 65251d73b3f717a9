import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import { TCP_SUBPROTOCOL } from '@cyberun/link'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { Routing } from '../../src/routing/routing.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'
import { type Bed, FORBIDDEN_PORT, startAgentLink, startBed } from './bed.ts'

let bed: Bed
let service: Server
/** Decides what the service answers. */
let answer: (request: IncomingMessage, response: ServerResponse) => void

const hello = (_request: IncomingMessage, response: ServerResponse): void => void response.end('hello')

beforeAll(async () => {
  bed = await startBed()
  service = createServer((incoming, response) => answer(incoming, response))
  await listen(service)
})
beforeEach(() => {
  answer = hello
})
afterAll(async () => {
  await bed[Symbol.asyncDispose]()
  service.closeAllConnections()
  service.close()
})

async function listen(
  server: { listen(port: number, host: string): unknown; address(): unknown } & NodeJS.EventEmitter,
) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const servicePort = (): number => (service.address() as AddressInfo).port

interface Got {
  status: number
  headers: IncomingMessage['headers']
  body: string
}

/** One request to the edge on a connection of its own; `host` is sent as Host. */
async function ask(path: string, headers: Record<string, string> = {}, method = 'GET', to: Bed = bed): Promise<Got> {
  const outgoing = request({ host: '127.0.0.1', port: to.edge.port, path, method, headers, agent: false })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of incoming) body += chunk
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, body }
}

const hostOf = (tunnel: OpenTunnel): string => `${tunnel.facts.label}.localhost:${bed.edge.port}`
const BROWSER = { 'Sec-Fetch-Mode': 'navigate', Accept: 'text/html' }

test('a browser comes from the path door to the host door, where a cookie takes the token’s place', async () => {
  const tunnel = bed.open(servicePort())
  const path = `/tunnel/${tunnel.facts.token}`
  const first = await ask(`${path}/a//b?c=%2F`, { Host: `localhost:${bed.edge.port}`, ...BROWSER })
  expect(first.status).toBe(302)
  expect(first.headers.location).toBe(`http://${hostOf(tunnel)}${path}/a//b?c=%2F`)
  const second = await ask(`${path}/a//b?c=%2F`, { Host: hostOf(tunnel), ...BROWSER })
  expect(second.status).toBe(302)
  expect(second.headers.location).toBe(`http://${hostOf(tunnel)}/a//b?c=%2F`)
  expect(second.headers['referrer-policy']).toBe('no-referrer')
  const [cookie = ''] = second.headers['set-cookie'] ?? []
  expect(cookie).toMatch(/^cyberun-tunnel=[\w-]+; Path=\/; HttpOnly; SameSite=Lax$/)
  expect(cookie).not.toContain(tunnel.facts.token)
  const pair = cookie.split(';')[0] ?? ''
  expect(await ask('/a', { Host: hostOf(tunnel), Cookie: pair })).toMatchObject({ status: 200, body: 'hello' })
  expect((await ask('/a', { Host: hostOf(tunnel), Cookie: `${pair}; ${pair}` })).status).toBe(400)
  expect((await ask('/a', { Host: hostOf(tunnel), Cookie: `${pair}x` })).status).toBe(401)
  expect((await ask('/a', { Host: hostOf(tunnel) })).status).toBe(401)
})

test('a path that begins with two slashes does not lead elsewhere', async () => {
  const tunnel = bed.open(servicePort())
  const got = await ask(`/tunnel/${tunnel.facts.token}//evil.example/`, { Host: hostOf(tunnel) })
  expect(got.headers.location).toBe(`http://${hostOf(tunnel)}//evil.example/`)
})

test('scripts are served in place on the path door, and at the host door with the token in a field', async () => {
  const tunnel = bed.open(servicePort())
  answer = (incoming, response) =>
    response.end(JSON.stringify([incoming.url, incoming.headers['cyberun-tunnel-token']]))
  expect((await ask(`/tunnel/${tunnel.facts.token}/x?y`)).body).toBe('["/x?y",null]')
  const shown = { Host: hostOf(tunnel), 'Cyberun-Tunnel-Token': tunnel.facts.token }
  expect((await ask('/x?y', shown)).body).toBe('["/x?y",null]')
  const slash = await ask(`/tunnel/${tunnel.facts.token}?q=1`)
  expect([slash.status, slash.headers.location]).toEqual([307, `/tunnel/${tunnel.facts.token}/?q=1`])
})

test('with no host door in reach, pages of the path door run in a sandbox that may fetch', async () => {
  await using other = await startBed({ tunnelDomain: 'tunnels.localhost', publicUrl: 'http://192.0.2.1:1' })
  const tunnel = other.open(servicePort())
  const path = `/tunnel/${tunnel.facts.token}/`
  const host = { Host: '192.0.2.1:1' }
  const page = await ask(path, { ...host, ...BROWSER }, 'GET', other)
  expect([page.status, page.headers['content-security-policy']]).toEqual([200, expect.stringMatching(/^sandbox /)])
  const asks = { Origin: 'null', 'Access-Control-Request-Method': 'PUT', 'Access-Control-Request-Headers': 'x-a' }
  const preflight = await ask(path, { ...host, ...asks }, 'OPTIONS', other)
  expect(preflight).toMatchObject({
    status: 204,
    headers: {
      'access-control-allow-origin': 'null',
      'access-control-allow-methods': 'PUT',
      'access-control-allow-headers': 'x-a',
    },
  })
  const put = await ask(path, { ...host, Origin: 'null' }, 'PUT', other)
  expect(put).toMatchObject({ status: 200, headers: { 'access-control-allow-origin': 'null' } })
})

test('what changes something must come from the tunnel’s own pages', async () => {
  const tunnel = bed.open(servicePort())
  const enter = { Host: hostOf(tunnel), 'Cyberun-Tunnel-Token': tunnel.facts.token }
  const own = `http://${hostOf(tunnel)}`
  const verdicts: [method: string, origin: string | undefined, status: number][] = [
    ['GET', 'https://evil.example', 200],
    ['OPTIONS', 'https://evil.example', 200],
    ['POST', undefined, 200],
    ['POST', own, 200],
    ['POST', own.toUpperCase().replace('HTTP', 'http'), 200],
    ['POST', 'https://evil.example', 403],
    ['POST', 'null', 403],
    ['POST', `http://localhost:${bed.edge.port}`, 403],
    ['POST', `${own}0`, 403],
    ['POST', own.replace('http:', 'https:'), 403],
    ['DELETE', 'http://localhost', 403],
  ]
  for (const [method, origin, status] of verdicts) {
    const got = await ask('/', { ...enter, ...(origin !== undefined && { Origin: origin }) }, method)
    expect([method, origin, got.status]).toEqual([method, origin, status])
  }
})

test('a host that is not ours is misdirected, an unknown tunnel is not found, the rest is a plain page', async () => {
  const unknown = 'x'.repeat(43)
  expect((await ask('/', { Host: 'evil.example' })).status).toBe(421)
  expect((await ask('/', { Host: 'localhost.evil.example' })).status).toBe(421)
  expect((await ask('/', { Host: `127.0.0.1:${bed.edge.port}` })).status).toBe(200)
  const missing = await ask(`/tunnel/${unknown}/`)
  expect(missing.status).toBe(404)
  expect(JSON.parse(missing.body)).toMatchObject({ error_code: 'not_found' })
  expect((await ask('/', { Host: `${'0'.repeat(32)}.localhost` })).status).toBe(404)
  const page = await ask(`/tunnel/${unknown}/`, { Accept: 'text/html' })
  expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
  expect(page.headers['content-security-policy']).toContain("default-src 'none'")
  expect((await ask('/api/v1/agents')).status).toBe(404)
})

test('a service worker may not be had on the path door', async () => {
  const tunnel = bed.open(servicePort())
  expect((await ask(`/tunnel/${tunnel.facts.token}/sw.js`, { 'Service-Worker': 'script' })).status).toBe(403)
})

test('a service that leads back here is a loop', async () => {
  const tunnel = bed.open(bed.edge.port)
  const path = `/tunnel/${tunnel.facts.token}`
  const nested = await ask(`${path}/tunnel/${tunnel.facts.token}/`)
  expect(nested.status).toBe(508)
})

test('what the agent says of the port is what the visitor gets', async () => {
  const closed = createTcpServer()
  const port = await listen(closed)
  await new Promise((resolve) => closed.close(resolve))
  const refused = await ask(`/tunnel/${bed.open(port).facts.token}/`)
  expect([refused.status, JSON.parse(refused.body).error_code]).toEqual([502, 'target_refused'])
  const forbidden = await ask(`/tunnel/${bed.open(FORBIDDEN_PORT).facts.token}/`)
  expect([forbidden.status, JSON.parse(forbidden.body).error_code]).toEqual([403, 'port_not_allowed'])
})

test('without a link to the agent the page tries again by itself', async () => {
  await using away = await startBed({ routing: { pathTo: () => undefined } })
  const { token } = away.open(servicePort()).facts
  const got = await ask(`/tunnel/${token}/`, { Accept: 'text/html' }, 'GET', away)
  expect([got.status, got.headers['retry-after']]).toEqual([503, '5'])
  expect(got.body).toContain('http-equiv="refresh" content="5"')
})

test('a request that the link lost before any answer is asked again, unless that could do harm twice', async () => {
  const link = await startAgentLink()
  let losses = 0
  const routing: Routing = {
    pathTo: (teamId, agentId) => ({
      async open(init, events, signal) {
        const stream = await link.routing.pathTo(teamId, agentId)?.open(init, events, signal)
        if (!stream) throw new Error('there is always a path here')
        if (losses > 0) setImmediate(() => events?.onReset('link_lost'))
        losses -= 1
        return stream
      },
    }),
  }
  await using flapping = await startBed({ routing })
  const statuses: number[] = []
  for (const [method, lost] of [
    ['GET', 1],
    ['GET', 2],
    ['POST', 1],
  ] as const) {
    losses = lost
    // A tunnel of its own, so that no connection of the request before is taken.
    const path = `/tunnel/${flapping.open(servicePort()).facts.token}/`
    statuses.push((await ask(path, {}, method, flapping)).status)
  }
  expect(statuses).toEqual([200, 502, 502])
  await link.close()
})

test('closing a tunnel ends what is under way on it', async () => {
  const before = bed.edge.upstreams
  const tunnel = bed.open(servicePort())
  answer = (_request, response) => void response.write('first')
  const outgoing = request({ host: '127.0.0.1', port: bed.edge.port, path: `/tunnel/${tunnel.facts.token}/` })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  await once(incoming, 'data')
  bed.close(tunnel)
  incoming.resume()
  await expect(once(incoming, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' })
  expect((await ask(`/tunnel/${tunnel.facts.token}/`)).status).toBe(404)
  await expect.poll(() => bed.edge.upstreams).toBeLessThanOrEqual(before)
})

test('connections to a service are kept for the next request, and not after an early answer', async () => {
  // An edge of its own: connections of other tests' tunnels would be counted, and end meanwhile. None gets too old here.
  await using own = await startBed({ now: () => 1_790_000_000_000 })
  const tunnel = own.open(servicePort())
  const path = `/tunnel/${tunnel.facts.token}/`
  for (let i = 0; i < 20; i++) await ask(path, {}, 'GET', own)
  expect(own.edge.upstreams).toBe(1)
  const early = request({ host: '127.0.0.1', port: own.edge.port, path, method: 'POST', agent: false })
  early.on('error', () => {})
  early.write('some of a body that does not end')
  const [incoming] = (await once(early, 'response')) as [IncomingMessage]
  incoming.resume()
  await once(incoming, 'end')
  await expect.poll(() => own.edge.upstreams).toBe(0)
  early.destroy()
})

test('an HTTP tunnel relays a WebSocket, subprotocol and all, and ends it with the tunnel', async () => {
  const server = createServer()
  const wss = new WebSocketServer({ server, handleProtocols: (protocols) => [...protocols].at(-1) ?? false })
  wss.on('connection', (socket) => {
    socket.on('error', () => {})
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  const tunnel = bed.open(await listen(server))
  const client = new WebSocket(`ws://127.0.0.1:${bed.edge.port}/tunnel/${tunnel.facts.token}/ws`, ['a', 'b'])
  await once(client, 'open')
  expect(client.protocol).toBe('b')
  client.send('text')
  expect(String((await once(client, 'message'))[0])).toBe('text')
  expect(tunnel.presence.count(Date.now())).toBe(1)
  expect([tunnel.bytesIn > 0, tunnel.bytesOut > 0]).toEqual([true, true])
  bed.close(tunnel)
  await once(client, 'close')
  server.closeAllConnections()
  server.close()
})

test('an interim answer that comes in one piece with the grant of an upgrade reaches the visitor before it', async () => {
  const key = 'dGhlIHNhbXBsZSBub25jZQ=='
  const granted =
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'
  const service = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () =>
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n${granted}`),
    )
  })
  const tunnel = bed.open(await listen(service))
  const visitor = connect(bed.edge.port, '127.0.0.1')
  let received = ''
  visitor.on('data', (bytes: Buffer) => {
    received += bytes.toString('latin1')
  })
  const asks = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}`
  visitor.write(`GET /tunnel/${tunnel.facts.token}/ HTTP/1.1\r\nHost: localhost\r\n${asks}\r\n\r\n`)
  await expect.poll(() => received).toMatch(/^HTTP\/1\.1 103 .*\r\n\r\nHTTP\/1\.1 101 /s)
  visitor.destroy()
  service.close()
})

test('a TCP tunnel is a WebSocket of one connection’s bytes', async () => {
  const echo = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.write('banner')
    socket.pipe(socket)
  })
  const tunnel = bed.open(await listen(echo), { protocol: 'tcp' })
  const url = `ws://127.0.0.1:${bed.edge.port}/tunnel/${tunnel.facts.token}/`
  const client = new WebSocket(url, TCP_SUBPROTOCOL)
  const received: Buffer[] = []
  client.on('message', (data: Buffer) => void received.push(data))
  await once(client, 'open')
  client.send(Buffer.from('and back'))
  await expect.poll(() => Buffer.concat(received).toString()).toBe('bannerand back')
  client.close()
  await once(client, 'close')
  await expect.poll(() => tunnel.bytesOut).toBe('bannerand back'.length)
  expect(tunnel.bytesIn).toBe('and back'.length)

  const another = new WebSocket(url)
  await once(another, 'open')
  bed.close(tunnel)
  await once(another, 'close')
  echo.close()
})

test('a connection to a TCP tunnel counts from when its service is dialled until it is over', async () => {
  const waiting: Routing = {
    pathTo: () => ({
      open: (_init, _events, signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true })),
    }),
  }
  await using slow = await startBed({ routing: waiting })
  const tunnel = slow.open(1, { protocol: 'tcp' })
  const client = new WebSocket(`ws://127.0.0.1:${slow.edge.port}/tunnel/${tunnel.facts.token}/`)
  client.on('error', () => {})
  await expect.poll(() => tunnel.openCount).toBe(1)
  client.terminate()
  await expect.poll(() => tunnel.openCount).toBe(0)
})

test('a TCP tunnel tells a refused dial before its 101, and what it wants from those who do not upgrade', async () => {
  const closed = createTcpServer()
  const port = await listen(closed)
  await new Promise((resolve) => closed.close(resolve))
  const tunnel = bed.open(port, { protocol: 'tcp' })
  const url = `ws://127.0.0.1:${bed.edge.port}/tunnel/${tunnel.facts.token}/`
  const client = new WebSocket(url)
  client.on('error', () => {})
  const [, response] = (await once(client, 'unexpected-response')) as [unknown, IncomingMessage]
  expect(response.statusCode).toBe(502)
  let body = ''
  for await (const chunk of response) body += chunk
  expect(JSON.parse(body)).toMatchObject({ error_code: 'target_refused' })
  const plain = await ask(`/tunnel/${tunnel.facts.token}/`)
  expect([plain.status, plain.headers.upgrade]).toEqual([426, 'websocket'])
  const foreign = new WebSocket(url, { origin: 'https://evil.example' })
  foreign.on('error', () => {})
  const [, refused] = (await once(foreign, 'unexpected-response')) as [unknown, IncomingMessage]
  expect(refused.statusCode).toBe(403)
  refused.resume()
})

test('a visitor that leaves before its upgrade is granted, or speaks too early, is gone for the service', async () => {
  const upgrades: Socket[] = []
  const server = createServer()
  server.on('upgrade', (_request, socket: Socket) => {
    socket.on('error', () => {})
    socket.resume()
    upgrades.push(socket)
  })
  const tunnel = bed.open(await listen(server))
  const key = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  const head = `GET /tunnel/${tunnel.facts.token}/ HTTP/1.1\r\nHost: localhost\r\n${key}Sec-WebSocket-Version: 13\r\n\r\n`
  for (const leave of ['end', 'speak'] as const) {
    const visitor = connect(bed.edge.port, '127.0.0.1')
    visitor.on('error', () => {})
    visitor.write(head)
    await expect.poll(() => upgrades.length).toBe(1)
    const [atService] = upgrades.splice(0)
    if (leave === 'end') visitor.end()
    else visitor.write('too early')
    await expect.poll(() => atService?.closed).toBe(true)
    visitor.destroy()
  }
  server.close()
})

test('who asks and how is believed of a trusted proxy only', async () => {
  answer = (incoming, response) => response.end(JSON.stringify(incoming.headers))
  const claims = { 'X-Forwarded-For': '198.51.100.9, 192.0.2.7', 'X-Forwarded-Proto': 'https', 'X-Forwarded-Port': '1' }
  await using behindProxy = await startBed({ visitorAddress: createVisitorAddress(['127.0.0.1']) })
  const seen = async (to: Bed) => {
    const { token } = to.open(servicePort()).facts
    return JSON.parse((await ask(`/tunnel/${token}/`, { Host: 'localhost', ...claims }, 'GET', to)).body)
  }
  expect(await seen(behindProxy)).toMatchObject({
    ...{ 'x-forwarded-for': '192.0.2.7', 'x-forwarded-proto': 'https', 'x-forwarded-port': '443' },
  })
  expect(await seen(bed)).toMatchObject({
    ...{ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http', 'x-forwarded-port': '80' },
  })
})

test('behind a proxy that is not on the list, the public URL tells that visitors use https', async () => {
  await using published = await startBed({ publicUrl: 'https://edge.example.org', tunnelDomain: 'tunnels.example.org' })
  const tunnel = published.open(servicePort())
  const path = `/tunnel/${tunnel.facts.token}/`
  const first = await ask(path, { Host: 'edge.example.org', ...BROWSER }, 'GET', published)
  const host = `${tunnel.facts.label}.tunnels.example.org`
  expect(first.headers.location).toBe(`https://${host}${path}`)
  const enter = { Host: host, 'Cyberun-Tunnel-Token': tunnel.facts.token, Origin: `https://${host}` }
  expect((await ask('/', enter, 'POST', published)).status).toBe(200)
})

test('stopping lets an answer that is under way finish, and ends the rest when time is up', async () => {
  await using stopping = await startBed()
  const { token } = stopping.open(servicePort()).facts
  const open: ServerResponse[] = []
  answer = (_request, response) => {
    response.write('begun')
    open.push(response)
  }
  const start = async () => {
    const outgoing = request({ host: '127.0.0.1', port: stopping.edge.port, path: `/tunnel/${token}/` })
    outgoing.on('error', () => {}).end()
    const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
    return incoming
  }
  const finished = await start()
  const cut = await start()
  const deadline = new AbortController()
  const stopped = stopping.edge.stop(deadline.signal)
  open[0]?.end(' and finished')
  let body = ''
  for await (const chunk of finished) body += chunk
  expect(body).toBe('begun and finished')
  cut.resume()
  // From here on, as the visitor may hear of its end before the edge tells of its own.
  const cutOff = expect(once(cut, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' })
  deadline.abort()
  await stopped
  await cutOff
})
