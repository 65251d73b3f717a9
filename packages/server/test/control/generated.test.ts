import { ErrorAnswer, type RouteName, type RouteSpec, routes } from '@cyberun/api'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeApi } from '../../src/control/openapi.ts'
import { type TeamWorld, teamWorld } from './team-world.ts'

/** Requests made from the OpenAPI document: some as it says, some just beside. Whatever is sent, the answer is one it lists. */

const RUNS = 25
const document = describeApi('0.1.0')
type Operation = NonNullable<typeof document.paths>[string][string]
type Schema = Operation['responses'][string] extends { content?: Record<string, { schema: infer S }> } ? S : never

let world: TeamWorld
let teamId = ''
beforeAll(async () => {
  world = await teamWorld()
  teamId = (await world.newTeam()).id
})
afterAll(() => world.close())

/** Values no schema of ours takes, and texts that trip parsers. */
const oddValue = fc.oneof(
  fc.constantFrom(null, true, -1, 0, 1.5, 65_536, 2 ** 53, 1e308, [], {}, [null]),
  fc.constantFrom('', ' ', '\0', '\ud800', '\u202e', '../..', "' or 1=1 --", '%00', '__proto__', 'x'.repeat(3_000)),
  fc.string({ unit: 'binary', maxLength: 40 }),
)

function generatorOf(named: Schema): fc.Arbitrary<unknown> {
  const schema = resolved(named)
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map(generatorOf))
  if (schema.enum) return fc.constantFrom(...schema.enum)
  if (schema.format === 'uuid') return fc.uuid()
  if (schema.format === 'email') return fc.emailAddress()
  const [type] = [schema.type].flat()
  switch (type) {
    case undefined:
      return fc.jsonValue()
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e9, max: schema.maximum ?? 1e9, noNaN: true })
    case 'array':
      return fc.array(generatorOf(schema.items ?? {}), { maxLength: 3 })
    case 'integer':
      return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1_000, 2 ** 31) })
    case 'string':
      return fc.string({
        unit: 'grapheme-ascii',
        minLength: schema.minLength ?? 0,
        maxLength: Math.min(schema.maxLength ?? 60, 200),
      })
    case 'object':
      return objectOf(schema)
    default:
      throw new Error(`no generator for ${JSON.stringify(schema)}`)
  }
}

function resolved(schema: Schema): Schema {
  const name = schema.$ref?.split('/').at(-1)
  return name === undefined ? schema : (document.components?.schemas?.[name] ?? schema)
}

/** Mostly right; now and then a field is missing, odd, or one too many. */
function objectOf({ properties = {}, additionalProperties }: Schema): fc.Arbitrary<unknown> {
  if (typeof additionalProperties === 'object') {
    return fc.dictionary(fc.string({ maxLength: 20 }), generatorOf(additionalProperties), { maxKeys: 5 })
  }
  const fields = Object.fromEntries(
    Object.entries(properties).map(([name, schema]) => [
      name,
      fc.oneof({ weight: 6, arbitrary: generatorOf(schema) }, { weight: 1, arbitrary: oddValue }),
    ]),
  )
  const whole = fc.record(fields)
  return fc.oneof(
    { weight: 8, arbitrary: whole },
    { weight: 2, arbitrary: fc.record(fields, { requiredKeys: [] }) },
    { weight: 1, arbitrary: oddValue },
  )
}

interface Generated {
  params: Record<string, unknown>
  query: Record<string, unknown>
  body: unknown
  contentType: string
}

function requestOf(operation: Operation): fc.Arbitrary<Generated> {
  const parameters = (place: string) =>
    fc.record(
      Object.fromEntries(
        (operation.parameters ?? [])
          .filter((parameter) => parameter.in === place)
          .map(({ name, schema }) => [
            name,
            fc.oneof({ weight: 4, arbitrary: generatorOf(schema) }, { weight: 1, arbitrary: oddValue }),
          ]),
      ),
    )
  const body = operation.requestBody?.content['application/json']?.schema
  return fc.record({
    params: parameters('path'),
    query: parameters('query'),
    body: body ? generatorOf(body) : fc.constant(undefined),
    contentType: fc.oneof(
      { weight: 9, arbitrary: fc.constant('application/json') },
      {
        weight: 1,
        arbitrary: fc.constantFrom('text/plain', 'application/json; charset=utf-8', 'multipart/form-data', ''),
      },
    ),
  })
}

async function send(name: RouteName, { params, query, body, contentType }: Generated): Promise<Response> {
  const [method = '', path = ''] = name.split(' ')
  // A segment of dots is a path of its own before it is sent: it would be another call.
  const text = (value: unknown) =>
    String(value)
      .toWellFormed()
      .replace(/^\.{1,2}$/, 'dots')
  const filled = path.replace(/\{(\w+)\}/g, (_, key: string) => encodeURIComponent(text(params[key])))
  const search = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, text(value)]))
  return fetch(`${world.control.url}/api/v1${filled}?${search}`, {
    method,
    headers: {
      authorization: `Bearer ${world.people.member.jwt}`,
      'x-team-id': teamId,
      ...(body !== undefined && { 'content-type': contentType }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
}

/** Calls that take input: in the others nothing varies, and the table of callers has them. */
const varied = (Object.keys(routes) as RouteName[]).flatMap((name) => {
  const [method = '', path = ''] = name.split(' ')
  const operation = document.paths?.[path]?.[method.toLowerCase()]
  if (!operation) throw new Error(`${name} is not in the document`)
  const varies = operation.parameters?.some((parameter) => parameter.in !== 'header') || operation.requestBody
  const spec: RouteSpec = routes[name]
  return varies ? [{ name, operation, spec }] : []
})

test.each(varied)('$name answers only what the document lists, in its shape', async ({ name, operation, spec }) => {
  await fc.assert(
    fc.asyncProperty(requestOf(operation), async (request) => {
      const response = await send(name, request)
      const text = await response.text()
      expect(response.status, text).toBeLessThan(500)
      expect(Object.keys(operation.responses)).toContain(String(response.status))
      const shape = response.ok ? spec.answer : ErrorAnswer
      if (shape) shape.parse(JSON.parse(text))
      else expect(text).toBe('')
    }),
    { numRuns: RUNS },
  )
})
