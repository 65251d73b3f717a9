import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { pattern } from './build.ts'
import { type DoorFactory, type OpenDoor, schemeOf } from './visitor.ts'

const MESSAGE_SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000, 16 << 20]
const CLOSE_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 3000, 4999]
const MAX_PAYLOAD = 32 << 20

interface Pair {
  visitor: WebSocket
  service: WebSocket
  request: IncomingMessage
}

/** WebSocket through `factory`'s door, with the same library at both ends as applications use it. */
export function runWebSocketSuite(factory: DoorFactory): void {
  describe(`WebSocket through ${factory.name}`, () => {
    const sockets = new Set<WebSocket>()
    const http = createServer()
    const server = new WebSocketServer({
      server: http,
      maxPayload: MAX_PAYLOAD,
      perMessageDeflate: { threshold: 0 },
      handleProtocols: (offered) => (offered.has('second') ? 'second' : false),
    })
    let door: OpenDoor

    beforeAll(async () => {
      http.listen(0, '127.0.0.1')
      await once(http, 'listening')
      door = await factory.start(http.address() as AddressInfo)
    })
    afterEach(() => {
      for (const socket of sockets) socket.terminate()
      sockets.clear()
    })
    afterAll(async () => {
      await door.stop()
      server.close()
      http.close()
      http.closeAllConnections()
    })

    const dial = (path: string, protocols: string[], options: WebSocket.ClientOptions): WebSocket => {
      const { host, port, ca, hostHeader, pathPrefix, extraHeaders } = door.visitor
      const url = `${ca === undefined ? 'ws' : 'wss'}://${host}:${port}${pathPrefix}${path}`
      const visitor = new WebSocket(url, protocols, {
        ...(ca !== undefined && { ca }),
        perMessageDeflate: false,
        maxPayload: MAX_PAYLOAD,
        ...options,
        headers: { Host: hostHeader, ...Object.fromEntries(extraHeaders), ...options.headers },
      })
      sockets.add(visitor)
      return visitor
    }
    const pair = async (path = '/', protocols: string[] = [], options: WebSocket.ClientOptions = {}): Promise<Pair> => {
      const accepted = once(server, 'connection') as Promise<[WebSocket, IncomingMessage]>
      const visitor = dial(path, protocols, options)
      const [[service, request]] = await Promise.all([accepted, once(visitor, 'open')])
      sockets.add(service)
      return { visitor, service, request }
    }
    const nextMessage = async (socket: WebSocket): Promise<[data: Buffer, isBinary: boolean]> => {
      const [data, isBinary] = await once(socket, 'message')
      return [data as Buffer, isBinary as boolean]
    }

    for (const size of MESSAGE_SIZES) {
      test(`a binary message of ${size} bytes, both ways`, async () => {
        const { visitor, service } = await pair()
        const bytes = pattern(size)
        for (const [from, to] of [
          [visitor, service],
          [service, visitor],
        ] as const) {
          const received = nextMessage(to)
          from.send(bytes)
          const [data, isBinary] = await received
          expect(isBinary).toBe(true)
          expect(data.equals(bytes)).toBe(true)
        }
      })
    }

    test('text stays text', async () => {
      const { visitor, service } = await pair()
      for (const text of ['', 'plain', 'naïve 你好 🚇', 'x'.repeat(70_000)]) {
        const received = nextMessage(service)
        visitor.send(text)
        const [data, isBinary] = await received
        expect(isBinary).toBe(false)
        expect(data.toString()).toBe(text)
      }
    })

    test('fragments arrive as the message they make', async () => {
      const { visitor, service } = await pair()
      for (const [from, to] of [
        [visitor, service],
        [service, visitor],
      ] as const) {
        const received = nextMessage(to)
        from.send('one ', { fin: false })
        from.send('', { fin: false })
        from.send('two ', { fin: false })
        from.ping('between fragments')
        from.send('three', { fin: true })
        expect((await received)[0].toString()).toBe('one two three')
      }
    })

    test('a ping is answered by the other end, with its payload', async () => {
      const { visitor, service } = await pair()
      for (const [from, to, payload] of [
        [visitor, service, 'hello'],
        [service, visitor, ''],
        [visitor, service, 'p'.repeat(125)],
      ] as const) {
        const [pinged, ponged] = [once(to, 'ping'), once(from, 'pong')]
        from.ping(payload)
        expect(String((await pinged)[0])).toBe(payload)
        expect(String((await ponged)[0])).toBe(payload)
      }
    })

    test('an unasked pong crosses', async () => {
      const { visitor, service } = await pair()
      const ponged = once(service, 'pong')
      visitor.pong('unasked')
      expect(String((await ponged)[0])).toBe('unasked')
    })

    for (const code of CLOSE_CODES) {
      test(`close ${code} with its reason, from either end`, async () => {
        for (const closer of ['visitor', 'service'] as const) {
          const both = await pair()
          const other = closer === 'visitor' ? both.service : both.visitor
          const closed = once(other, 'close')
          both[closer].close(code, `because ${code}`)
          const [seen, reason] = await closed
          expect([seen, String(reason)]).toEqual([code, `because ${code}`])
        }
      })
    }

    test('close without a code', async () => {
      const { visitor, service } = await pair()
      const closed = once(service, 'close')
      visitor.close()
      expect((await closed)[0]).toBe(1005)
    })

    for (const gone of ['visitor', 'service'] as const) {
      test(`a ${gone} that vanishes: 1006 at the other end`, async () => {
        const both = await pair()
        const closed = once(gone === 'visitor' ? both.service : both.visitor, 'close')
        both[gone].on('error', () => {})
        both[gone].terminate()
        expect((await closed)[0]).toBe(1006)
      })
    }

    test('the service’s choice of subprotocol', async () => {
      expect((await pair('/', ['first', 'second'])).visitor.protocol).toBe('second')
      expect((await pair('/')).visitor.protocol).toBe('')
    })

    test('compression agreed between the ends stays theirs', async () => {
      const { visitor, service } = await pair('/', [], { perMessageDeflate: { threshold: 0 } })
      expect(visitor.extensions).toContain('permessage-deflate')
      const text = 'compress me '.repeat(10_000)
      const received = nextMessage(service)
      visitor.send(text)
      expect((await received)[0].toString()).toBe(text)
    })

    test('compression that the visitor does not offer is not agreed', async () => {
      expect((await pair()).visitor.extensions).toBe('')
    })

    test('path, query and cookies reach the service', async () => {
      const { request } = await pair('/a/b%2Fc;d?x=%20', [], { headers: { Cookie: 'a=1; b=2' } })
      expect(request.url).toBe(`${door.service?.pathPrefix ?? ''}/a/b%2Fc;d?x=%20`)
      expect(request.headers.cookie).toBe('a=1; b=2')
    })

    test('an Origin of the tunnel is let through', async () => {
      const { request } = await pair('/', [], { origin: `${schemeOf(door.visitor)}://${door.visitor.hostHeader}` })
      expect(request.headers.origin).toBe(`http://${request.headers.host}`)
    })

    test('the service’s first message is not lost', async () => {
      server.once('connection', (service) => service.send('welcome'))
      const visitor = dial('/', [], {})
      expect((await nextMessage(visitor))[0].toString()).toBe('welcome')
    })

    test('five thousand small messages stay in order', async () => {
      const { visitor, service } = await pair()
      service.on('message', (data) => service.send(String(data)))
      const got: string[] = []
      const all = new Promise<void>((resolve) => {
        visitor.on('message', (data) => {
          if (got.push(String(data)) === 5000) resolve()
        })
      })
      const sent = Array.from({ length: 5000 }, (_, i) => `message ${i}`)
      for (const text of sent) visitor.send(text)
      await all
      expect(got).toEqual(sent)
    })

    test('fifty sockets at once, each with its own bytes', async () => {
      server.on('connection', echo)
      const echoed = Array.from({ length: 50 }, async (_, i) => {
        const visitor = dial(`/${i}`, [], {})
        await once(visitor, 'open')
        visitor.send(`socket ${i}`)
        return (await nextMessage(visitor))[0].toString()
      })
      expect(await Promise.all(echoed)).toEqual(Array.from({ length: 50 }, (_, i) => `socket ${i}`))
      server.off('connection', echo)
    })
  })
}

function echo(service: WebSocket): void {
  service.on('message', (data) => service.send(String(data)))
}
