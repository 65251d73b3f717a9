import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { textAnswer } from './http-suite/build.ts'
import { type Answer, MalformedMessage, readAnswer } from './http-suite/message.ts'
import { ScriptedOrigin } from './http-suite/origin.ts'
import { type DoorFactory, type OpenDoor, type Visitor, VisitorConnection } from './http-suite/visitor.ts'

/** A connection that is still open then was not closed. */
const CASE_TIMEOUT_MS = 10_000

/** What stands in a request besides the fault itself. */
interface Place {
  /** The door's prefix; a target is this and a path. */
  prefix: string
  host: string
  /** Host and what lets the visitor in, each line ended. */
  head: string
  /** Only what lets the visitor in. */
  entry: string
}

interface Refusal {
  name: string
  /** The exact bytes a visitor sends, Latin-1. */
  bytes(place: Place): string
  /** Any of these; the connection is closed in every case, as what follows cannot be trusted. */
  status: readonly number[]
}

const get =
  (fields: string): Refusal['bytes'] =>
  ({ prefix, head }) =>
    `GET ${prefix}/x HTTP/1.1\r\n${head}${fields}\r\n`
const post =
  (fields: string, body: string): Refusal['bytes'] =>
  ({ prefix, head }) =>
    `POST ${prefix}/x HTTP/1.1\r\n${head}${fields}\r\n${body}`
const chunked = (body: string): Refusal['bytes'] => post('Transfer-Encoding: chunked\r\n', body)
const line =
  (make: (place: Place) => string): Refusal['bytes'] =>
  (place) =>
    `${make(place)}\r\n${place.head}\r\n`
const withHost =
  (host: (place: Place) => string): Refusal['bytes'] =>
  (place) =>
    `GET ${place.prefix}/x HTTP/1.1\r\n${host(place)}${place.entry}\r\n`

