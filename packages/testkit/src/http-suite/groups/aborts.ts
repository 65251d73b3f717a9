import { expect } from 'vitest'
import { type Bytes, type Reply, type RequestSpec, rawReply, textAnswer } from '../build.ts'
import { type CaseGroup, hopVerdict, type Stage, type VerdictCase, verdict } from '../cases.ts'
import { median } from '../measure.ts'
import { MalformedMessage, readResponseHead } from '../message.ts'
import type { ServedRequest } from '../origin.ts'
import type { VisitorConnection } from '../visitor.ts'

const CHUNKED_HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
/** The service must know within this many milliseconds that its visitor left. */
const ABORT_NOTICED_MS = 100
const ABORTS = 5

interface Leaving {
  name: string
  request: RequestSpec
  /** What the service does before it waits for the visitor to leave. */
  serve(request: ServedRequest): Promise<void>
  /** What the visitor does before it leaves. */
  visit(connection: VisitorConnection): Promise<unknown>
}

const nothing = async () => {}
const readPart = async (request: ServedRequest) => void (await request.reader.readSome())

const LEAVING: readonly Leaving[] = [
  { name: 'before the answer', request: {}, serve: (request) => request.readBody().then(nothing), visit: nothing },
  {
    name: 'after the head of the answer',
    request: {},
    serve: (request) => request.write(CHUNKED_HEAD),
    visit: (connection) => readResponseHead(connection.reader),
  },
  {
    name: 'in the middle of a stream of events',
    request: { fields: [['Accept', 'text/event-stream']] },
    serve: (request) => request.write(`${CHUNKED_HEAD}9\r\ndata: 1\n\n\r\n`),
    visit: (connection) => readResponseHead(connection.reader).then(() => connection.reader.readSome()),
  },
  {
    name: 'in the middle of an upload of known length',
    request: { method: 'PUT', fields: [['Content-Length', '1000000']] },
    serve: readPart,
    visit: (connection) => connection.write('some of it'),
  },
  {
    name: 'in the middle of a chunked upload',
    request: { method: 'PUT', fields: [['Transfer-Encoding', 'chunked']] },
    serve: readPart,
    visit: (connection) => connection.write('5\r\nhello\r\n'),
  },
]

const visitorLeaves = ({ name, request: spec, serve, visit }: Leaving, how: 'end' | 'reset'): VerdictCase =>
  verdict(`a visitor that leaves ${name} (${how})`, async (stage) => {
    const delays: number[] = []
    for (let i = 0; i < ABORTS; i++) {
      const served = Promise.withResolvers<void>()
      const gone = Promise.withResolvers<number>()
      stage.origin.handle(async (request) => {
        await serve(request)
        served.resolve()
        await request.gone()
        gone.resolve(performance.now())
      })
      const connection = await stage.connect()
      await connection.write(connection.build(spec))
      await visit(connection)
      await served.promise
      const leftAt = performance.now()
      if (how === 'end') connection.socket.destroy()
      else connection.reset()
      delays.push((await gone.promise) - leftAt)
    }
    expect(median(delays), delays.map(Math.round).join()).toBeLessThanOrEqual(ABORT_NOTICED_MS)
  })

