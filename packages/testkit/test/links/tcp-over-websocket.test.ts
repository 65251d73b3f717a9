import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import {
  acceptWebSocket,
  type ByteSocket,
  dialWebSocket,
  type RelayResult,
  relaySocketToWebSocket,
  TCP_SUBPROTOCOL,
  tryAdoption,
} from '@cyberun/link'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'

/** Closes what a test opened, last first. */
const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close()
})
beforeAll(async () => {
  expect(await tryAdoption()).toBe(true)
})

async function listen(server: HttpServer | Server): Promise<number> {
  closing.push(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

/** A service, and a WebSocket server in front of it that relays as the edge does; tells how each relay ended. */
async function relayTo(serve: (socket: Socket) => void): Promise<{ url: string; results: RelayResult[] }> {
  const servicePort = await listen(
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {})
      serve(socket)
    }),
  )
  const results: RelayResult[] = []
  const front = createHttpServer()
  front.on('upgrade', (request, socket, head) => {
    const service = connect({ port: servicePort, host: '127.0.0.1', allowHalfOpen: true })
    service.once('connect', () => {
      const visitor = acceptWebSocket({ request, socket: socket as Socket, head })
      if (visitor) void relaySocketToWebSocket(service, visitor).then((result) => results.push(result))
    })
  })
  return { url: `ws://127.0.0.1:${await listen(front)}/tunnel/x/`, results }
}

describe('a plain WebSocket client', () => {
  const messages = (client: WebSocket): Promise<{ bytes: Buffer; code: number }> =>
    new Promise((resolve) => {
      const chunks: Buffer[] = []
      client.on('message', (data: Buffer) => chunks.push(data))
      client.on('close', (code) => resolve({ bytes: Buffer.concat(chunks), code }))
    })

  test('moves bytes both ways, masked and in fragments, and is closed with 1000 when the service is done', async () => {
    const { url, results } = await relayTo((socket) => {
      let size = 0
      socket.on('data', (bytes) => {
        size += bytes.length
        socket.write(bytes)
        if (size === 300_000 + 7) socket.end()
      })
    })
    const client = new WebSocket(url)
    const done = messages(client)
    await new Promise((resolve) => client.once('open', resolve))
    const large = Buffer.alloc(300_000, 'large message ')
    client.send(large.subarray(0, 100_000), { fin: false })
    client.ping()
    client.send(large.subarray(100_000), { fin: true })
    client.send(Buffer.from('and end'))
    const { bytes, code } = await done
    expect(bytes.equals(Buffer.concat([large, Buffer.from('and end')]))).toBe(true)
    expect(code).toBe(1000)
    await expect.poll(() => results).toEqual([{ bytesIn: 300_007, bytesOut: 300_007 }])
  })

  test('that closes ends its direction: what it sent arrives', async () => {
    const got = Promise.withResolvers<string>()
    const { url } = await relayTo((socket) => {
      const chunks: Buffer[] = []
      socket.on('data', (bytes) => chunks.push(bytes))
      socket.on('end', () => {
        got.resolve(Buffer.concat(chunks).toString())
        socket.end()
      })
    })
    const client = new WebSocket(url)
    client.on('open', () => {
      client.send(Buffer.from('last words'))
      client.close()
    })
    expect(await got.promise).toBe('last words')
  })

  test('that breaks off resets the service', async () => {
    const broken = Promise.withResolvers<Error>()
    const { url } = await relayTo((socket) => {
      socket.resume()
      socket.on('error', broken.resolve)
    })
    const client = new WebSocket(url)
    client.on('open', () => client.terminate())
    expect(await broken.promise).toMatchObject({ code: 'ECONNRESET' })
  })

  test('learns of a reset by a code of its own', async () => {
    const { url } = await relayTo((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const client = new WebSocket(url)
    const done = messages(client)
    client.on('open', () => client.send(Buffer.from('x')))
    expect((await done).code).toBe(4007)
  })

  test('that sends text is refused with 1003 or 1002, and the service is reset', async () => {
    const { url, results } = await relayTo((socket) => socket.resume())
    const client = new WebSocket(url)
    const done = messages(client)
    client.on('open', () => client.send('text'))
    expect([1002, 1003]).toContain((await done).code)
    await expect.poll(() => results[0]?.failure).toBeDefined()
  })
})

describe('our own client', () => {
  /** A local port in front of a dialled WebSocket, as `cyberun forward` has it. */
  async function forward(url: string): Promise<number> {
    return listen(
      createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
        void dialWebSocket({ url: new URL(url) }).then((tunnel: ByteSocket) => {
          expect(tunnel.subprotocol).toBe(TCP_SUBPROTOCOL)
          return relaySocketToWebSocket(socket, tunnel)
        })
      }),
    )
  }

  test('ends one direction and goes on with the other', async () => {
    const { url, results } = await relayTo((socket) => {
      const chunks: Buffer[] = []
      socket.on('data', (bytes) => chunks.push(bytes))
      socket.on('end', () => socket.end(`you said ${Buffer.concat(chunks)}`))
    })
    const client = connect({ port: await forward(url), host: '127.0.0.1', allowHalfOpen: true })
    client.end('hello')
    const chunks: Buffer[] = []
    for await (const chunk of client as AsyncIterable<Buffer>) chunks.push(chunk)
    expect(Buffer.concat(chunks).toString()).toBe('you said hello')
    await expect.poll(() => results).toHaveLength(1)
    expect(results[0]?.failure).toBeUndefined()
  })

  test('carries 32 MiB there and back', async () => {
    const { url } = await relayTo((socket) => socket.pipe(socket))
    const client = connect({ port: await forward(url), host: '127.0.0.1', allowHalfOpen: true })
    const bytes = Buffer.alloc(32 * 1024 * 1024, 'thirty-two MiB through a WebSocket ')
    client.end(bytes)
    const chunks: Buffer[] = []
    for await (const chunk of client as AsyncIterable<Buffer>) chunks.push(chunk)
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true)
  })

  test('passes a reset on, either way', async () => {
    const broken = Promise.withResolvers<Error>()
    const { url } = await relayTo((socket) => {
      socket.on('error', broken.resolve)
      socket.write('ready')
    })
    const client = connect(await forward(url), '127.0.0.1')
    client.once('data', () => client.resetAndDestroy())
    expect(await broken.promise).toMatchObject({ code: 'ECONNRESET' })
  })
})

test.each([
  ['POST', {}, 405],
  ['GET', { Upgrade: 'h2c' }, 426],
  ['GET', { 'Sec-WebSocket-Version': '12' }, 426],
  ['GET', { 'Sec-WebSocket-Key': 'short' }, 400],
  ['GET', { 'Content-Length': '5' }, 400],
])('%s with %j is answered with %i and closed', async (method, changed, status) => {
  const { url } = await relayTo(() => {})
  const headers = {
    Host: 'x',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...changed,
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const client = connect(Number(new URL(url).port), '127.0.0.1')
  client.write(`${method} / HTTP/1.1\r\n${lines.join('')}\r\n`)
  const chunks: Buffer[] = []
  for await (const chunk of client as AsyncIterable<Buffer>) chunks.push(chunk)
  expect(Buffer.concat(chunks).toString()).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*"error_message":`))
})
