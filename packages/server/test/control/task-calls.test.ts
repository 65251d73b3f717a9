import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ECHO_WORKFLOW } from './task-requests.ts'
import { type Team, type TeamWorld, teamWorld } from './team-world.ts'

/** What the table of callers does not say of the calls about workflows and tasks. */

let world: TeamWorld
let team: Team
let key = ''
beforeAll(async () => {
  world = await teamWorld()
  team = await world.newTeam()
  key = (await world.identity.createCredential(team.actor('member'), { kind: 'integration', displayName: 'x' })).rawKey
})
afterAll(() => world.close())

interface Answered {
  status: number
  text: string
  body: Record<string, unknown>
}

async function call(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answered> {
  const response = await fetch(`${world.control.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, text, body: text === '' ? {} : JSON.parse(text) }
}

const asOwner = () => ({ authorization: `Bearer ${world.people.owner.jwt}`, 'x-team-id': team.id })
const run = (body: unknown, headers?: Record<string, string>) =>
  call('POST', '/r/workflows/slug/echo/run', body, headers)

test('an integration key does not see what a workflow is made of', async () => {
  for (const path of [`/r/workflows/${team.workflowId}`, '/r/workflows/slug/echo', '/r/workflows/slug/echo@1']) {
    expect((await call('GET', path)).text).not.toContain('workflow_json')
    expect((await call('GET', path, undefined, asOwner())).body).toMatchObject({
      workflow_json: ECHO_WORKFLOW.workflow_json,
    })
  }
  expect((await call('GET', '/r/workflows')).text).not.toContain('workflow_json')
})

test('a task says through which kind of secret it came', async () => {
  const { body } = await run({})
  expect((await call('GET', `/r/tasks/${body['task_id']}`)).body).toMatchObject({ creation_source: 'api_key' })
  const byPerson = await run({}, asOwner())
  expect((await call('GET', `/r/tasks/${byPerson.body['task_id']}`)).body).toMatchObject({ creation_source: 'jwt' })
})

test.each([
  ['a name no workflow can have', 'Echo!', 404],
  ['an unknown workflow', 'ecco', 404],
  ['an unknown version', 'echo@99', 404],
  ['a version that is no number', 'echo@latest', 404],
])('%s: 404', async (_, slug, status) => {
  const answer = await call('POST', `/r/workflows/slug/${encodeURIComponent(slug)}/run`, {})
  expect({ status: answer.status, code: answer.body['error_code'] }).toEqual({ status, code: 'not_found' })
})

test.each([
  ['parameters that are a list', { parameters: [] }, 'body.parameters'],
  ['a priority out of range', { priority: 11 }, 'body.priority'],
  ['an unknown tool', { tool_type: 'blender' }, 'body.tool_type'],
  ['an unknown parameter', { parameters: { wrd: 'x' } }, 'body.parameters.wrd'],
  ['a parameter of the wrong type', { parameters: { word: ['x'] } }, 'body.parameters.word'],
  ['a name of the language', '{"parameters": {"__proto__": "x"}}', 'body'],
])('%s: 400 that names it', async (_, body, path) => {
  const { status, body: answer } = await run(body)
  expect(status).toBe(400)
  expect(answer['details']).toEqual([expect.objectContaining({ path })])
})

test('a body that is too large: 413, for a run above 1 MiB, for a workflow above 4 MiB', async () => {
  const megabytes = (count: number) => 'x'.repeat(count * 1024 * 1024)
  expect((await run({ parameters: { word: megabytes(1) } })).status).toBe(413)
  expect((await run({ parameters: { word: 'x'.repeat(500_000) } })).status).toBe(202)
  const workflow = (text: string) => ({ ...ECHO_WORKFLOW, workflow_slug: 'large', workflow_json: { text } })
  expect((await call('POST', '/workflows/import', workflow(megabytes(4)), asOwner())).status).toBe(413)
  expect((await call('POST', '/workflows/import', workflow(megabytes(3)), asOwner())).status).toBe(201)
})

test('an Idempotency-Key: the same answer again, a conflict for another body, and limits of its own', async () => {
  const again = { 'idempotency-key': 'order-66' }
  const first = await run({ parameters: { word: 'a' } }, again)
  expect(first.status).toBe(202)
  expect(await run({ parameters: { word: 'a' } }, again)).toEqual(first)
  const other = await run({ parameters: { word: 'b' } }, again)
  expect({ status: other.status, code: other.body['error_code'] }).toEqual({
    status: 409,
    code: 'idempotency_mismatch',
  })
  expect((await run({}, { 'idempotency-key': 'x'.repeat(256) })).status).toBe(400)
})

test('a disabled workflow refuses runs and says so', async () => {
  const workflow = { ...ECHO_WORKFLOW, workflow_slug: 'off', workflow_status: 'disabled' }
  await call('POST', '/workflows/import', workflow, asOwner())
  const { status, body } = await call('POST', '/r/workflows/slug/off/run', {})
  expect({ status, code: body['error_code'] }).toEqual({ status: 409, code: 'workflow_disabled' })
})

test.each([
  ['a workflow without a graph', { workflow_slug: 'x1' }, 'body.workflow_json'],
  ['a slug with capitals', { ...ECHO_WORKFLOW, workflow_slug: 'Echo' }, 'body.workflow_slug'],
  ['a slug of one character', { ...ECHO_WORKFLOW, workflow_slug: 'e' }, 'body.workflow_slug'],
  ['a key given twice', { ...ECHO_WORKFLOW, parameters: [{ key: 'a' }, { key: 'a' }] }, 'body.parameters'],
  [
    'a parameter of no known type',
    { ...ECHO_WORKFLOW, parameters: [{ key: 'a', type: 'colour' }] },
    'body.parameters.0.type',
  ],
])('%s: 400 that names it', async (_, body, path) => {
  const { status, body: answer } = await call('POST', '/workflows/import', body, asOwner())
  expect(status).toBe(400)
  expect(answer['details']).toEqual([expect.objectContaining({ path })])
})

describe('what became of a key since its last run counts for the next one', () => {
  test.each([
    ['it was revoked', (own: Team, id: string) => world.identity.revokeCredential(own.actor('owner'), id), 401],
    ['its holder left', (own: Team) => world.identity.removeMember(own.actor('owner'), member()), 401],
    [
      'its holder may only look',
      (own: Team) => world.identity.updateMember(own.actor('owner'), member(), 'viewer'),
      403,
    ],
    ['the team is gone', (own: Team) => world.identity.deleteTeam(own.actor('owner')), 401],
  ] as const)('%s', async (_, change, status) => {
    const own = await world.newTeam()
    const made = { kind: 'integration', displayName: 'x' } as const
    const { id, rawKey } = await world.identity.createCredential(own.actor('member'), made)
    const submit = async (body: object, headers = {}) =>
      (await run(body, { authorization: `Bearer ${rawKey}`, ...headers })).status
    expect(await submit({})).toBe(202)
    expect(world.identity.recall(rawKey)).toBeDefined()
    const stored = () => world.tasks.list(own.id, { current_page: 1, per_page: 1 })
    const before = (await stored()).page_meta.total_count
    await change(own, id)
    // Nor does it learn what would be wrong with a run, or what there is to run.
    const refused = [{}, { parameters: { wrd: 'x' } }, '{']
    expect(await Promise.all(refused.map((body) => submit(body as object)))).toEqual([status, status, status])
    expect(await submit({}, { 'idempotency-key': 'again' })).toBe(status)
    expect((await stored()).page_meta.total_count).toBeLessThanOrEqual(before)
  })

  test('a holder with more rights than before keeps working', async () => {
    const own = await world.newTeam()
    const made = { kind: 'integration', displayName: 'x' } as const
    const { rawKey } = await world.identity.createCredential(own.actor('member'), made)
    const submit = async () => (await run({}, { authorization: `Bearer ${rawKey}` })).status
    expect(await submit()).toBe(202)
    await world.identity.updateMember(own.actor('owner'), member(), 'admin')
    expect([await submit(), await submit()]).toEqual([202, 202])
  })

  const member = () => world.people.member.id
})

test('a head asked for alone is not the stream', async () => {
  const { body } = await run({})
  const response = await fetch(`${world.control.url}/api/v1/r/tasks/${body['task_id']}/events`, {
    method: 'HEAD',
    headers: { authorization: `Bearer ${key}` },
  })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('text/event-stream')
})

test('a revoked key ends the event streams that were opened with it, and no others', async () => {
  const { body } = await run({})
  const made = { kind: 'integration', displayName: 'short-lived' } as const
  const { id, rawKey } = await world.identity.createCredential(team.actor('member'), made)
  const openStream = async (secret: string) => {
    const response = await fetch(`${world.control.url}/api/v1/r/tasks/${body['task_id']}/events`, {
      headers: { authorization: `Bearer ${secret}` },
    })
    expect(response.status).toBe(200)
    return response.body?.getReader()
  }
  const [kept, ended] = [await openStream(key), await openStream(rawKey)]
  expect((await call('DELETE', `/credentials/${id}`, undefined, asOwner())).status).toBe(204)
  // By the doorbell: the sweep that would find it otherwise takes longer than this test may.
  while (!(await ended?.read())?.done) {}
  expect((await run({}, { authorization: `Bearer ${rawKey}` })).status).toBe(401)
  await call('POST', `/r/tasks/${body['task_id']}/cancel`)
  let told = ''
  for (let piece = await kept?.read(); piece && !piece.done; piece = await kept?.read()) {
    told += Buffer.from(piece.value).toString()
  }
  expect(told).toContain('cancelled')
})