/** The service's last bytes, and why they are no whole answer. */
const CUT_BODIES: readonly (readonly [name: string, bytes: Bytes])[] = [
  ['inside a body of known length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this'],
  ['before the first byte of the body', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n'],
  ['inside a chunk', `${CHUNKED_HEAD}64\r\nonly this`],
  ['between chunks', `${CHUNKED_HEAD}9\r\nonly this\r\n`],
  ['inside the line of a chunk', `${CHUNKED_HEAD}9\r\nonly this\r\n1`],
  ['before the last line of the trailers', `${CHUNKED_HEAD}9\r\nonly this\r\n0\r\nX-Sum: 1\r\n`],
]

const CUT_HEADS: readonly (readonly [name: string, bytes: Bytes])[] = [
  ['without a byte', ''],
  ['inside the status line', 'HTTP/1.1 2'],
  ['inside the fields', 'HTTP/1.1 200 OK\r\nX-Half: '],
  ['before the empty line', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n'],
  ['after an interim answer', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
]

const serviceReplies = (stage: Stage, reply: Reply): void =>
  stage.origin.handle(async (request) => {
    await request.readBody()
    await request.reply(reply)
  })

const serviceDiesInBody = (
  name: string,
  bytes: Bytes,
  how: 'end' | 'reset',
  version: 'HTTP/1.0' | 'HTTP/1.1',
): VerdictCase =>
  verdict(`a service that ${how === 'end' ? 'ends' : 'resets'} ${name}, ${version}`, async (stage) => {
    serviceReplies(stage, rawReply(bytes, how))
    const connection = await stage.connect()
    await connection.write(connection.build({ version }))
    expect(await endOf(connection), 'never a clean end').toMatch(/^truncated|^502/)
  })

/** What the visitor makes of the one answer on a connection, and of the connection's end after a part of one. */
async function endOf(connection: VisitorConnection): Promise<string> {
  try {
    const { head, body } = await connection.readAnswer()
    if (head.status === 502) return '502'
    if (body.complete) return `complete ${head.status} with ${body.bytes.length} bytes`
    return `truncated: ${await connection.waitEnd()}`
  } catch (error) {
    if (error instanceof MalformedMessage) return `truncated: ${error.message}`
    throw error
  }
}

export const aborts: CaseGroup = {
  name: 'ends before the end',
  cases: [
    ...LEAVING.flatMap((leaving) => [visitorLeaves(leaving, 'end'), visitorLeaves(leaving, 'reset')]),
    ...CUT_BODIES.flatMap(([name, bytes]) => [
      serviceDiesInBody(name, bytes, 'end', 'HTTP/1.1'),
      serviceDiesInBody(name, bytes, 'reset', 'HTTP/1.1'),
    ]),
    serviceDiesInBody(
      'inside a body that only the close ends',
      'HTTP/1.1 200 OK\r\n\r\nonly this',
      'reset',
      'HTTP/1.1',
    ),
    {
      ...serviceDiesInBody('between chunks', `${CHUNKED_HEAD}9\r\nonly this\r\n`, 'reset', 'HTTP/1.0'),
      needsReset: true,
    },
    {
      ...hopVerdict('a service that ends between chunks, HTTP/1.0: the visitor sees a reset', async (stage) => {
        serviceReplies(stage, rawReply(`${CHUNKED_HEAD}9\r\nonly this\r\n`, 'end'))
        const connection = await stage.connect()
        await connection.write(connection.build({ version: 'HTTP/1.0' }))
        expect(await endOf(connection)).toMatch(/^truncated/)
      }),
      needsReset: true,
    },
    ...CUT_HEADS.flatMap(([name, bytes]) =>
      (['end', 'reset'] as const).map((how) =>
        hopVerdict(`a service that ${how === 'end' ? 'ends' : 'resets'} ${name}: 502`, async (stage) => {
          serviceReplies(stage, rawReply(bytes, how))
          const { head, body } = await (await stage.connect()).exchange({})
          expect(head.status).toBe(502)
          expect(body.complete).toBe(true)
        }),
      ),
    ),
    hopVerdict('a POST that the service drops unanswered is not sent twice', async (stage) => {
      let count = 0
      stage.origin.handle(async (request) => {
        await request.readBody()
        if (request.head.method === 'POST') count++
        await request.reply(request.head.method === 'POST' ? rawReply('', 'reset') : textAnswer('warm'))
      })
      const connection = await stage.connect()
      await connection.exchange({})
      const { head } = await connection.exchange({ method: 'POST', body: { bytes: 'pay', framing: 'length' } })
      expect(head.status).toBe(502)
      expect(count).toBe(1)
    }),
    hopVerdict('fifty abandoned downloads leave no connection to the service', async (stage) => {
      const gone: Promise<unknown>[] = []
      stage.origin.handle(async (request) => {
        gone.push(request.gone())
        await request.write(`${CHUNKED_HEAD}4\r\nwait\r\n`)
        await gone.at(-1)
      })
      for (let i = 0; i < 50; i++) {
        const connection = await stage.connect()
        await connection.write(connection.build({}))
        await readResponseHead(connection.reader)
        connection.socket.destroy()
      }
      await Promise.all(gone)
      expect(gone.length).toBe(50)
    }),
  ],
}
