import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { answer, pattern, type RequestSpec, rawReply, textAnswer, toBuffer } from '../build.ts'
import { type CaseGroup, compared, hopVerdict, type Stage, type VerdictCase, verdict } from '../cases.ts'
import { median } from '../measure.ts'
import { readResponseHead, valuesOf } from '../message.ts'
import type { ServedRequest } from '../origin.ts'
import type { VisitorConnection } from '../visitor.ts'

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
/** RFC 6455, section 4.2.2: what proves that the key was read. */
const ACCEPT = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

const UPGRADE: RequestSpec = {
  target: '/socket?q=%2f',
  fields: [
    ['Connection', 'Upgrade'],
    ['Upgrade', 'websocket'],
    ['sec-websocket-key', KEY],
    ['Sec-WebSocket-Version', '13'],
    ['Sec-WebSocket-Protocol', 'chat, superchat'],
    ['Sec-WebSocket-Extensions', 'permessage-deflate; client_max_window_bits'],
  ],
}
const SWITCH = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n`
const RANDOM_BYTES = pattern(3_000_000)

/** A connection on which the service has agreed, and the service's side of it. */
async function upgraded(
  stage: Stage,
): Promise<{ connection: VisitorConnection; service: ServedRequest; finish(): void }> {
  const served = Promise.withResolvers<ServedRequest>()
  const finished = Promise.withResolvers<void>()
  stage.origin.handle(async (request) => {
    await request.write(`${SWITCH}\r\n`)
    served.resolve(request)
    await finished.promise
  })
  const connection = await stage.connect()
  await connection.write(connection.build(UPGRADE))
  expect((await readResponseHead(connection.reader)).status).toBe(101)
  return { connection, service: await served.promise, finish: finished.resolve }
}

/** Answers to an upgrade that are no agreement to it. */
const WRONG_SWITCHES: Readonly<Record<string, string>> = {
  'no Sec-WebSocket-Accept':
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nSECRET',
  'a wrong Sec-WebSocket-Accept': `${SWITCH.replace(ACCEPT, 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=')}\r\nSECRET`,
  'two Sec-WebSocket-Accept': `${SWITCH}Sec-WebSocket-Accept: ${ACCEPT}\r\n\r\nSECRET`,
  'another protocol': `${SWITCH.replace('websocket', 'h2c')}\r\nSECRET`,
  'no Upgrade': `${SWITCH.replace('Upgrade: websocket\r\n', '')}\r\nSECRET`,
  'a length in the 101': `${SWITCH}Content-Length: 6\r\n\r\nSECRET`,
}

/** How an endpoint leaves, and what the other one must see: an RST never turns into a clean end. */
const leaving = (who: 'visitor' | 'service', how: 'end' | 'reset'): VerdictCase =>
  verdict(`after the upgrade, the ${how} of the ${who} arrives as such within 100 ms`, async (stage) => {
    const delays: number[] = []
    for (let i = 0; i < 5; i++) {
      const { connection, service, finish } = await upgraded(stage)
      const at = performance.now()
      const leave = {
        visitor: { end: () => connection.socket.end(), reset: () => connection.reset() },
        service: { end: () => service.socket.end(), reset: () => service.socket.resetAndDestroy() },
      }
      leave[who][how]()
      const seen = await (who === 'visitor' ? service : connection).reader.waitEnd()
      // Nothing of Node resets a connection under TLS: it just ends without the closing alert, which Node does not tell.
      if (who === 'visitor' || stage.visitor.ca === undefined) expect(seen).toBe(how)
      delays.push(performance.now() - at)
      finish()
    }
    expect(median(delays), delays.map(Math.round).join()).toBeLessThanOrEqual(100)
  })

export const upgrades: CaseGroup = {
  name: 'upgrades',
  cases: [
    verdict('the fields of the handshake cross unchanged both ways', async (stage) => {
      let fields: ServedRequest['head']['fields'] = []
      stage.origin.handle(async (request) => {
        fields = request.head.fields
        await request.write(`${SWITCH}sec-websocket-protocol: superchat\r\nX-Own: 1\r\n\r\n`)
        await request.gone()
      })
      const connection = await stage.connect()
      await connection.write(connection.build(UPGRADE))
      const head = await readResponseHead(connection.reader)
      const { fields: sent = [] } = UPGRADE
      expect(fields).toEqual(expect.arrayContaining(sent.slice(2)))
      expect(valuesOf(fields, 'connection').join().toLowerCase()).toBe('upgrade')
      expect(head.fields).toEqual(
        expect.arrayContaining([
          ['sec-websocket-protocol', 'superchat'],
          ['X-Own', '1'],
        ]),
      )
    }),
    verdict('bytes in the same packet as the 101 are not lost', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.write(`${SWITCH}\r\nfirst words`)
        await request.gone()
      })
      const connection = await stage.connect()
      await connection.write(connection.build(UPGRADE))
      await readResponseHead(connection.reader)
      expect((await connection.reader.readExact(11)).toString()).toBe('first words')
    }),
    verdict('any bytes cross both ways at once', async (stage) => {
      const { connection, service, finish } = await upgraded(stage)
      const [, , atVisitor, atService] = await Promise.all([
        connection.write(RANDOM_BYTES),
        service.write(RANDOM_BYTES),
        connection.reader.readExact(RANDOM_BYTES.length),
        service.reader.readExact(RANDOM_BYTES.length),
      ])
      expect(atVisitor.equals(RANDOM_BYTES)).toBe(true)
      expect(atService.equals(RANDOM_BYTES)).toBe(true)
      finish()
    }),
    verdict('a side that closes its sending side still receives', async (stage) => {
      const { connection, service, finish } = await upgraded(stage)
      connection.socket.end('last')
      expect((await service.reader.readAll()).toString()).toBe('last')
      await service.write('answer')
      service.socket.end()
      expect((await connection.reader.readAll()).toString()).toBe('answer')
      finish()
    }),
    leaving('visitor', 'end'),
    leaving('visitor', 'reset'),
    leaving('service', 'end'),
    leaving('service', 'reset'),
    compared(
      'a refused upgrade is an answer like any other',
      UPGRADE,
      answer({
        status: '401 Unauthorized',
        fields: [['WWW-Authenticate', 'Basic']],
        body: { bytes: 'who?', framing: 'length' },
      }),
    ),
    compared(
      'an upgrade answered by a redirect',
      UPGRADE,
      answer({
        status: '307 Temporary Redirect',
        fields: [['Location', '/login']],
        body: { bytes: '', framing: 'length' },
      }),
    ),
    compared('an upgrade answered by 200', UPGRADE, textAnswer('plain')),
    compared(
      'an upgrade answered by a chunked 400',
      UPGRADE,
      answer({ status: '400 Bad Request', body: { bytes: 'no', framing: 'chunked' } }),
    ),
    ...Object.entries(WRONG_SWITCHES).map(([name, bytes]) =>
      hopVerdict(`${name}: 502`, async (stage) => {
        stage.origin.handle((request) => request.reply(rawReply(bytes)))
        const { head, body } = await (await stage.connect()).exchange(UPGRADE)
        expect(head.status).toBe(502)
        expect(body.bytes.toString()).not.toContain('SECRET')
      }),
    ),
    hopVerdict('an upgrade from another origin is refused at the edge', async (stage) => {
      const before = stage.origin.receivedBytes
      const fields = [...(UPGRADE.fields ?? []), ['Origin', 'http://evil.example'] as const]
      const { head } = await (await stage.connect()).exchange({ ...UPGRADE, fields })
      expect(head.status).toBe(403)
      expect(stage.origin.receivedBytes).toBe(before)
    }),
    hopVerdict('no byte of the visitor reaches the service before its 101', async (stage) => {
      const asked = Promise.withResolvers<void>()
      const agreed = Promise.withResolvers<void>()
      let early = -1
      stage.origin.handle(async (request) => {
        if (request.head.target === '/other') return request.readBody().then(() => request.reply(textAnswer('other')))
        const atHead = request.reader.receivedBytes
        asked.resolve()
        await agreed.promise
        early = request.reader.receivedBytes - atHead
        await request.write(`${SWITCH}\r\n`)
        await request.gone()
      })
      const connection = await stage.connect()
      await connection.write(connection.build(UPGRADE))
      await asked.promise
      await connection.write(toBuffer('GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n'))
      // What was sent after those bytes has been there and back: so would they have been.
      for (let i = 0; i < 3; i++) await (await stage.connect()).exchange({ target: '/other' })
      agreed.resolve()
      await connection.reader.readSome()
      expect(early).toBeLessThanOrEqual(0)
    }),
  ],
}
