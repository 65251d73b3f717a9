import { expect } from 'vitest'
import { answer, pattern, rawReply, textAnswer } from '../build.ts'
import { type CaseGroup, compared, comparedSeries, hopVerdict, verdict } from '../cases.ts'
import type { Field } from '../message.ts'

const SIZES = [0, 1, 2, 1023, 1024, 16_383, 16_384, 65_535, 65_536, 65_537, 262_144, 1_048_577, 8_388_608]

export const sizes: CaseGroup = {
  name: 'bodies of every size',
  cases: SIZES.flatMap((size) => {
    const bytes = pattern(size)
    return [
      compared(
        `${size} bytes up and down, by length`,
        { method: 'POST', body: { bytes, framing: 'length' } },
        answer({ body: { bytes, framing: 'length' } }),
      ),
      compared(
        `${size} bytes up and down, chunked`,
        { method: 'POST', body: { bytes, framing: 'chunked', chunkBytes: 40_000 } },
        answer({ body: { bytes, framing: 'chunked', chunkBytes: 30_000 } }),
      ),
    ]
  }),
}

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'

export const framings: CaseGroup = {
  name: 'how a body is framed',
  cases: [
    compared(
      'chunks of one byte both ways',
      { method: 'POST', body: { bytes: pattern(300), framing: 'chunked', chunkBytes: 1 } },
      answer({ body: { bytes: pattern(300), framing: 'chunked', chunkBytes: 1 } }),
    ),
    compared(
      'a thousand chunks',
      {},
      answer({ body: { bytes: pattern(100_000), framing: 'chunked', chunkBytes: 100 } }),
    ),
    compared(
      'upper-case and zero-padded chunk sizes',
      {},
      rawReply(`${CHUNKED}000A\r\n0123456789\r\n1\r\nx\r\n0000\r\n\r\n`),
    ),
    compared(
      'chunk extensions of the service',
      {},
      rawReply(`${CHUNKED}3;a=b\r\nabc\r\n2 ; c="d;e"\r\nde\r\n0;last\r\n\r\n`),
    ),
    compared(
      'coding name in upper case',
      {},
      rawReply('HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n'),
    ),
    compared('until close', {}, answer({ body: { bytes: 'read to the end', framing: 'until-close' } })),
    compared('until close, empty', {}, answer({ body: { bytes: '', framing: 'until-close' } })),
    compared('until close, 1 MiB', {}, answer({ body: { bytes: pattern(1 << 20), framing: 'until-close' } })),
    compared(
      'a service that speaks HTTP/1.0',
      {},
      answer({ version: 'HTTP/1.0', body: { bytes: 'old', framing: 'until-close' } }),
    ),
    compared(
      'a service that speaks HTTP/1.0 with a length',
      {},
      { ...answer({ version: 'HTTP/1.0', body: { bytes: 'old', framing: 'length' } }), finish: 'end' },
    ),
    compared('a body with GET', { body: { bytes: 'query', framing: 'length' } }),
    compared('a chunked body with DELETE', { method: 'DELETE', body: { bytes: 'why', framing: 'chunked' } }),
    compared(
      'bytes of every value',
      { method: 'POST', body: { bytes: Uint8Array.from({ length: 256 }, (_, i) => i), framing: 'length' } },
      answer({ body: { bytes: Uint8Array.from({ length: 256 }, (_, i) => 255 - i), framing: 'length' } }),
    ),
    compared(
      'gzip that is none',
      {},
      answer({ fields: [['Content-Encoding', 'gzip']], body: { bytes: 'not gzip', framing: 'length' } }),
    ),
  ],
}

/** Fields that a recipient acts upon at once, so that none of them may come after a body (RFC 9110, section 6.5.1). */
const NEVER_TRAILERS = ['Host', 'Transfer-Encoding', 'Authorization', 'Cookie', 'X-Forwarded-For', 'Connection']

export const trailers: CaseGroup = {
  name: 'trailers',
  cases: [
    ...NEVER_TRAILERS.map((name) =>
      hopVerdict(`${name} among the trailers of a request is not for the service`, async (stage) => {
        let seen: readonly Field[] = []
        stage.origin.handle(async (request) => {
          seen = (await request.readBody()).trailers
          await request.reply(textAnswer('ok'))
        })
        const trailers: Field[] = [
          [name, 'evil.example'],
          ['X-Sum', '6'],
        ]
        const connection = await stage.connect()
        const { head } = await connection.exchange({
          method: 'POST',
          body: { bytes: 'abc', framing: 'chunked', trailers },
        })
        expect([200, 400]).toContain(head.status)
        expect(seen.map(([field]) => field)).not.toContain(name)
      }),
    ),
    compared(
      'of an answer',
      {},
      answer({
        fields: [['Trailer', 'X-Sum']],
        body: { bytes: 'abc', framing: 'chunked', trailers: [['X-Sum', '6']] },
      }),
    ),
    compared(
      'of an answer, unannounced',
      {},
      answer({ body: { bytes: 'abc', framing: 'chunked', trailers: [['x-Sum', '6']] } }),
    ),
    compared(
      'of an answer, several',
      {},
      answer({
        fields: [['Trailer', 'A, B']],
        body: {
          bytes: 'abc',
          framing: 'chunked',
          trailers: [
            ['A', '1'],
            ['B', ''],
            ['A', '2'],
          ],
        },
      }),
    ),
    compared(
      'of an empty answer',
      {},
      answer({ fields: [['Trailer', 'X-Sum']], body: { bytes: '', framing: 'chunked', trailers: [['X-Sum', '0']] } }),
    ),
    compared('of a request', {
      method: 'POST',
      fields: [['Trailer', 'X-Sum']],
      body: { bytes: 'abc', framing: 'chunked', trailers: [['X-Sum', '6']] },
    }),
    compared('of a request, several', {
      method: 'POST',
      body: {
        bytes: 'abc',
        framing: 'chunked',
        trailers: [
          ['X-A', '1'],
          ['X-b', '2'],
        ],
      },
    }),
    compared(
      'both ways',
      { method: 'POST', body: { bytes: 'up', framing: 'chunked', trailers: [['X-Up', '1']] } },
      answer({ body: { bytes: 'down', framing: 'chunked', trailers: [['X-Down', '2']] } }),
    ),
  ],
}

