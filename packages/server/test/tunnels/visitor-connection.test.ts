import { once } from 'node:events'
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import type { LinkStream, StreamEvents } from '@cyberun/link'
import { expect, onTestFinished, test } from 'vitest'
import { CONNECTION_LIMITS } from '../../src/tunnels/edge/visitor-connection.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { type Bed, startBed } from './bed.ts'

const { bodyStalledMs, headMs, keepAliveMs, stalledMs } = CONNECTION_LIMITS

/** A clock that only the test moves on; what is looked at once a second is then seen within a second. */
function movableClock(): { now: () => number; pass(ms: number): void } {
  let now = 1_790_000_000_000
  return {
    now: () => now,
    pass(ms) {
      now += ms
    },
  }
}

async function serviceOf(listener: RequestListener): Promise<number> {
  const server: Server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

interface RawVisitor {
  socket: Socket
  /** Everything it was sent, Latin-1. */
  received(): string
  /** Resolves when the edge ended the connection. */
  ended: Promise<unknown>
}

function visit(bed: Bed): RawVisitor {
  const socket = connect({ port: bed.edge.port, host: '127.0.0.1', allowHalfOpen: true })
  let received = ''
  socket.on('data', (bytes: Buffer) => {
    received += bytes.toString('latin1')
  })
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  return { socket, received: () => received, ended: once(socket, 'end') }
}

const countOf = (text: string, part: string): number => text.split(part).length - 1

test('a head that takes too long is told so, and a connection that says nothing is closed without a word', async () => {
  const clock = movableClock()
  await using bed = await startBed({ now: clock.now })
  const silent = visit(bed)
  const slow = visit(bed)
  slow.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n')
  const kept = visit(bed)
  kept.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await expect.poll(kept.received).toContain('Tunnels are served here')
  clock.pass(headMs + 1)
  await Promise.all([silent.ended, slow.ended])
  expect(silent.received()).toBe('')
  expect(slow.received()).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n.*\r\nConnection: close\r\n/s)
  kept.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await expect.poll(() => countOf(kept.received(), 'HTTP/1.1 200')).toBe(2)
  clock.pass(keepAliveMs + 1)
  await kept.ended
  expect(countOf(kept.received(), 'HTTP/1.1')).toBe(2)
  expect(Object.fromEntries(bed.edge.answers.own)).toEqual({ 200: 2, 408: 1 })
})

/** Writes `left` bytes, however slowly they are taken. */
function pour(response: ServerResponse, left: number): void {
  let rest = left
  const more = (): void => {
    while (rest > 0) {
      const piece = Buffer.alloc(Math.min(rest, 64 * 1024))
      rest -= piece.length
      if (!response.write(piece)) return
    }
    response.end()
  }
  response.on('drain', more)
  more()
}

/** Resolves when the tunnel has carried nothing for a while. */
async function untilStill(tunnel: OpenTunnel): Promise<void> {
  const carried = () => tunnel.bytesIn + tunnel.bytesOut
  let seen = -1
  const moved = (): boolean => {
    const before = seen
    seen = carried()
    return seen !== before
  }
  await expect.poll(moved, { interval: 1_200, timeout: 20_000 }).toBe(false)
}

