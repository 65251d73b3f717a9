import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import {
  acceptWebSocket,
  type ByteSocket,
  dialAndRelay,
  type RelayResult,
  relaySocket,
  relayWebSocket,
  type StreamHandler,
} from '@cyberun/link'
import { expect, test } from 'vitest'
import { connectPair, listen } from './pair.ts'

/** Far longer than dialling takes: no test here is about its limit. */
const PATIENCE_MS = 60_000

/** A visitor's port that leads through a link to the service at `port`. */
async function tunnelTo(port: number) {
  const onClientStream: StreamHandler = (stream) => {
    void dialAndRelay(stream, { hosts: ['127.0.0.1'], port, timeoutMs: PATIENCE_MS })
    return undefined
  }
  const pair = await connectPair({ onClientStream })
  const front = createServer({ allowHalfOpen: true }, (socket) => {
    const stream = pair.server.open({ target: { kind: 'tcp', port }, priority: 'interactive' })
    void relaySocket(stream, socket)
  })
  return {
    pair,
    port: await listen(front),
    async [Symbol.asyncDispose]() {
      front.close()
      await pair[Symbol.asyncDispose]()
    },
  }
}

async function service(onSocket: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // The end of a test resets what is still open.
    socket.on('error', () => {})
    onSocket(socket)
  })
  return { server, port: await listen(server) }
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('64 MiB come back as they went, with half-close each way', async () => {
  const { server, port } = await service((socket) => socket.pipe(socket))
  await using tunnel = await tunnelTo(port)
  const bytes = randomBytes(64 * 1024 * 1024)
  const visitor = connect({ port: tunnel.port, host: '127.0.0.1', allowHalfOpen: true })
  visitor.end(bytes)
  const back = await readAll(visitor)
  expect(back.length).toBe(bytes.length)
  expect(createHash('sha256').update(back).digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'))
  await expect.poll(() => tunnel.pair.server.stats.streams).toBe(0)
  server.close()
})

test('a stream that is over before a WebSocket is joined to it ends the relay', async () => {
  await using pair = await connectPair({
    onClientStream(stream) {
      stream.accept()
      stream.write(Buffer.from('bye'))
      stream.end()
      return { onData() {}, onEnd: () => stream.end(), onReset() {}, onDrain() {} }
    },
  })
  const stream = pair.server.open({ target: { kind: 'tcp', port: 1 }, priority: 'interactive' })
  await stream.accepted
  // Its end may come after its acceptance.
  const ended = Promise.withResolvers<void>()
  const probe = pair.server.open({ target: { kind: 'echo' }, priority: 'interactive' })
  probe.listen({ onData() {}, onEnd: () => ended.resolve(), onReset: () => ended.resolve(), onDrain() {} })
  probe.end()
  await ended.promise
  const over = Promise.withResolvers<RelayResult>()
  const front = createHttpServer()
  front.on('upgrade', (request, socket: Socket, head) => {
    const visitor = acceptWebSocket({ request, socket, head }) as ByteSocket
    void relayWebSocket(stream, visitor).then(over.resolve)
  })
  const visitor = connect(await listen(front), '127.0.0.1')
  const asks = 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
  visitor.write(`GET / HTTP/1.1\r\nHost: a\r\n${asks}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`)
  visitor.resume()
  expect(await over.promise).toMatchObject({ bytesIn: 3, bytesOut: 0 })
  await expect.poll(() => pair.server.stats.streams).toBe(0)
  front.close()
})

test('a service that speaks first is heard', async () => {
  const { server, port } = await service((socket) => socket.end('SSH-2.0-test\r\n'))
  await using tunnel = await tunnelTo(port)
  const visitor = connect(tunnel.port, '127.0.0.1')
  expect((await readAll(visitor)).toString()).toBe('SSH-2.0-test\r\n')
  server.close()
})

test('a reset of the service resets the visitor', async () => {
  const { server, port } = await service((socket) => socket.once('data', () => socket.resetAndDestroy()))
  await using tunnel = await tunnelTo(port)
  const visitor = connect(tunnel.port, '127.0.0.1')
  visitor.write('x')
  const [error] = await once(visitor, 'error')
  expect(error.code).toBe('ECONNRESET')
  server.close()
})

test('a port where nobody listens is refused before a byte', async () => {
  const { server, port } = await service(() => {})
  await using tunnel = await tunnelTo(port)
  // Only now, as whatever listens after it may be given its port.
  await new Promise((resolve) => server.close(resolve))
  const stream = tunnel.pair.server.open({ target: { kind: 'tcp', port }, priority: 'interactive' })
  await expect(stream.accepted).rejects.toMatchObject({ code: 'target_refused' })
})

test('a relay that is cancelled resets both ends and says so', async () => {
  const { server, port } = await service((socket) => socket.resume())
  const onClientStream: StreamHandler = (stream) => {
    void dialAndRelay(stream, { hosts: ['127.0.0.1'], port, timeoutMs: PATIENCE_MS })
    return undefined
  }
  await using pair = await connectPair({ onClientStream })
  const stop = new AbortController()
  const results: unknown[] = []
  const front = createServer({ allowHalfOpen: true }, (socket) => {
    const stream = pair.server.open({ target: { kind: 'tcp', port }, priority: 'interactive' })
    void relaySocket(stream, socket, { signal: stop.signal }).then((result) => results.push(result))
    void stream.accepted.then(() => stop.abort())
  })
  const visitor = connect(await listen(front), '127.0.0.1')
  const [error] = await once(visitor, 'error')
  expect(error.code).toBe('ECONNRESET')
  await expect.poll(() => results).toEqual([{ bytesIn: 0, bytesOut: 0, failure: 'cancelled' }])
  front.close()
  server.close()
})

test('the next address is tried', async () => {
  const { server, port } = await service((socket) => socket.end('found'))
  const onClientStream: StreamHandler = (stream) => {
    void dialAndRelay(stream, { hosts: ['127.0.0.9', '127.0.0.1'], port, timeoutMs: PATIENCE_MS })
    return undefined
  }
  await using pair = await connectPair({ onClientStream })
  await pair.server.open({ target: { kind: 'tcp', port }, priority: 'interactive' }).accepted
  server.close()
})