const numbered = (count: number) => Array.from({ length: count }, (_, i) => ({ target: `/${i}` }))
const posts = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    method: 'POST',
    target: `/${i}`,
    body: { bytes: pattern(i * 1000), framing: i % 2 === 0 ? ('length' as const) : ('chunked' as const) },
  }))
const mixed = ['GET', 'HEAD', 'POST', 'HEAD', 'DELETE', 'GET'].map((method) => ({ method }))

export const connections: CaseGroup = {
  name: 'connections',
  cases: [
    comparedSeries('two requests in turn', numbered(2), false),
    comparedSeries('fifty requests in turn', numbered(50), false),
    comparedSeries('bodies in turn', posts(8), false),
    comparedSeries('mixed methods in turn', mixed, false),
    comparedSeries('two requests pipelined', numbered(2), true),
    comparedSeries('a hundred requests pipelined', numbered(100), true),
    comparedSeries('bodies pipelined', posts(8), true),
    comparedSeries('mixed methods pipelined', mixed, true),
    verdict('Connection: close is honoured', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.reply({ ...textAnswer('bye'), finish: 'end' })
      })
      const connection = await stage.connect()
      const { body } = await connection.exchange({ fields: [['Connection', 'close']] })
      expect(body.bytes.toString()).toBe('bye')
      expect(await connection.waitEnd()).toBe('end')
    }),
    hopVerdict('the service’s Connection: close leaves the visitor’s connection open', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.reply({ ...textAnswer('once', [['Connection', 'close']]), finish: 'end' })
      })
      const connection = await stage.connect()
      for (let i = 0; i < 5; i++) expect((await connection.exchange({})).body.bytes.toString()).toBe('once')
    }),
    hopVerdict('an HTTP/1.0 visitor gets an unframed body and the end of the connection', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.reply(answer({ body: { bytes: 'plain', framing: 'chunked', chunkBytes: 2 } }))
      })
      const connection = await stage.connect()
      const { body } = await connection.exchange({ version: 'HTTP/1.0' })
      expect(body).toMatchObject({ framing: 'close', complete: true })
      expect(body.bytes.toString()).toBe('plain')
    }),
    hopVerdict('a service that closes an idle connection costs no request', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.reply(textAnswer('ok'))
      })
      const connection = await stage.connect()
      await connection.exchange({})
      for (let i = 0; i < 10; i++) {
        stage.origin.dropConnections()
        expect((await connection.exchange({})).head.status).toBe(200)
      }
    }),
    verdict('a request cut into single bytes', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.reply(textAnswer((await request.readBody()).bytes.toString()))
      })
      const connection = await stage.connect()
      for (const byte of connection.build({ method: 'POST', body: { bytes: 'slow', framing: 'chunked' } })) {
        await connection.write(Uint8Array.of(byte))
      }
      expect((await connection.readAnswer()).body.bytes.toString()).toBe('slow')
    }),
    verdict('an answer cut into single bytes', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        const whole = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\nX-T: 1\r\n\r\n'
        for (const byte of whole) await request.write(byte)
      })
      const { body } = await (await stage.connect()).exchange({})
      expect(body.bytes.toString()).toBe('slow')
      expect(body.trailers).toEqual([['X-T', '1']])
    }),
    {
      ...verdict('10,000 requests on one connection', async (stage) => {
        stage.origin.handle(async (request) => {
          await request.readBody()
          await request.reply(textAnswer(request.head.target))
        })
        const before = stage.origin.connectionCount
        const connection = await stage.connect()
        for (let i = 0; i < 10_000; i++) {
          const { head, body } = await connection.exchange({ target: `/${i}` })
          if (head.status !== 200 || body.bytes.toString() !== `/${i}`)
            expect.fail(`request ${i}: ${head.status} ${body.bytes}`)
        }
        expect(stage.origin.connectionCount - before, 'connections to the service').toBeLessThanOrEqual(2)
      }),
      timeoutMs: 60_000,
    },
  ],
}
