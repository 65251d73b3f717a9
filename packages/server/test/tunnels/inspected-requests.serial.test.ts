import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { promisify } from 'node:util'
import { lacksPrograms } from '@cyberun/testkit'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { INSPECTOR_LIMITS, type InspectedRequest, Inspector } from '../../src/tunnels/inspector/inspector.ts'
import { asCurl } from '../../src/tunnels/inspector/inspector-curl.ts'
import { replay } from '../../src/tunnels/inspector/inspector-replay.ts'
import { inspectedDetail } from '../../src/tunnels/inspector/inspector-views.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { type Bed, startAgentLink, startBed } from './bed.ts'

/** What passes through an edge, as its inspector has it; what it gives out is sent by real programs. */

/** Answers every request with `answer`, and keeps the bytes it got. */
interface Capture {
  readonly port: number
  /** The requests got since the last call, one character a byte. */
  taken(): string
  answer: string
}

let bed: Bed
let link: Awaited<ReturnType<typeof startAgentLink>>
let capture: Capture
const sockets = new Set<Socket>()
const service = createServer((socket) => {
  sockets.add(socket)
  let got = ''
  socket.on('data', (bytes: Buffer) => {
    got += bytes.toString('latin1')
    if (!isWholeRequest(got)) return
    requests += got
    got = ''
    socket.write(capture.answer)
  })
  socket.on('error', () => {})
})
let requests = ''
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: sid=secret\r\n\r\nok'

beforeAll(async () => {
  link = await startAgentLink()
  bed = await startBed({ routing: link.routing })
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
  capture = {
    port: (service.address() as AddressInfo).port,
    taken() {
      const taken = requests
      requests = ''
      return taken
    },
    answer: OK,
  }
})
afterAll(async () => {
  await bed[Symbol.asyncDispose]()
  await link.close()
  for (const socket of sockets) socket.destroy()
  service.close()
})
afterEach(() => {
  capture.answer = OK
  capture.taken()
})

function isWholeRequest(got: string): boolean {
  const end = got.indexOf('\r\n\r\n')
  if (end < 0) return false
  if (/\r\ntransfer-encoding: chunked/i.test(got.slice(0, end))) return got.endsWith('0\r\n\r\n')
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(got.slice(0, end))?.[1] ?? 0)
  return got.length >= end + 4 + length
}

function inspect(tunnel: OpenTunnel, isBodyKept = true): Inspector {
  const clock = { now: Date.now, tick: () => performance.now() }
  tunnel.inspector = new Inspector({ clock, isBodyKept, roundTripMs: () => 0, turnOff() {} })
  return tunnel.inspector
}

const urlOf = (tunnel: OpenTunnel): string => `http://127.0.0.1:${bed.edge.port}/tunnel/${tunnel.facts.token}/`

/** Sends bytes as they are and resolves with what came back before the connection ended. */
async function sendRaw(bytes: Buffer | string): Promise<string> {
  const socket = connect(bed.edge.port, '127.0.0.1')
  socket.write(bytes)
  let got = ''
  for await (const piece of socket) got += (piece as Buffer).toString('latin1')
  return got
}

/** Runs a command line, and rejects when it fails. */
function sh(line: string): Promise<{ stdout: string; stderr: string }> {
  const running = promisify(execFile)('/bin/sh')
  running.child.stdin?.end(`${line}\n`) // an argument could not be as long
  return running
}

async function lastOf(inspector: Inspector): Promise<InspectedRequest> {
  const entry = inspector.read(inspector.lastNumber)
  if (!entry) throw new Error('nothing was inspected')
  await expect.poll(() => entry.isOver).toBe(true)
  return entry
}

