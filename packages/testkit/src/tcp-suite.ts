import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { pattern } from './http-suite/build.ts'
import { SocketReader, writeAll } from './socket-reader.ts'
import { writeUntilStalled } from './stall.ts'

/** A way to a TCP service: a port on this machine that leads to it. */
export interface TcpWay {
  name: string
  start(service: { port: number }): Promise<{ port: number; stop(): Promise<void> }>
}

export interface TcpSuiteOptions {
  /** MiB sent each way at once by the bulk case. */
  bulkMebibytes: number
}

/** One end of a connection. */
interface End {
  socket: Socket
  reader: SocketReader
}

const SIZES = [1, 2, 65_535, 65_536, 65_537, 1_048_577]
const CASE_TIMEOUT_MS = 30_000
/** More than windows and kernels hold together, in bytes. */
const MOST_BUFFERED = 128 << 20

/** Holds `way` to what a TCP connection promises: bytes in order, each direction ended by itself, a reset is a reset. */
export function runTcpSuite(way: TcpWay, options: TcpSuiteOptions): void {
  describe(`TCP through ${way.name}`, { timeout: CASE_TIMEOUT_MS }, () => {
    const ends = new Set<Socket>()
    let server: Server
    let port: number
    let stop: () => Promise<void>

    const endOf = (socket: Socket): End => {
      ends.add(socket)
      return { socket, reader: new SocketReader(socket) }
    }
    const dial = (): End => endOf(connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true }))
    const pair = async (): Promise<{ client: End; service: End }> => {
      const accepted = once(server, 'connection') as Promise<[Socket]>
      const client = dial()
      const [socket] = await accepted
      return { client, service: endOf(socket) }
    }

    beforeAll(async () => {
      server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const started = await way.start(server.address() as AddressInfo)
      port = started.port
      stop = started.stop
    })
    afterEach(() => {
      for (const socket of ends) socket.destroy()
      ends.clear()
      server.removeAllListeners('connection')
    })
    afterAll(async () => {
      await stop()
      server.close()
    })

    test('a service that speaks first is heard by a client that is silent', async () => {
      server.once('connection', (socket: Socket) => endOf(socket).socket.write('220 ready\r\n'))
      expect(await dial().reader.readLine()).toBe('220 ready')
    })

    test('a thousand turns of one byte', async () => {
      const { client, service } = await pair()
      for (let i = 0; i < 500; i++) {
        await writeAll(client.socket, Uint8Array.of(i & 255))
        expect((await service.reader.readExact(1))[0]).toBe(i & 255)
        await writeAll(service.socket, Uint8Array.of(~i & 255))
        expect((await client.reader.readExact(1))[0]).toBe(~i & 255)
      }
    })

    for (const size of SIZES) {
      test(`${size} bytes each way at once`, async () => {
        const { client, service } = await pair()
        const bytes = pattern(size)
        const [atService, atClient] = await Promise.all([
          service.reader.readExact(size),
          client.reader.readExact(size),
          writeAll(client.socket, bytes),
          writeAll(service.socket, bytes),
        ])
        expect(atService.equals(bytes)).toBe(true)
        expect(atClient.equals(bytes)).toBe(true)
      })
    }

    test(`${options.bulkMebibytes} MiB each way at once, by hash`, async () => {
      const { client, service } = await pair()
      const [up, down, atService, atClient] = await Promise.all([
        produce(client.socket, options.bulkMebibytes),
        produce(service.socket, options.bulkMebibytes),
        hashToEnd(service.reader),
        hashToEnd(client.reader),
      ])
      expect(atService).toBe(up)
      expect(atClient).toBe(down)
    })

    test('the client ends its direction and still hears the answer', async () => {
      const { client, service } = await pair()
      client.socket.end('the whole question')
      expect((await service.reader.readAll()).toString()).toBe('the whole question')
      expect(service.reader.end).toBe('end')
      const answer = pattern(3_000_000)
      await writeAll(service.socket, answer)
      service.socket.end()
      expect((await client.reader.readAll()).equals(answer)).toBe(true)
      expect(client.reader.end).toBe('end')
    })

    test('the service ends its direction and still hears the client', async () => {
      const { client, service } = await pair()
      service.socket.end('goodbye')
      expect((await client.reader.readAll()).toString()).toBe('goodbye')
      expect(client.reader.end).toBe('end')
      const rest = pattern(3_000_000)
      await writeAll(client.socket, rest)
      client.socket.end()
      expect((await service.reader.readAll()).equals(rest)).toBe(true)
      expect(service.reader.end).toBe('end')
    })

    test('a direction that ends without a byte', async () => {
      const { client, service } = await pair()
      client.socket.end()
      expect((await service.reader.readAll()).length).toBe(0)
      service.socket.end()
      expect(await client.reader.waitEnd()).toBe('end')
    })

    test('both ends end at once', async () => {
      const { client, service } = await pair()
      client.socket.end('from the client')
      service.socket.end('from the service')
      expect((await service.reader.readAll()).toString()).toBe('from the client')
      expect((await client.reader.readAll()).toString()).toBe('from the service')
    })

    test('a reset by the client is a reset at the service', async () => {
      const { client, service } = await pair()
      await writeAll(client.socket, Buffer.from('before'))
      expect((await service.reader.readExact(6)).toString()).toBe('before')
      client.socket.resetAndDestroy()
      expect(await service.reader.waitEnd()).toBe('reset')
    })

    test('a reset by the service is a reset at the client', async () => {
      const { client, service } = await pair()
      await writeAll(service.socket, Buffer.from('before'))
      expect((await client.reader.readExact(6)).toString()).toBe('before')
      service.socket.resetAndDestroy()
      expect(await client.reader.waitEnd()).toBe('reset')
    })

    test('a reset after one direction has ended is still a reset', async () => {
      const { client, service } = await pair()
      client.socket.end('done')
      await service.reader.readAll()
      service.socket.resetAndDestroy()
      expect(await client.reader.waitEnd()).toBe('reset')
    })

    test('a service that closes at once', async () => {
      server.once('connection', (socket: Socket) => socket.end())
      const client = dial()
      expect((await client.reader.readAll()).length).toBe(0)
      expect(client.reader.end).toBe('end')
    })

    test('a client that never reads holds its service back', async () => {
      const { client, service } = await pair()
      client.socket.pause()
      expect(await writeUntilStalled(service.socket, MOST_BUFFERED)).toBeLessThan(MOST_BUFFERED)
    })

    test('fifty connections at once, each with its own bytes', async () => {
      server.on('connection', (socket: Socket) => {
        endOf(socket)
        socket.pipe(socket)
      })
      const echoes = Array.from({ length: 50 }, async (_, i) => {
        const client = dial()
        client.socket.end(`connection ${i} `.repeat(1000))
        return (await client.reader.readAll()).toString()
      })
      const expected = Array.from({ length: 50 }, (_, i) => `connection ${i} `.repeat(1000))
      expect(await Promise.all(echoes)).toEqual(expected)
    })
  })
}

async function produce(socket: Socket, blocks: number): Promise<string> {
  const hash = createHash('sha256')
  const block = pattern(1 << 20)
  for (let i = 0; i < blocks; i++) {
    block.writeUInt32BE(i)
    hash.update(block)
    await writeAll(socket, block)
  }
  socket.end()
  return hash.digest('hex')
}

async function hashToEnd(reader: SocketReader): Promise<string> {
  const hash = createHash('sha256')
  for (let bytes = await reader.readSome(); bytes; bytes = await reader.readSome()) hash.update(bytes)
  return hash.digest('hex')
}