test('a visitor that stops reading is cut off in the end, and no longer counts as being there', async () => {
  const clock = movableClock()
  const port = await serviceOf((_request, response) => pour(response, Number.POSITIVE_INFINITY))
  await using bed = await startBed({ now: clock.now })
  const tunnel = bed.open(port)
  const { socket } = visit(bed)
  socket.write(`GET /tunnel/${tunnel.facts.token}/ HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await once(socket, 'data')
  socket.pause()
  await untilStill(tunnel)
  expect(tunnel.openCount).toBe(1)
  // Again where a busy machine had only paused: whatever moved since has made the time begin anew.
  const countAfterStall = (): number => {
    clock.pass(stalledMs + 1)
    return tunnel.openCount
  }
  await expect.poll(countAfterStall, { interval: 1_200 }).toBe(0)
})

test('an upload of which the service takes nothing, nor answers, is ended, and its visitor is gone then', async () => {
  const clock = movableClock()
  const service = createTcpServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(service, 'listening')
  onTestFinished(() => void service.close())
  const taken: Socket[] = []
  service.on('connection', (socket) => taken.push(socket.on('error', () => {})))
  onTestFinished(() => {
    for (const socket of taken) socket.destroy()
  })
  await using bed = await startBed({ now: clock.now })
  const tunnel = bed.open((service.address() as AddressInfo).port)
  const staying = visit(bed)
  const leaving = visit(bed)
  for (const { socket } of [staying, leaving]) {
    socket.write(`PUT /tunnel/${tunnel.facts.token}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000000\r\n\r\n`)
    socket.write(Buffer.alloc(40_000_000))
  }
  await untilStill(tunnel)
  leaving.socket.resetAndDestroy()
  expect(tunnel.openCount).toBe(2)
  const countAfterStall = (): number => {
    clock.pass(bodyStalledMs + 1)
    return tunnel.openCount
  }
  await expect.poll(countAfterStall, { interval: 1_200 }).toBe(0)
  await expect.poll(staying.received).toContain('HTTP/1.1 504')
  expect(staying.received()).toContain('takes nothing of the request')
})

test('a thousand pipelined requests are answered in their order, with one connection to the service', async () => {
  const seen: string[] = []
  const port = await serviceOf((request, response) => {
    seen.push(request.url ?? '')
    response.end(request.url)
  })
  await using bed = await startBed()
  const { token } = bed.open(port).facts
  const visitor = visit(bed)
  const paths = Array.from({ length: 1_000 }, (_, i) => `/${i}`)
  visitor.socket.write(paths.map((path) => `GET /tunnel/${token}${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`).join(''))
  await expect.poll(() => countOf(visitor.received(), 'HTTP/1.1 200')).toBe(1_000)
  expect(seen).toEqual(paths)
  expect(bed.edge.upstreams).toBe(1)
  expect(Object.fromEntries(bed.edge.answers.service)).toEqual({ '2xx': 1_000 })
})

test('a refusal arrives whole although the visitor is still sending', async () => {
  // Else a busy machine may take longer to read the refusal than the edge bears with what still comes.
  await using bed = await startBed({ now: movableClock().now })
  const visitor = visit(bed)
  visitor.socket.write('PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n')
  const more = setInterval(() => visitor.socket.write(Buffer.alloc(64 * 1024)), 1)
  await visitor.ended
  clearInterval(more)
  expect(visitor.received()).toMatch(/^HTTP\/1\.1 400 .*"error_code":"bad_request"}\n$/s)
})

test('a refusal has its body also after a HEAD', async () => {
  await using bed = await startBed()
  const visitor = visit(bed)
  visitor.socket.write('HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await expect.poll(visitor.received).toContain('\r\n\r\n')
  visitor.socket.write('GET / HTTP/1.1\r\nBad Field: x\r\n\r\n')
  await visitor.ended
  expect(visitor.received()).toMatch(/\r\n\r\nHTTP\/1\.1 400 .*"error_code":"bad_request"}\n$/s)
})

test('a connection that is lost before the request is written is told as lost', async () => {
  const open = async (init: LinkStream['init'], events: StreamEvents | undefined): Promise<LinkStream> => {
    events?.onReset('link_lost')
    events?.onClose?.()
    const nothing = (): void => {}
    const never = () => false
    return {
      ...{ id: 1, init, accepted: Promise.resolve(), queuedBytes: 0 },
      ...{ listen: nothing, accept: nothing, end: nothing, reset: nothing, write: never, pass: never },
    }
  }
  await using bed = await startBed({ routing: { pathTo: () => ({ open }) } })
  const { token } = bed.open(1).facts
  const visitor = visit(bed)
  visitor.socket.write(`POST /tunnel/${token}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`)
  await expect.poll(visitor.received).toMatch(/^HTTP\/1\.1 502 .*"error_code":"link_lost"}\n$/s)
})

test('an answer of ours to an upload leaves the connection for the next request', async () => {
  await using bed = await startBed()
  const visitor = visit(bed)
  visitor.socket.write('PUT /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n')
  await expect.poll(visitor.received).toContain('HTTP/1.1 404')
  visitor.socket.write(`${'x'.repeat(100_000)}GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
  await visitor.ended
  expect(visitor.received()).toContain('HTTP/1.1 200')
})

test('a fault of ours fails one request with 500, and nothing else', async () => {
  const port = await serviceOf((_request, response) => response.end('served'))
  const fault = (): never => {
    throw new Error('a bug')
  }
  await using lookup = await startBed({
    tunnels: { byToken: fault, byLabel: fault, byEdgePort: fault, edgePorts: () => [] },
  })
  await using path = await startBed({ routing: { pathTo: fault } })
  for (const bed of [lookup, path]) {
    const { token } = bed.open(port).facts
    const visitor = visit(bed)
    visitor.socket.write(`GET /tunnel/${token}/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    await visitor.ended
    expect(visitor.received()).toMatch(/^HTTP\/1\.1 500 .*"error_code":"internal"}\n$/s)
  }
})

test('HTTP/1.0 is kept open when it asks for that, and bodies without a length end with the connection', async () => {
  const port = await serviceOf((request, response) => {
    if (request.url === '/counted') response.setHeader('Content-Length', 2)
    response.write('ok')
    response.end()
  })
  await using bed = await startBed()
  const { token } = bed.open(port).facts
  const visitor = visit(bed)
  const get = (path: string) =>
    `GET /tunnel/${token}${path} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n`
  visitor.socket.write(get('/counted'))
  await expect.poll(visitor.received).toMatch(/\r\nConnection: keep-alive\r\n.*\r\n\r\nok$/s)
  visitor.socket.write(get('/streamed'))
  await visitor.ended
  expect(visitor.received()).toMatch(/\r\nConnection: close\r\n\r\nok$/)
})

test('bytes behind an agent’s request for a link are refused', async () => {
  await using bed = await startBed()
  const visitor = visit(bed)
  const asks = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  visitor.socket.write(`GET /agent HTTP/1.1\r\nHost: localhost\r\n${asks}${key}\r\n\x82\x80early`)
  await visitor.ended
  expect(visitor.received()).toMatch(/^HTTP\/1\.1 400 /)
})

/** Serves one connection at a time, with as many answers of 20 kB as are asked for; counts all that were made. */
async function singleService() {
  const waiting: Socket[] = []
  let connections = 0
  let current: Socket | undefined
  const next = (): void => {
    const served = waiting.shift()
    served?.on('data', (bytes) => {
      const requests = bytes.toString('latin1').split('\r\n\r\n').length - 1
      served.write(`HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n${'x'.repeat(20_000)}`.repeat(requests))
    })
    served?.on('end', () => served.end())
    served?.on('close', next)
    served?.resume()
    current = served
  }
  const server = createTcpServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    connections += 1
    socket.on('error', () => {})
    waiting.push(socket)
    if (!current) next()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return { port: (server.address() as AddressInfo).port, connections: () => connections }
}

test('pipelined requests wait until the visitor has taken the answers before, and go over one connection', async () => {
  const service = await singleService()
  await using bed = await startBed()
  const tunnel = bed.open(service.port)
  const visitor = connect(bed.edge.port, '127.0.0.1')
  onTestFinished(() => void visitor.destroy())
  let received = 0
  visitor.on('data', (bytes: Buffer) => (received += bytes.length))
  visitor.write(`GET /tunnel/${tunnel.facts.token}/ HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(50))
  await expect.poll(() => received).toBeGreaterThan(50 * 20_000)
  expect(service.connections()).toBe(1)
})