/** Where a body ends, said twice or in a way two readers could understand differently (RFC 9112, section 6.3). */
const FRAMING: Readonly<Record<string, Refusal['bytes']>> = {
  'length and chunked': post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
  'chunked and length': post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', '0\r\n\r\n'),
  'two different lengths': post('Content-Length: 5\r\nContent-Length: 6\r\n', 'hello!'),
  'the same length twice': post('Content-Length: 5\r\nContent-Length: 5\r\n', 'hello'),
  'a list of lengths': post('Content-Length: 5, 5\r\n', 'hello'),
  'a negative length': post('Content-Length: -5\r\n', 'hello'),
  'a length with a sign': post('Content-Length: +5\r\n', 'hello'),
  'a length in hex': post('Content-Length: 0x5\r\n', 'hello'),
  'a length with a blank inside': post('Content-Length: 1 0\r\n', 'hellohello'),
  'a length with letters': post('Content-Length: 5abc\r\n', 'hello'),
  'an empty length': post('Content-Length:\r\n', 'hello'),
  'a length past 2^64': post('Content-Length: 99999999999999999999\r\n', 'hello'),
  xchunked: post('Transfer-Encoding: xchunked\r\n', '0\r\n\r\n'),
  identity: post('Transfer-Encoding: identity\r\n', ''),
  'gzip, chunked': post('Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'),
  'chunked, identity': post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n'),
  'chunked, chunked': post('Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'),
  'chunked in two lines': post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
  'identity and chunked in two lines': post(
    'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n',
    '0\r\n\r\n',
  ),
  'chunked with a parameter': post('Transfer-Encoding: chunked;q=1\r\n', '0\r\n\r\n'),
  'chunked after a vertical tab': post('Transfer-Encoding: \x0bchunked\r\n', '0\r\n\r\n'),
  'chunked in quotes': post('Transfer-Encoding: "chunked"\r\n', '0\r\n\r\n'),
  'an empty Transfer-Encoding': post('Transfer-Encoding:\r\n', ''),
  'chunked in HTTP/1.0': ({ prefix, head }) =>
    `POST ${prefix}/x HTTP/1.0\r\n${head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
}

/** Faults after a good head: the service may have been told of the request, but never of bytes behind the fault. */
const CHUNKS: Readonly<Record<string, Refusal['bytes']>> = {
  'a chunk size that is no number': chunked('zz\r\nhello\r\n0\r\n\r\n'),
  'an empty chunk size': chunked('\r\nhello\r\n0\r\n\r\n'),
  'a chunk size with 0x': chunked('0x5\r\nhello\r\n0\r\n\r\n'),
  'a negative chunk size': chunked('-5\r\nhello\r\n0\r\n\r\n'),
  'a chunk size past 2^64': chunked('fffffffffffffffff\r\nhello\r\n0\r\n\r\n'),
  'a chunk longer than its size': chunked('3\r\nhello\r\n0\r\n\r\n'),
  'bare LF after a chunk size': chunked('5\nhello\r\n0\r\n\r\n'),
  'bare LF after a chunk': chunked('5\r\nhello\n0\r\n\r\n'),
  'bare CR in a chunk extension': chunked('5;a\rb\r\nhello\r\n0\r\n\r\n'),
  'a blank before a chunk size': chunked(' 5\r\nhello\r\n0\r\n\r\n'),
  'a chunk extension of 64 KiB': chunked(`5;${'x'.repeat(65_536)}\r\nhello\r\n0\r\n\r\n`),
  'a folded trailer': chunked('0\r\nX-A: 1\r\n folded\r\n\r\n'),
  'a length among the trailers': chunked('0\r\nContent-Length: 5\r\n\r\n'),
}

/** Bytes that are no field line (RFC 9112, section 5). */
const FIELDS: Readonly<Record<string, Refusal['bytes']>> = {
  'a folded line': get('X-A: 1\r\n folded\r\n'),
  'a line folded with a tab': get('X-A: 1\r\n\tfolded\r\n'),
  'a blank before the first field': ({ prefix, head }) => `GET ${prefix}/x HTTP/1.1\r\n X-A: 1\r\n${head}\r\n`,
  'bare LF after a field': get('X-A: 1\nX-B: 2\r\n'),
  'bare LF throughout': ({ prefix, head }) => `GET ${prefix}/x HTTP/1.1\n${head.replaceAll('\r\n', '\n')}\n`,
  'bare CR in a value': get('X-A: 1\r2\r\n'),
  'NUL in a value': get('X-A: 1\x002\r\n'),
  'a control character in a value': get('X-A: 1\x012\r\n'),
  'DEL in a value': get('X-A: 1\x7f2\r\n'),
  'NUL in a name': get('X-\0A: 1\r\n'),
  'a blank in a name': get('X A: 1\r\n'),
  'a blank before the colon': get('X-A : 1\r\n'),
  'a tab before the colon': get('X-A\t: 1\r\n'),
  'a blank before the colon of Content-Length': post('Content-Length : 5\r\n', 'hello'),
  'a blank before the colon of Transfer-Encoding': post('Transfer-Encoding : chunked\r\n', '0\r\n\r\n'),
  'an empty name': get(': value\r\n'),
  'a line without a colon': get('no colon here\r\n'),
  'Latin-1 in a name': get('X-\xe9: 1\r\n'),
  'a bracket in a name': get('X[a]: 1\r\n'),
}

/** Requests for no host, or for more than one (RFC 9112, section 3.2). */
const HOSTS: Readonly<Record<string, Refusal['bytes']>> = {
  'no Host': withHost(() => ''),
  'an empty Host': withHost(() => 'Host:\r\n'),
  'two Hosts, the same': withHost(({ host }) => `Host: ${host}\r\nHost: ${host}\r\n`),
  'two Hosts, another': withHost(({ host }) => `Host: ${host}\r\nHost: evil.example\r\n`),
  'a list of Hosts': withHost(({ host }) => `Host: ${host}, evil.example\r\n`),
  'Host with userinfo': withHost(({ host }) => `Host: user@${host}\r\n`),
  'Host with a path': withHost(({ host }) => `Host: ${host}/x\r\n`),
  'Host with a query': withHost(({ host }) => `Host: ${host}?x\r\n`),
  'Host with a blank inside': withHost(({ host }) => `Host: ${host} evil\r\n`),
  'Host with a scheme': withHost(({ host }) => `Host: http://${host}\r\n`),
  'Host with two ports': withHost(({ host }) => `Host: ${host}:80\r\n`),
  'Host with a port that is no number': withHost(({ host }) => `Host: ${host.split(':')[0]}:http\r\n`),
  'Host with a backslash': withHost(({ host }) => `Host: ${host}\\evil\r\n`),
  'Host with Latin-1': withHost(() => 'Host: caf\xe9.example\r\n'),
}

