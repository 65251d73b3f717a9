import fc from 'fast-check'
import { expect } from 'vitest'
import { rawReply, textAnswer } from '../build.ts'
import { type CaseGroup, hopVerdict, type Stage } from '../cases.ts'
import { CutMessage, valuesOf } from '../message.ts'
import { placeIn, places } from '../places.ts'
import type { VisitorConnection } from '../visitor.ts'

const RUNS = 200
/** How long a visitor waits for what a broken message may never bring. */
const PATIENCE_MS = 50

/** A change of one place: so many bytes there give way to `insert`. */
interface Mutation {
  at: number
  remove: number
  insert: string
}

const NASTY = [
  '\r',
  '\n',
  '\r\n',
  '\0',
  ' ',
  '\t',
  '\x0b',
  ':',
  ';',
  ',',
  '0',
  '1',
  'a',
  '\xff',
  '\r\n\r\n',
  'Content-Length: 3\r\n',
]
const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.record({
    at: places,
    remove: fc.integer({ min: 0, max: 3 }),
    insert: fc.constantFrom('', ...NASTY),
  }),
  { minLength: 1, maxLength: 3 },
)

function mutate(message: string, changes: readonly Mutation[]): string {
  return changes.reduce((text, { at, remove, insert }) => {
    const place = placeIn(text, at)
    return text.slice(0, place) + insert + text.slice(place + remove)
  }, message)
}

/** A request that must never be taken for one, in the body of another. */
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: smuggled.example\r\n\r\n'

/** The bytes of a few sound requests at this door, each with a request in its body. */
function soundRequests(connection: VisitorConnection): string[] {
  const body = { bytes: SMUGGLED, framing: 'length' } as const
  const chunked = { bytes: SMUGGLED, framing: 'chunked', chunkBytes: 20, trailers: [['X-Sum', '1']] } as const
  const fields = [
    ['X-A', 'b'],
    ['Connection', 'keep-alive'],
  ] as const
  return [
    { method: 'POST', target: '/sound', fields, body },
    { method: 'PUT', target: '/sound?q=1', fields, body: chunked },
  ].map((request) => connection.build(request).toString('latin1'))
}

/** What a service may be asked for by where it is told the host that its visitor asked for. */
const SOUND_HOST = '[a-z0-9.-]+(:[0-9]*)?'

const SOUND_ANSWERS = [
  'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n3;a=b\r\nyou\r\n0\r\nX-Sum: 1\r\n\r\n',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\n\r\n',
  'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end',
]

const patience = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))

let visitors = 0
/** An address of this machine for every visitor: one that tries many wrong tunnels is refused the right one, too. */
function freshAddress(): string {
  visitors += 1
  return `127.9.${Math.floor(visitors / 256)}.${visitors % 256}`
}

/** What the service was asked for by a visitor that sent `bytes`. */
async function askedFor(stage: Stage, make: (connection: VisitorConnection) => string): Promise<string[]> {
  const asked: string[] = []
  stage.origin.handle(async (request) => {
    asked.push(`${request.head.target} for ${valuesOf(request.head.fields, 'host').join(' and ')}`)
    await request.readBody()
    await request.reply(textAnswer('ok'))
  })
  const connection = await stage.connectTo({ ...stage.visitor, localAddress: freshAddress() })
  await connection.write(Buffer.from(make(connection), 'latin1'))
  await Promise.race([connection.waitEnd(), patience()])
  connection.socket.destroy()
  return asked
}

export const mutated: CaseGroup = {
  name: 'random faults',
  cases: [
    {
      ...hopVerdict(`${RUNS} broken requests: the service sees sound ones for itself, or none`, async (stage) => {
        const preserved = stage.direct.hostHeader === stage.visitor.hostHeader
        const host = preserved ? SOUND_HOST : stage.direct.hostHeader
        const property = fc.asyncProperty(fc.nat({ max: 1 }), mutations, async (which, changes) => {
          const asked = await askedFor(stage, (connection) => mutate(soundRequests(connection)[which] ?? '', changes))
          for (const one of asked) {
            expect(one).not.toContain('smuggled')
            expect(one).toMatch(new RegExp(`^/.* for ${host}$`))
          }
          expect(stage.origin.faults).toEqual([])
        })
        // A changed path is the service's to judge, also where it lies outside of the one it was started with.
        stage.origin.mount('')
        try {
          await fc.assert(property, { numRuns: RUNS })
        } finally {
          stage.origin.mount(stage.direct.pathPrefix)
        }
      }),
      timeoutMs: 60_000,
    },
    {
      ...hopVerdict(`${RUNS} broken answers: the visitor sees sound ones, or a cut`, async (stage) => {
        const property = fc.asyncProperty(fc.constantFrom(...SOUND_ANSWERS), mutations, async (sound, changes) => {
          stage.origin.handle(async (request) => {
            await request.readBody()
            await request.reply(rawReply(mutate(sound, changes), 'end'))
          })
          const connection = await stage.connect()
          await connection.exchange({}).catch((error: unknown) => {
            // A cut is what a broken answer should become; anything else malformed is the edge's own fault.
            if (!(error instanceof CutMessage)) throw error
          })
          connection.socket.destroy()
        })
        await fc.assert(property, { numRuns: RUNS })
      }),
      timeoutMs: 60_000,
    },
  ],
}
