import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ClientError, createClient } from '../src/client.ts'

/** A server that answers what the test says and remembers what it was asked. */
let answer: (request: IncomingMessage, response: ServerResponse) => void
let asked: { method: string | undefined; url: string | undefined; headers: IncomingMessage['headers']; body: string }
const server = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  asked = { method: request.method, url: request.url, headers: request.headers, body }
  answer(request, response)
})
let baseUrl = ''

beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => void server.close())

const json = (status: number, value: unknown, headers: Record<string, string> = {}) => {
  answer = (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
  }
}
const failure = (promise: Promise<unknown>): Promise<ClientError> =>
  promise.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: unknown) => (error instanceof ClientError ? error : Promise.reject(error)),
  )

test('a call becomes method, path, query, headers and body', async () => {
  json(200, { is_active: false, session_id: '', tunnel_url: '', session_list: [] })
  const client = createClient({ baseUrl, token: 'sk-x', teamId: 'a-team' })
  const tunnels = await client.call('GET /agents/{agentId}/tunnel', { params: { agentId: 'gpu/1 ü' } })
  expect(tunnels.is_active).toBe(false)
  expect(asked).toMatchObject({ method: 'GET', url: '/api/v1/agents/gpu%2F1%20%C3%BC/tunnel', body: '' })
  expect(asked.headers).toMatchObject({ authorization: 'Bearer sk-x', 'x-team-id': 'a-team' })

  json(201, { session_id: 'x' })
  await client.call('POST /agents/{agentId}/tunnel', {
    params: { agentId: 'a' },
    body: { target_port: 5432, tunnel_protocol: 'tcp' },
  })
  expect(asked.headers['content-type']).toBe('application/json')
  expect(JSON.parse(asked.body)).toEqual({ target_port: 5432, tunnel_protocol: 'tcp' })

  json(200, { agent_list: [] })
  await client.call('GET /agents', { query: { per_page: 50 } })
  expect(asked.url).toBe('/api/v1/agents?per_page=50')
})

test('a base below a path keeps it, and 204 is undefined', async () => {
  answer = (_request, response) => void response.writeHead(204).end()
  const client = createClient({ baseUrl: `${baseUrl}/cyberun/`, token: 'fresh' })
  expect(await client.call('DELETE /teams/current', {})).toBeUndefined()
  expect(asked.url).toBe('/cyberun/api/v1/teams/current')
  expect(asked.headers.authorization).toBe('Bearer fresh')
})

test('an error of the API keeps its code, sentence, details, request id and Retry-After', async () => {
  const details = [{ path: 'body.email_address', message: 'too short' }]
  json(
    429,
    { error_message: 'Slow down.', error_code: 'rate_limited', details },
    { 'retry-after': '7', 'x-request-id': 'r-1' },
  )
  const error = await failure(
    createClient({ baseUrl }).call('POST /auth/login', { body: { email_address: 'a@b.c', user_password: 'x' } }),
  )
  expect(error).toMatchObject({
    code: 'rate_limited',
    message: 'Slow down.',
    status: 429,
    requestId: 'r-1',
    details,
    retryAfterSeconds: 7,
  })
})

test('an answer that is not of this API says so', async () => {
  answer = (_request, response) => void response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway')
  const error = await failure(createClient({ baseUrl }).call('GET /teams', {}))
  expect(error).toMatchObject({ code: 'bad_answer', status: 502 })
  expect(error.message).toContain('Is it the address of a Cyberun server?')
})

test('JSON that is cut short is a bad answer, and so is an error without our fields', async () => {
  answer = (_request, response) =>
    void response.writeHead(200, { 'content-type': 'application/json' }).end('{"team_list": [')
  expect(await failure(createClient({ baseUrl }).call('GET /teams', {}))).toMatchObject({ code: 'bad_answer' })
  json(500, null)
  expect(await failure(createClient({ baseUrl }).call('GET /teams', {}))).toMatchObject({
    code: 'bad_answer',
    status: 500,
  })
})

test('nobody there, a time limit and a cancelled call are told apart', async () => {
  // On the port that is ours nobody else comes to listen meanwhile, whatever the address.
  const gone = baseUrl.replace('127.0.0.1', '127.0.0.9')
  const unreachable = await failure(createClient({ baseUrl: gone }).call('GET /teams', {}))
  expect(unreachable).toMatchObject({ code: 'unreachable', status: undefined })
  expect(unreachable.message).toContain('Is the server running?')

  answer = () => {}
  const client = createClient({ baseUrl })
  expect(await failure(client.call('GET /teams', {}, AbortSignal.timeout(20)))).toMatchObject({ code: 'timeout' })
  expect(await failure(client.call('GET /teams', {}, AbortSignal.abort()))).toMatchObject({ code: 'aborted' })
  server.closeAllConnections()
})

test('a mangled token is refused here, unquoted', async () => {
  const error = await failure(createClient({ baseUrl, token: 'sk-secret\nsecret' }).call('GET /teams', {}))
  expect(error).toMatchObject({ code: 'unauthenticated', status: undefined })
  expect(error.message).not.toContain('secret')
})

test('a redirect is not followed: it would carry the secret elsewhere', async () => {
  answer = (_request, response) => void response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end()
  expect(await failure(createClient({ baseUrl, token: 'sk-x' }).call('GET /teams', {}))).toMatchObject({
    code: 'bad_answer',
  })
})

test('the client loads no schema library', () => {
  const list = `
    import { registerHooks } from 'node:module'
    registerHooks({ resolve: (name, context, next) => { const found = next(name, context); console.log(found.url); return found } })
    await import('@cyberun/api/client')`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', list], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  })
  expect(stderr).toBe('')
  expect(stdout).toContain('/api/src/client.ts')
  expect(stdout).not.toMatch(/zod|routes|schemas/)
})