/** Request lines that ask for nothing we serve (RFC 9112, section 3). */
const LINES: Readonly<Record<string, Refusal['bytes']>> = {
  'an asterisk with GET': line(() => 'GET * HTTP/1.1'),
  'an absolute target for another host': line(({ prefix }) => `GET http://evil.example${prefix}/x HTTP/1.1`),
  'an absolute target for another port': line(
    ({ prefix, host }) => `GET http://${host.split(':')[0]}:1${prefix}/x HTTP/1.1`,
  ),
  'an absolute target with userinfo': line(({ prefix, host }) => `GET http://user@${host}${prefix}/x HTTP/1.1`),
  'an absolute target of another scheme': line(({ prefix, host }) => `GET ftp://${host}${prefix}/x HTTP/1.1`),
  CONNECT: line(({ host }) => `CONNECT ${host} HTTP/1.1`),
  'CONNECT elsewhere': line(() => 'CONNECT evil.example:22 HTTP/1.1'),
  TRACE: line(({ prefix }) => `TRACE ${prefix}/x HTTP/1.1`),
  'a target without a slash': line(() => 'GET x HTTP/1.1'),
  'a backslash in the target': line(({ prefix }) => `GET ${prefix}/a\\..\\b HTTP/1.1`),
  'a target that climbs out': line(({ prefix }) => `GET ${prefix}/../../../x HTTP/1.1`),
  'a target that climbs out of the tunnel': line(({ prefix }) => `GET ${prefix}/../x HTTP/1.1`),
  'a target that climbs out halfway': line(({ prefix }) => `GET ${prefix}/a/../../x HTTP/1.1`),
  'a fragment in the target': line(({ prefix }) => `GET ${prefix}/x#fragment HTTP/1.1`),
  'NUL in the target': line(({ prefix }) => `GET ${prefix}/x\0y HTTP/1.1`),
  'a tab in the target': line(({ prefix }) => `GET ${prefix}/x\ty HTTP/1.1`),
  'a blank in the target': line(({ prefix }) => `GET ${prefix}/x y HTTP/1.1`),
  'Latin-1 in the target': line(({ prefix }) => `GET ${prefix}/caf\xe9 HTTP/1.1`),
  'a method we do not know': line(({ prefix }) => `FROB ${prefix}/x HTTP/1.1`),
  'a method in lower case': line(({ prefix }) => `get ${prefix}/x HTTP/1.1`),
  'a blank before the method': line(({ prefix }) => ` GET ${prefix}/x HTTP/1.1`),
  'a blank after the version': line(({ prefix }) => `GET ${prefix}/x HTTP/1.1 `),
  'HTTP/0.9': line(({ prefix }) => `GET ${prefix}/x`),
  'HTTP/1.2': line(({ prefix }) => `GET ${prefix}/x HTTP/1.2`),
  'HTTP/2.0': line(({ prefix }) => `GET ${prefix}/x HTTP/2.0`),
  'http/1.1': line(({ prefix }) => `GET ${prefix}/x http/1.1`),
  'HTTP/1': line(({ prefix }) => `GET ${prefix}/x HTTP/1`),
  'the preface of HTTP/2': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'a TLS hello': () => '\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03',
  'a banner of ssh': () => 'SSH-2.0-OpenSSH_9.2\r\n',
}

