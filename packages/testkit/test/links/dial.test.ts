import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type Server as HttpServer, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { acceptLink, type DialLinkOptions, dialLink, type Link, type StreamHandler } from '@cyberun/link'
import type { CloseReason } from '@cyberun/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { makeLocalCertificate } from '../../src/certificate.ts'
import { freePort } from '../../src/free-port.ts'
import { lacksPrograms } from '../../src/programs.ts'
import { streamToDuplex } from '../../src/stream-duplex.ts'

/** Closes what a test opened, last first. */
const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close()
})

async function listen(server: HttpServer | Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  closing.push(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

const refuse: StreamHandler = (stream) => {
  stream.reset('refused')
  return undefined
}

function dial(url: string, more: Partial<DialLinkOptions> = {}): Promise<Link> {
  const link = dialLink({
    url: new URL(url),
    headers: {},
    hello: (challenge) => ({ software: 'test/1', fields: { challenge } }),
    onStream: refuse,
    ...more,
  })
  link.then(
    (open) => closing.push(() => open.close({ code: 'done', message: 'the test is over' })),
    () => {},
  )
  return link
}

/** Sends every stream back what it brings. */
const echo: StreamHandler = (stream) => {
  stream.accept()
  const duplex = streamToDuplex(stream)
  duplex.on('error', () => {})
  duplex.pipe(duplex)
  return undefined
}

/** Welcomes every link, or answers each hello with `refusal`. */
function serveLinks(server: HttpServer, refusal?: CloseReason): Promise<Link> {
  return new Promise((resolve) => {
    server.on('upgrade', (request, socket, head) => {
      acceptLink({
        request,
        socket: socket as Socket,
        head,
        challenge: 'c2lnbiB0aGlz',
        welcome: (hello) =>
          Promise.resolve(refusal ?? { software: 'test/1', fields: { heard: hello.fields['challenge'] } }),
        onStream: echo,
      }).then(resolve, () => {})
    })
  })
}

/** What comes back of `bytes` through a stream. */
async function roundTrip(link: Link, bytes: Buffer): Promise<Buffer> {
  const duplex = streamToDuplex(link.open({ target: { kind: 'echo' }, priority: 'bulk' }))
  duplex.end(bytes)
  const chunks: Buffer[] = []
  for await (const chunk of duplex as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const BYTES = Buffer.alloc(5_000_000, 'what goes comes back ')

describe('a link comes up', () => {
  test.each(['zero', 'random'] as const)('over ws with the %s mask, and carries bytes', async (maskPlain) => {
    const server = createHttpServer()
    const accepted = serveLinks(server)
    const link = await dial(`ws://127.0.0.1:${await listen(server)}/agent`, { maskPlain })
    expect(link.welcome.fields).toEqual({ heard: 'c2lnbiB0aGlz' })
    expect((await roundTrip(link, BYTES)).equals(BYTES)).toBe(true)
    await accepted
    expect(link.stats.streams).toBe(0)
  })

  test.each([200, 204])('through an HTTP proxy that asks for a password and answers %i', async (status) => {
    const server = createHttpServer()
    void serveLinks(server)
    const port = await listen(server)
    const asked: (string | undefined)[] = []
    const proxy = createHttpServer()
    proxy.on('connect', (request, socket: Socket) => {
      asked.push(request.url, request.headers['proxy-authorization'])
      const upstream = connect(port, '127.0.0.1', () => {
        socket.write(`HTTP/1.1 ${status} Connection established\r\n\r\n`)
        upstream.pipe(socket).pipe(upstream)
      })
      for (const end of [socket, upstream]) end.on('error', () => {})
      closing.push(() => upstream.destroy())
    })
    const link = await dial('ws://server.test/agent', {
      proxy: new URL(`http://me:p%40ss@127.0.0.1:${await listen(proxy)}`),
    })
    expect(asked).toEqual(['server.test:80', `Basic ${Buffer.from('me:p@ss').toString('base64')}`])
    expect((await roundTrip(link, BYTES)).equals(BYTES)).toBe(true)
  })
})

describe('both ends say alike why it is over', () => {
  test.each([
    [
      'closed by the acceptor',
      (_: Link, server: Link) => server.close({ code: 'revoked', message: 'the key was revoked' }),
    ],
    ['closed by the dialler', (client: Link) => client.close({ code: 'revoked', message: 'the key was revoked' })],
  ])('%s', async (_, close) => {
    const http = createHttpServer()
    const accepted = serveLinks(http)
    const client = await dial(`ws://127.0.0.1:${await listen(http)}/agent`)
    const server = await accepted
    close(client, server)
    const reason = { code: 'revoked', message: 'the key was revoked' }
    expect(await Promise.all([client.closed, server.closed, client.goingAway])).toEqual([reason, reason, reason])
  })
})

describe('a dial that fails says at which layer', () => {
  const failureOf = (url: string, more?: Partial<DialLinkOptions>) => {
    const link = dial(url, more)
    return expect(link).rejects
  }
  const answering = async (answer: (response: ServerResponse) => void): Promise<string> => {
    const server = createHttpServer((_, response) => answer(response))
    return `ws://127.0.0.1:${await listen(server)}/agent`
  }

  test('nobody listens', async () => {
    await failureOf(`ws://127.0.0.1:${await freePort()}/agent`).toMatchObject({
      failure: { kind: 'network', code: 'ECONNREFUSED' },
    })
  })

  test('the server refuses, and says why and when to come back', async () => {
    const url = await answering((response) => {
      response.writeHead(429, { 'Content-Type': 'application/json', 'Retry-After': '3' })
      response.end('{"error_message":"Too many agents at once."}')
    })
    await failureOf(url).toMatchObject({
      failure: { kind: 'http', status: 429, message: 'Too many agents at once.', retryAfterMs: 3000 },
    })
  })

  test('something else answers', async () => {
    const url = await answering((response) => response.end('<html>hello</html>'))
    await failureOf(url).toMatchObject({ failure: { kind: 'http', status: 200, message: 'the server answered 200' } })
  })

  test.each([
    ['the answer to the key is wrong', 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA='],
    ['an extension is wanted', 'Sec-WebSocket-Extensions: permessage-deflate'],
  ])('%s', async (_, field) => {
    const server = createHttpServer()
    server.on('upgrade', (_request, socket) => {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${field}\r\n\r\n`)
    })
    const url = `ws://127.0.0.1:${await listen(server)}/agent`
    await failureOf(url).toMatchObject({ failure: { kind: 'protocol' } })
  })

  test('the server says go-away instead of welcome', async () => {
    const server = createHttpServer()
    const reason: CloseReason = { code: 'agent_id_taken', message: 'Another machine is studio-7.', retryAfterMs: 5000 }
    void serveLinks(server, reason)
    const url = `ws://127.0.0.1:${await listen(server)}/agent`
    await failureOf(url).toMatchObject({ failure: { kind: 'refused', reason } })
  })

  test('the server drops the connection, or says nothing until the dial is given up', async () => {
    const dropping = createServer((socket) => socket.destroy())
    await failureOf(`ws://127.0.0.1:${await listen(dropping)}/agent`).toMatchObject({ failure: { kind: 'network' } })
    const silent = createServer((socket) => socket.resume())
    const stop = new AbortController()
    const link = failureOf(`ws://127.0.0.1:${await listen(silent)}/agent`, { signal: stop.signal })
    silent.once('connection', () => stop.abort())
    await link.toMatchObject({ failure: { kind: 'network', code: 'ABORT_ERR' } })
  })

  test('the proxy refuses', async () => {
    const proxy = createHttpServer()
    proxy.on('connect', (_request, socket) => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'))
    const options = { proxy: new URL(`http://127.0.0.1:${await listen(proxy)}`) }
    await failureOf('ws://server.test/agent', options).toMatchObject({ failure: { kind: 'proxy', status: 407 } })
  })
})

describe.skipIf(lacksPrograms('openssl'))('over TLS', () => {
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-dial-'))
  const certificate = makeLocalCertificate(directory)
  const tls = { cert: readFileSync(certificate.certFile), key: readFileSync(certificate.keyFile) }
  rmSync(directory, { recursive: true })

  test('a private authority is trusted when it is given, and bytes come back as they went', async () => {
    const server = createHttpsServer(tls)
    void serveLinks(server)
    const port = await listen(server)
    for (const host of ['127.0.0.1', 'localhost']) {
      const link = await dial(`wss://${host}:${port}/agent`, { ca: certificate.ca })
      expect((await roundTrip(link, BYTES)).equals(BYTES)).toBe(true)
    }
  })

  test('and otherwise refused, by the name of the fault', async () => {
    const server = createHttpsServer(tls)
    const url = `wss://127.0.0.1:${await listen(server)}/agent`
    await expect(dial(url)).rejects.toMatchObject({ failure: { kind: 'tls', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' } })
  })
})
