import fc from 'fast-check'
import { expect } from 'vitest'
import { type AnswerSpec, answer, type BodySpec, pattern, type RequestSpec } from '../build.ts'
import { type CaseGroup, type Stage, verdict } from '../cases.ts'
import { comparableAnswer, comparableRequest } from '../compare.ts'
import type { Field } from '../message.ts'
import { placeIn, places } from '../places.ts'

const EXCHANGES = 150

const text = (characters: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters), minLength, maxLength })

/** Names that nobody along the way knows; an underscore would be a reason to drop the field. */
const name = text('abcXYZ019-.!~', 1, 20).map((tail) => `X-R${tail}`)
/** No white space at either end: that is no part of a value. */
const value = text('abz09 ,;="\\/:\t\xe9\xff', 0, 40).map((inner) => inner.replace(/^[ \t]+|[ \t]+$/g, ''))
const fields: fc.Arbitrary<Field[]> = fc.array(fc.tuple(name, value), { maxLength: 12 })
const path = text('abz09/.-_~%20;:@!$&()*+,=', 0, 60)
  // What climbs out of its root is refused, and a case of its own.
  .filter((rest) => !rest.includes('..'))
const query = fc.option(text('ab/?=&.%2e', 0, 30), { nil: undefined })
const body: fc.Arbitrary<BodySpec> = fc.record({
  bytes: fc.integer({ min: 0, max: 100_000 }).map(pattern),
  framing: fc.constantFrom('length', 'chunked'),
  chunkBytes: fc.integer({ min: 500, max: 70_000 }),
  trailers: fc.array(fc.tuple(name, value), { maxLength: 3 }),
})

const requests: fc.Arbitrary<RequestSpec> = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS'),
    path,
    query,
    fields,
    body: fc.option(body),
  })
  .map(({ method, path, query, fields, body }) => ({
    method,
    target: `/${path}${query === undefined ? '' : `?${query}`}`,
    fields,
    ...(body && { body }),
  }))
const answers: fc.Arbitrary<AnswerSpec> = fc.record({
  status: fc.constantFrom('200 OK', '201 Made', '206 Part', '302 There', '404 None', '500 Odd'),
  fields,
  body,
})
/** Where a request is cut into writes. */
const cuts = fc.array(places, { maxLength: 6 })

/** One exchange, with the request written in the pieces that `cuts` makes of it. */
async function exchange(
  stage: Stage,
  request: RequestSpec,
  reply: AnswerSpec,
  cuts: readonly number[],
): Promise<unknown> {
  let received: unknown
  stage.origin.handle(async (served) => {
    received = comparableRequest(served.head, await served.readBody())
    await served.reply(answer(reply))
  })
  const connection = await stage.connect()
  const bytes = connection.build(request)
  let from = 0
  for (const to of [...cuts.toSorted((a, b) => a - b).map((place) => placeIn(bytes, place)), bytes.length]) {
    await connection.write(bytes.subarray(from, to))
    from = to
  }
  const answered = comparableAnswer(await connection.readAnswer(request.method), stage.visitor.pathPrefix)
  connection.socket.destroy()
  return { received, answered }
}

export const random: CaseGroup = {
  name: 'random exchanges',
  cases: [
    {
      ...verdict(`${EXCHANGES} random requests and answers, cut anywhere`, async (stage) => {
        const direct = { ...stage, visitor: stage.direct, connect: () => stage.connectTo(stage.direct) }
        const property = fc.asyncProperty(requests, answers, cuts, async (request, reply, cuts) => {
          const without = await exchange(direct, request, reply, [])
          expect(await exchange(stage, request, reply, cuts)).toEqual(without)
        })
        await fc.assert(property, { numRuns: EXCHANGES })
      }),
      timeoutMs: 60_000,
    },
  ],
}