const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
const upgrade = (fields: string): string => `Connection: Upgrade\r\nUpgrade: websocket\r\n${fields}`

/** Upgrades that are none: no byte may reach the service, least of all one behind the head (RFC 9931). */
const UPGRADES: Readonly<Record<string, Refusal['bytes']>> = {
  'an upgrade with a body': ({ prefix, head }) =>
    `GET ${prefix}/x HTTP/1.1\r\n${head}${upgrade(`${KEY}Sec-WebSocket-Version: 13\r\n`)}Content-Length: 5\r\n\r\nhello`,
  'an upgrade with a chunked body': ({ prefix, head }) =>
    `GET ${prefix}/x HTTP/1.1\r\n${head}${upgrade(`${KEY}Sec-WebSocket-Version: 13\r\n`)}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  'an upgrade with bytes behind it': ({ prefix, head }) =>
    `GET ${prefix}/x HTTP/1.1\r\n${head}${upgrade(`${KEY}Sec-WebSocket-Version: 13\r\n`)}\r\nGET /smuggled HTTP/1.1\r\n\r\n`,
  'an upgrade without a version': get(upgrade(KEY)),
  'an upgrade of version 8': get(upgrade(`${KEY}Sec-WebSocket-Version: 8\r\n`)),
  'an upgrade of two versions': get(upgrade(`${KEY}Sec-WebSocket-Version: 13, 8\r\n`)),
  'an upgrade by POST': post(upgrade(`${KEY}Sec-WebSocket-Version: 13\r\n`), ''),
  'an upgrade without a key': get(upgrade('Sec-WebSocket-Version: 13\r\n')),
  'an upgrade with a key too short': get(upgrade('Sec-WebSocket-Key: c2hvcnQ=\r\nSec-WebSocket-Version: 13\r\n')),
  'an upgrade with a key that is no base64': get(upgrade('Sec-WebSocket-Key: !!!!\r\nSec-WebSocket-Version: 13\r\n')),
  'an upgrade with two keys': get(upgrade(`${KEY}${KEY}Sec-WebSocket-Version: 13\r\n`)),
}

/** What Node answers by itself, or would forward. */
const EXPECTATIONS: Readonly<Record<string, Refusal['bytes']>> = {
  'an expectation nobody knows': post('Expect: 200-ok\r\nContent-Length: 5\r\n', ''),
  'an expectation that only contains 100-continue': post('Expect: y 100-continue\r\nContent-Length: 5\r\n', ''),
}

/** More than we are ready to hold. */
const TOO_LARGE: Readonly<Record<string, Refusal['bytes']>> = {
  'a field of 64 KiB': get(`X-Long: ${'v'.repeat(65_536)}\r\n`),
  '64 KiB of fields': get(`X-A: ${'v'.repeat(1000)}\r\n`.repeat(66)),
  '5,000 fields': get('X: 1\r\n'.repeat(5000)),
  '100,000 fields': get('X: 1\r\n'.repeat(100_000)),
  'a target of 64 KiB': line(({ prefix }) => `GET ${prefix}/${'x'.repeat(65_536)} HTTP/1.1`),
  'a name of 64 KiB': get(`X-${'n'.repeat(65_536)}: v\r\n`),
}

const refusals = (table: Readonly<Record<string, Refusal['bytes']>>, status: readonly number[]): Refusal[] =>
  Object.entries(table).map(([name, bytes]) => ({ name, bytes, status }))

/** Heads that are refused before anything reaches the service. */
const BEFORE_THE_SERVICE: readonly (readonly [string, readonly Refusal[]])[] = [
  ['framing', refusals(FRAMING, [400])],
  ['field lines', refusals(FIELDS, [400])],
  ['hosts', refusals(HOSTS, [400, 421])],
  ['request lines', refusals(LINES, [400, 405, 421, 501, 505])],
  ['upgrades', refusals(UPGRADES, [400, 426])],
  ['expectations', refusals(EXPECTATIONS, [400, 417])],
  ['too large', refusals(TOO_LARGE, [431, 414])],
]

/** Holds `factory`'s door against requests that break the rules: refused, closed, and nothing of them at the service. */
export function runRefusals(factory: DoorFactory): void {
  describe(`refusals at ${factory.name}`, { timeout: CASE_TIMEOUT_MS }, () => {
    let origin: ScriptedOrigin
    let door: OpenDoor
    let place: Place

    beforeAll(async () => {
      origin = await ScriptedOrigin.listen()
      door = await factory.start(origin)
      origin.mount(door.service?.pathPrefix ?? '')
      place = placeOf(door.visitor)
    })
    beforeEach(() => {
      origin.handle(async (request) => {
        await request.readBody()
        await request.reply(textAnswer('served'))
      })
    })
    afterAll(async () => {
      await door.stop()
      await origin.close()
    })

    for (const [group, table] of BEFORE_THE_SERVICE) {
      describe(group, () => {
        for (const refusal of table) {
          test(refusal.name, async () => {
            const before = { bytes: origin.receivedBytes, connections: origin.connectionCount }
            const { answer, ended } = await send(door.visitor, refusal.bytes(place))
            expect(refusal.status).toContain(answer?.head.status)
            expect(ended, 'the connection is closed').toBe(true)
            expect({ bytes: origin.receivedBytes, connections: origin.connectionCount }, 'at the service').toEqual(
              before,
            )
          })
        }
      })
    }

    describe('behind a good request on the same connection', () => {
      for (const { name, bytes } of [...refusals(FRAMING, []), ...refusals(FIELDS, [])]) {
        test(name, async () => {
          const served: string[] = []
          origin.handle(async (request) => {
            await request.readBody()
            served.push(request.head.target)
            await request.reply(textAnswer('served'))
          })
          const { answer, ended } = await send(door.visitor, get('')(place) + bytes(place))
          expect(answer?.head.status).toBe(200)
          expect(ended, 'the connection is closed').toBe(true)
          expect(served, 'at the service').toEqual(['/x'])
        })
      }
    })

    describe('chunks of an upload', () => {
      for (const { name, bytes, status } of refusals(CHUNKS, [400, 413])) {
        test(name, async () => {
          const whole: boolean[] = []
          origin.handle(async (request) => {
            whole.push((await request.readBody()).complete)
            await request.reply(textAnswer('served'))
          })
          const { answer, ended } = await send(door.visitor, bytes(place))
          expect([...status, undefined]).toContain(answer?.head.status)
          expect(ended, 'the connection is closed').toBe(true)
          expect(whole, 'requests the service took for whole').not.toContain(true)
          origin.faults.length = 0
        })
      }
    })

    test('a good request is still served', async () => {
      const { answer } = await send(door.visitor, get('Connection: close\r\n')(place))
      expect(answer?.head.status).toBe(200)
    })
  })
}

function placeOf({ hostHeader, pathPrefix, extraHeaders }: Visitor): Place {
  const entry = extraHeaders.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return { prefix: pathPrefix, host: hostHeader, entry, head: `Host: ${hostHeader}\r\n${entry}` }
}

/** Sends raw bytes on a connection of its own; what comes back, and whether the connection ended by itself. */
async function send(visitor: Visitor, bytes: string): Promise<{ answer: Answer | undefined; ended: boolean }> {
  const connection = await VisitorConnection.open(visitor)
  try {
    await connection.write(bytes)
    const answer = await readAnswer(connection.reader, 'GET').catch((error: unknown) => {
      if (error instanceof MalformedMessage) return undefined
      throw error
    })
    await connection.waitEnd()
    return { answer, ended: true }
  } finally {
    connection.socket.destroy()
  }
}
