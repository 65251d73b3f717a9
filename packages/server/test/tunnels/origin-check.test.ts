import { type EventEmitter, once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type Bed, startBed } from './bed.ts'

/** Which pages may open a WebSocket through a tunnel: browsers let every page try, and send cookies along. */

let bed: Bed
let service: Server
let relayed: TcpServer
let reached = 0

beforeAll(async () => {
  bed = await startBed()
  service = createServer()
  const count = (socket: EventEmitter): void => {
    reached += 1
    socket.on('error', () => {}) // it is left without a word
  }
  new WebSocketServer({ server: service }).on('connection', count)
  relayed = createTcpServer(count)
  for (const server of [service, relayed]) {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  }
})
afterAll(async () => {
  await bed[Symbol.asyncDispose]()
  service.closeAllConnections()
  service.close()
  relayed.close()
})

const portOf = (server: TcpServer) => (server.address() as AddressInfo).port

/** A way in: where it is, and what a client shows there beside an Origin. */
const DOORS: Record<string, () => { host: string; path: string; headers: Record<string, string> }> = {
  'the host door': () => {
    const { label, token } = bed.open(portOf(service)).facts
    const host = `${label}.localhost:${bed.edge.port}`
    return { host, path: '/', headers: { Host: host, 'Cyberun-Tunnel-Token': token } }
  },
  'the path door': () => {
    const { token } = bed.open(portOf(service)).facts
    return { host: `127.0.0.1:${bed.edge.port}`, path: `/tunnel/${token}/`, headers: {} }
  },
  'the relay of a tcp tunnel': () => {
    const { token } = bed.open(portOf(relayed), { protocol: 'tcp' }).facts
    return { host: `127.0.0.1:${bed.edge.port}`, path: `/tunnel/${token}/`, headers: {} }
  },
}

/** HERE is the door's own host and port. */
const FOREIGN = [
  ...['https://HERE', 'http://HERE/', 'http://HERE.evil.example', 'http://evil.example', 'https://evil.example'],
  ...[
    'http://user@HERE',
    'http://HERE@evil.example',
    'null',
    '*',
    'file://',
    'HERE',
    '//HERE',
    'ws://HERE',
    'wss://HERE',
  ],
  ...[
    'chrome-extension://abcdefghijklmnop',
    'http://127.0.0.1',
    'http://127.0.0.1:1',
    'http://localhost',
    'http://[::1]',
  ],
  ...['http://2130706433', 'http://0123456789abcdef0123456789abcdef.localhost:8788', 'http://HERE0', 'http://.HERE'],
  ...['http://HERE http://HERE', 'http://HERE, http://evil.example', 'data:text/html,x', 'about:blank', 'http://HERE#'],
]

describe.each(Object.keys(DOORS))('%s', (name) => {
  /** The status of the answer to an upgrade with this Origin. */
  async function upgrade(origin: string | undefined): Promise<number> {
    const { host, path, headers } = DOORS[name]?.() ?? { host: '', path: '', headers: {} }
    const Origin = origin?.replaceAll('HERE', host)
    const url = `ws://127.0.0.1:${bed.edge.port}${path}`
    const socket = new WebSocket(url, { headers: { ...headers, ...(Origin !== undefined && { Origin }) } })
    socket.on('error', () => {})
    const opened = once(socket, 'open').then(() => 101)
    const refused = once(socket, 'unexpected-response').then(([, answer]) => answer.statusCode as number)
    const status = await Promise.race([opened, refused])
    socket.terminate()
    return status
  }

  test('its own pages, and programs, which send no Origin', async () => {
    expect([await upgrade('http://HERE'), await upgrade(undefined)]).toEqual([101, 101])
  })

  test.each(FOREIGN)('not a page of %s, and the service never hears of it', async (origin) => {
    const before = reached
    expect(await upgrade(origin)).toBe(403)
    expect(reached).toBe(before)
  })
})