test('an entry has what the service got and sent, without what is ours and with secrets masked', async () => {
  const tunnel = bed.open(capture.port)
  const inspector = inspect(tunnel)
  const answer = await sendRaw(
    `POST /tunnel/${tunnel.facts.token}/a?token=abc&b=1 HTTP/1.1\r\nHost: 127.0.0.1:${bed.edge.port}\r\nConnection: close\r\n` +
      `Cookie: cyberun-tunnel=ours; theirs=secret\r\nCyberun-Tunnel-Token: ${tunnel.facts.token}\r\n` +
      'Authorization: Bearer secret\r\nX-Plain: plain\r\nContent-Length: 4\r\n\r\nbody',
  )
  expect(answer).toContain('200 OK')
  const detail = inspectedDetail(await lastOf(inspector), urlOf(tunnel))
  expect(detail).toMatchObject({
    number: 1,
    method: 'POST',
    path: '/a?token=***&b=1',
    status: 200,
    failure: null,
    visitor_address: '127.0.0.1',
    replay_of: null,
    request_body_bytes: 4,
    response_body_bytes: 2,
    request_body: { is_whole: true, text: 'body', base64: null },
    response_body: { is_whole: true, text: 'ok', base64: null },
    is_replayable: true,
    websocket: null,
  })
  const fields = Object.fromEntries(detail.request_header_list.map(({ name, value }) => [name, value]))
  expect(fields).toMatchObject({ Cookie: 'theirs=***', Authorization: 'Bearer ***', 'X-Plain': 'plain' })
  expect(detail.response_header_list).toContainEqual({ name: 'Set-Cookie', value: 'sid=***' })
  const { curl, ...rest } = detail
  expect(JSON.stringify(rest)).not.toMatch(/secret|ours/)
  expect(JSON.stringify(rest)).not.toContain(tunnel.facts.token)
  expect(curl).toContain('# left out: secrets in the path, Cookie, Authorization\n')
  const { total_ms, visitor_ms, edge_ms, agent_ms, service_ms } = detail.timing
  expect(visitor_ms + edge_ms + agent_ms + service_ms).toBeCloseTo(total_ms, 1)
})

test('a request that cannot be relayed is an entry with the reason', async () => {
  const tunnel = bed.open(1)
  const inspector = inspect(tunnel)
  await fetch(`${urlOf(tunnel)}x`)
  expect(await lastOf(inspector)).toMatchObject({ status: 403, failure: 'port_not_allowed' })
})

test('a visitor that leaves, and an answer that breaks off, are told apart', async () => {
  const tunnel = bed.open(capture.port)
  const inspector = inspect(tunnel)
  capture.answer = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'
  const outgoing = request(`${urlOf(tunnel)}x`)
  outgoing.end()
  const [incoming] = await once(outgoing, 'response')
  await once(incoming, 'data')
  outgoing.destroy()
  expect(await lastOf(inspector)).toMatchObject({ status: 200, failure: 'visitor_gone' })
  const cut = fetch(`${urlOf(tunnel)}x`).then((response) => response.text())
  await expect.poll(() => inspector.lastNumber).toBe(2)
  await expect.poll(() => inspector.read(2)?.responseBody.bytes).toBe(3)
  for (const socket of sockets) socket.destroy()
  await expect(cut).rejects.toThrow()
  expect(await lastOf(inspector)).toMatchObject({ status: 200, failure: 'bad_response' })
})

test('a WebSocket’s messages are counted each way, with its close code', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  server.on('connection', (socket) => {
    socket.send('welcome')
    socket.on('message', (data) => socket.send(data))
  })
  const tunnel = bed.open((server.address() as AddressInfo).port)
  const inspector = inspect(tunnel)
  const socket = new WebSocket(`${urlOf(tunnel).replace('http', 'ws')}chat`)
  await once(socket, 'message')
  for (const text of ['one', 'two', 'x'.repeat(70_000)]) {
    socket.send(text)
    await once(socket, 'message')
  }
  socket.close(4001)
  const { websocket, status, curl, is_replayable } = inspectedDetail(await lastOf(inspector), urlOf(tunnel))
  expect(websocket).toEqual({
    from_visitor: { message_count: 3, byte_count: 70_006 },
    from_service: { message_count: 4, byte_count: 70_013 },
    close_code: 4001,
  })
  expect({ status, curl, is_replayable }).toEqual({ status: 101, curl: null, is_replayable: false })
  server.close()
})

describe('sent again from here', () => {
  test('the service gets the same bytes, secrets included, and the answer is an entry', async () => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel)
    await fetch(`${urlOf(tunnel)}hook?token=abc`, {
      method: 'POST',
      body: 'é\0',
      headers: { Authorization: 'Bearer secret' },
    })
    const first = capture.taken()
    const entry = await lastOf(inspector)
    const again = await replay(entry, inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    expect(capture.taken()).toBe(first)
    expect(again).toMatchObject({ number: 2, status: 200, failure: undefined, request: { address: null, replayOf: 1 } })
    expect(again.responseBody.kept?.bytes.toString()).toBe('ok')
    // Also of the repeated one.
    await replay(again, inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    expect(capture.taken()).toBe(first)
  })

  test('the oldest of a full inspector keeps its body, although the new entry takes its place', async () => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel)
    await fetch(`${urlOf(tunnel)}x`, { method: 'PUT', body: 'precious' })
    const oldest = await lastOf(inspector)
    capture.taken()
    while (inspector.size < INSPECTOR_LIMITS.entries) {
      inspector.begin({ method: 'GET', path: '/', address: null, replayOf: null })
    }
    await replay(oldest, inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    expect(capture.taken()).toMatch(/\r\n\r\nprecious$/)
  })

  test('leaves no stream behind, also to a service that never closes its side', async () => {
    const stubborn = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.once('data', () => socket.write(OK))
    })
    stubborn.listen(0, '127.0.0.1')
    await once(stubborn, 'listening')
    onTestFinished(() => void stubborn.close())
    const tunnel = bed.open((stubborn.address() as AddressInfo).port)
    const inspector = inspect(tunnel)
    await fetch(urlOf(tunnel), { headers: { connection: 'close' } })
    const entry = await lastOf(inspector)
    await expect.poll(() => link.agent.stats.streams, { timeout: 20_000 }).toBe(0)
    await replay(entry, inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    await expect.poll(() => link.agent.stats.streams).toBe(0)
  })

  test('a body in chunks arrives as one chunk with the same bytes', async () => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel)
    const outgoing = request(`${urlOf(tunnel)}x`, { method: 'PUT', headers: { 'Transfer-Encoding': 'chunked' } })
    outgoing.write('abc')
    outgoing.end('defg')
    await once(outgoing, 'response')
    await replay(await lastOf(inspector), inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    expect(capture.taken()).toMatch(/\r\n\r\n7\r\nabcdefg\r\n0\r\n\r\n$/)
  })

  test('what was not kept whole is refused, and an answer that never comes is not awaited for ever', async () => {
    const tunnel = bed.open(capture.port)
    const blind = inspect(tunnel, false)
    await fetch(`${urlOf(tunnel)}x`, { method: 'POST', body: 'abc' })
    const refused = replay(await lastOf(blind), blind, tunnel, link.routing, AbortSignal.timeout(5_000))
    await expect(refused).rejects.toMatchObject({ code: 'conflict' })
    const inspector = inspect(tunnel)
    await fetch(`${urlOf(tunnel)}x`)
    const entry = await lastOf(inspector)
    capture.taken()
    capture.answer = ''
    const caller = new AbortController()
    const silent = replay(entry, inspector, tunnel, link.routing, caller.signal)
    await expect.poll(() => capture.taken()).not.toBe('')
    caller.abort(new Error('hung up'))
    await expect(silent).rejects.toThrow('hung up')
    expect(inspector.read(inspector.lastNumber)).toMatchObject({ isOver: true, status: undefined })
  })

  test('a tunnel that closes ends it', async () => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel)
    await fetch(`${urlOf(tunnel)}x`)
    const entry = await lastOf(inspector)
    capture.taken()
    capture.answer = ''
    const silent = replay(entry, inspector, tunnel, link.routing, AbortSignal.timeout(5_000))
    await expect.poll(() => capture.taken()).not.toBe('')
    bed.close(tunnel)
    expect(await silent).toMatchObject({ isOver: true, status: undefined })
  })
})

describe.skipIf(lacksPrograms('curl'))('as curl, in a shell', () => {
  const HOSTILE = `'"\`$(touch /tmp/owned);&|<>*?[]{}~!#%^\\ \t@`
  /** Requests with bytes that mean something to a shell, to curl, to printf or to a terminal. */
  const REQUESTS: readonly (readonly [what: string, method: string, target: string, fields: string[], body: string])[] =
    [
      ['nothing special', 'GET', '/a?b=c', ['Accept', '*/*', 'User-Agent', 'x/1'], ''],
      ['neither Accept nor User-Agent', 'GET', '/', [], ''],
      ['quotes and substitutions in a field', 'GET', '/', ['X-A', HOSTILE, 'X-B', '@/etc/passwd'], ''],
      ['an empty field, a field like an option', 'GET', '/', ['X-Empty', '', 'X-Option', '--output /tmp/x'], ''],
      ['bytes that are no ASCII in a field', 'GET', '/', ['X-Latin', 'caf\xe9 \x80\xff'], ''],
      ['a path with globs, dots and quotes', 'GET', "/a/[1-9]{a,b}/%2e%2e/'$(id)'?x=`id`&y={z}", [], ''],
      ['another method', 'PROPFIND', '/dav/', ['Depth', '1'], ''],
      ['a body of text', 'POST', '/', ['Content-Type', 'text/plain'], `@/etc/passwd\n${HOSTILE.replace('\t', '')}\n\n`],
      ['a body without a type', 'PUT', '/', [], 'a=b&c'],
      [
        'a body of every byte',
        'POST',
        '/',
        [],
        String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i)).repeat(3),
      ],
      ['a body like a format', 'POST', '/', [], '%s%d\\n\\0%%\0'],
      ['a large body of bytes', 'POST', '/', [], '\xff'.repeat(60_000)],
      ['a large body of text', 'POST', '/', [], "'".repeat(30_000)],
      [
        'a browser’s navigation',
        'GET',
        '/',
        ['Accept', 'text/html', 'User-Agent', 'Mozilla/5.0', 'Sec-Fetch-Mode', 'navigate'],
        '',
      ],
    ]

  test.each(REQUESTS)('%s: the service gets the same', async (_, method, target, fields, body) => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel)
    // As the edge would, but for the browser that it would send to the other door.
    const entry = inspector.begin({ method, path: target, address: null, replayOf: null })
    const length = body === '' ? [] : ['Content-Length', String(body.length)]
    entry.asked(['Host', 'localhost', ...fields, ...length], body !== '', undefined)
    entry.requestBytes(Buffer.from(body, 'latin1'))
    entry.requestEnded()
    entry.ended()
    const command = asCurl(entry, urlOf(tunnel)) ?? ''
    expect(command).toMatch(/^[\n\x20-\x7e]+$/)
    expect(await sh(`${command} --silent --show-error --max-time 5`)).toEqual({ stdout: 'ok', stderr: '' })
    const [head = '', ...bodies] = capture.taken().split('\r\n\r\n')
    expect(bodies.join('\r\n\r\n')).toBe(body)
    const [line, ...got] = head.split('\r\n')
    expect(line).toBe(`${method} ${target} HTTP/1.1`)
    const own = /^(host|cyberun-hop|x-forwarded-[a-z]+|sec-fetch-mode|content-length): /i
    const sent: string[] = []
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i] ?? ''
      if (name !== 'Sec-Fetch-Mode') sent.push(`${name}: ${fields[i + 1]}`)
    }
    expect(got.filter((each) => !own.test(each)).toSorted()).toEqual(sent.toSorted())
  })

  test('a HEAD request, and one whose body was not kept', async () => {
    const tunnel = bed.open(capture.port)
    const inspector = inspect(tunnel, false)
    await fetch(`${urlOf(tunnel)}x`, { method: 'POST', body: 'abc' })
    expect(asCurl(await lastOf(inspector), urlOf(tunnel))).toContain('# the body of 3 bytes was not kept whole\n')
    capture.answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n'
    await fetch(`${urlOf(tunnel)}x`, { method: 'HEAD' })
    const command = asCurl(await lastOf(inspector), urlOf(tunnel)) ?? ''
    capture.taken()
    await sh(`${command} --silent --max-time 5`)
    expect(capture.taken()).toMatch(/^HEAD \/x HTTP\/1\.1\r\n/)
  })
})
