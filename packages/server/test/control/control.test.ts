import { once } from 'node:events'
import { connect } from 'node:net'
import { ApiError } from '@cyberun/api'
import { describe, expect, test } from 'vitest'
import type { Control } from '../../src/control/control.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'
import { AGENT, controlWith, identityDouble, TEAM_ID, USER_ID } from './doubles.ts'
import { rawRequest } from './raw-request.ts'

const call = (control: Control, path: string, init: RequestInit = {}) =>
  fetch(control.url + path, {
    ...init,
    headers: { authorization: 'Bearer good', 'x-team-id': TEAM_ID, ...init.headers },
  })
const post = (control: Control, path: string, body: BodyInit, headers: Record<string, string> = {}) =>
  call(control, path, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } })

const SECURITY_HEADERS = {
  'content-security-policy': /frame-ancestors 'none'/,
  'cross-origin-opener-policy': /^same-origin$/,
  'cross-origin-resource-policy': /^same-origin$/,
  'referrer-policy': /^no-referrer$/,
  'x-content-type-options': /^nosniff$/,
  'x-request-id': /^made-here-\d+$/,
}

test.each([
  ['/', 200],
  ['/pair', 200],
  ['/healthz', 200],
  ['/readyz', 200],
  ['/.well-known/jwks.json', 200],
  ['/api/v1/docs', 200],
  ['/api/v1/openapi.json', 200],
  ['/api/v1/agents', 200],
  ['/api/v1/agents/nobody', 404],
  ['/api/v1/nowhere', 404],
  ['/api/v1/auth/login', 405],
  ['/api/v1/agents?per_page=0', 400],
  ['/%ff/%00', 404],
])('%s answers %i with every security header, an id, no cookie and no CORS', async (path, status) => {
  await using control = await controlWith()
  const response = await call(control, path)
  expect(response.status).toBe(status)
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) expect(response.headers.get(name)).toMatch(value)
  expect(response.headers.get('set-cookie')).toBeNull()
  expect([...response.headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([])
  if (status >= 400) expect(await response.json()).toMatchObject({ error_message: expect.any(String) })
})

describe('answers', () => {
  test('a field that is not in the schema never leaves', async () => {
    const user = {
      id: USER_ID,
      emailAddress: 'a@example.org',
      firstName: '',
      lastName: '',
      displayName: 'A',
      teams: [{ id: TEAM_ID, displayName: 'T', role: 'owner' as const, secret: 'argon2id$' }],
      passwordHash: 'argon2id$',
    }
    const agent = { agent_id: 'gpu', secret: 'argon2id$' }
    await using control = await controlWith({
      identity: identityDouble({
        me: async () => user,
        createTeam: async () => ({ id: TEAM_ID, secret: 'argon2id$' }),
      }),
      agents: { list: () => [], get: () => agent as never },
    })
    const response = await call(control, '/api/v1/users/me')
    expect(response.status).toBe(200)
    expect(await response.text()).not.toContain('argon2id$')
    const created = await post(control, '/api/v1/teams', '{"display_name": "T"}')
    expect(created.status).toBe(201)
    expect(await created.json()).toEqual({ id: TEAM_ID })
  })

  test('one that does not match its schema is a 500 that tells the caller nothing, and a loud line in the log', async () => {
    await using control = await controlWith({
      agents: { list: () => [], get: () => ({ agent_id: 'gpu', inner: 'detail' }) as never },
    })
    const response = await call(control, '/api/v1/agents/gpu')
    expect(response.status).toBe(500)
    const answer = await response.json()
    expect(answer).toEqual({ error_code: 'internal', error_message: expect.stringContaining('made-here-1') })
    expect(control.lines.join('')).toMatch(/"level":"error".*does not match its schema: agent_status.*api\.failed/)
  })

  test('what the store cannot do now is a 503 without its story, which stands in the log once', async () => {
    const cause = new Error('database or disk is full')
    await using control = await controlWith({
      agents: {
        list: () => {
          throw new ApiError('unavailable', 'Try again in a moment.', { cause })
        },
        get: () => undefined,
      },
    })
    for (let calls = 0; calls < 3; calls++) {
      const response = await call(control, '/api/v1/agents')
      expect(response.status).toBe(503)
      expect(await response.text()).not.toContain('disk')
    }
    const told = control.lines.filter((line) => line.includes('api.unavailable'))
    expect(told).toEqual([expect.stringMatching(/"level":"warn".*made-here-1.*database or disk is full/)])
  })

  test('what a part throws unexpectedly is a 500 without its story', async () => {
    await using control = await controlWith({
      agents: {
        list: () => {
          throw new Error('connect ECONNREFUSED /var/run/postgres')
        },
        get: () => undefined,
      },
    })
    const response = await call(control, '/api/v1/agents')
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('postgres')
    expect(control.lines.join('')).toContain('/var/run/postgres')
  })

  test('HEAD is GET without the body', async () => {
    await using control = await controlWith()
    const response = await call(control, '/api/v1/agents', { method: 'HEAD' })
    expect([response.status, await response.text()]).toEqual([200, ''])
  })

  test('lists come in pages', async () => {
    const agent = (name: string) => ({ ...AGENT, agent_id: name })
    await using control = await controlWith({
      agents: { list: () => ['c', 'a', 'b'].map(agent), get: () => undefined },
    })
    const page = await (await call(control, '/api/v1/r/agents?per_page=2&current_page=2')).json()
    expect(page.agent_list.map((row: { agent_id: string }) => row.agent_id)).toEqual(['c'])
    expect(page.page_meta).toEqual({ current_page: 2, per_page: 2, total_count: 3 })
  })
})

describe('requests', () => {
  test.each([
    ['no Host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'header.Host'],
    ['two Hosts', 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n', 400, 'header.Host'],
    ['a Host with userinfo', 'GET /healthz HTTP/1.1\r\nHost: localhost@evil\r\n\r\n', 400, 'header.Host'],
    ['a list of Hosts', 'GET /healthz HTTP/1.1\r\nHost: localhost, evil\r\n\r\n', 400, 'header.Host'],
    ['a Host with a path', 'GET /healthz HTTP/1.1\r\nHost: localhost/x\r\n\r\n', 400, 'header.Host'],
    ['a re-bound name', 'GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n', 421, 'control.public_url'],
    ['a tunnel name', 'GET /healthz HTTP/1.1\r\nHost: abc.localhost\r\n\r\n', 421, 'control.public_url'],
    ['a trailing dot', 'GET /healthz HTTP/1.1\r\nHost: localhost.\r\n\r\n', 421, 'control.public_url'],
    ['another address', 'GET /healthz HTTP/1.1\r\nHost: 192.168.0.1\r\n\r\n', 421, 'control.public_url'],
    ['the absolute form', 'GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n', 400, 'target'],
    ['an asterisk', 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n', 400, 'target'],
    [
      'two X-Team-ID',
      `GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\nX-Team-ID: ${TEAM_ID}\r\nx-team-id: ${TEAM_ID}\r\n\r\n`,
      400,
      'header.X-Team-ID',
    ],
    [
      'two Authorizations',
      'GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nAuthorization: Bearer bad\r\n\r\n',
      400,
      'header.Authorization',
    ],
    ['an odd Expect', 'GET / HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\n\r\n', 400, 'header.Expect'],
    ['no HTTP', 'hello\r\n\r\n', 400, 'not well-formed'],
    ['a blank before the colon', 'GET / HTTP/1.1\r\nHost : localhost\r\n\r\n', 400, 'not well-formed'],
    [
      'endless headers',
      `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`,
      431,
      'not well-formed',
    ],
  ])('%s is refused, with an id, and the connection closes', async (_what, bytes, status, message) => {
    await using control = await controlWith()
    const response = await rawRequest(control.port, bytes)
    expect(response.split('\r\n')[0]).toContain(`HTTP/1.1 ${status} `)
    expect(response).toMatch(/x-request-id: made-here-1\r\n/i)
    expect(response).toContain(message)
    expect(response).not.toContain('200 OK')
  })

  test.each(['/\\evil', '//', '/api/v1/agents/%zz', '/%', '/api/v1/agents/..%2f', '/api/v1//agents'])(
    'the odd target %s is refused as the contract says',
    async (target) => {
      await using control = await controlWith()
      const head = `GET ${target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nX-Team-ID: ${TEAM_ID}\r\n`
      const response = await rawRequest(control.port, `${head}Connection: close\r\n\r\n`)
      expect(response).toMatch(/^HTTP\/1.1 40[04] [\s\S]*x-request-id: made-here-1\r\n[\s\S]*"error_message":/i)
    },
  )

  test('the name of public_url is ours, whatever its case and port', async () => {
    await using control = await controlWith({ publicUrl: 'https://api.example.org' })
    const answer = (host: string) =>
      rawRequest(control.port, `GET /healthz HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    for (const host of ['api.example.org', 'API.example.org:8787', '[::1]:1', '127.0.0.1']) {
      expect(await answer(host)).toContain('200 OK')
    }
    expect(await answer('evil.api.example.org')).toContain('421')
  })

  test.each([
    ['right-1234', true],
    ['0198f000-0000-7000-8000-000000000001', true],
    ['short', false],
    ['has space in it', false],
    ['"quotes"-and-more', false],
    ['x'.repeat(65), false],
  ])('an inbound id %j is kept: %s', async (id, kept) => {
    await using control = await controlWith()
    const response = await call(control, '/healthz', { headers: { 'x-request-id': id } })
    expect(response.headers.get('x-request-id') === id).toBe(kept)
  })

  test.each([
    ['no body', '', ['body.display_name']],
    ['not JSON', 'display_name=T', ['body']],
    ['a list', '[]', ['body']],
    ['null', 'null', ['body']],
    ['a wrong type', '{"display_name": 7}', ['body.display_name']],
    ['an empty string', '{"display_name": " "}', ['body.display_name']],
    ['a control character', '{"display_name": "a\\u001b[2J"}', ['body.display_name']],
    ['too long', JSON.stringify({ display_name: 'x'.repeat(101) }), ['body.display_name']],
  ])('a body with %s is a 400 that names the field', async (_what, body, paths) => {
    await using control = await controlWith()
    const response = await post(control, '/api/v1/teams', body)
    expect(response.status).toBe(400)
    const answer = await response.json()
    expect(answer).toMatchObject({ error_code: 'invalid_request' })
    expect(answer.details.map((detail: { path: string }) => detail.path)).toEqual(paths)
    expect(answer.error_message).toContain(paths[0])
  })

  test('every fault of a body is listed, and an unknown enum value is one', async () => {
    await using control = await controlWith()
    const body = JSON.stringify({ kind: 'device', display_name: '', expires_in_days: 366 })
    const answer = await (await post(control, '/api/v1/credentials', body)).json()
    expect(answer.details.map((detail: { path: string }) => detail.path)).toEqual([
      'body.kind',
      'body.display_name',
      'body.expires_in_days',
    ])
    expect(answer.error_message).toContain('2 more')
  })

  test('another content type is refused by name', async () => {
    await using control = await controlWith()
    const response = await post(control, '/api/v1/teams', '{"display_name": "T"}', { 'content-type': 'text/plain' })
    expect(response.status).toBe(400)
    expect((await response.json()).details[0].path).toBe('header.Content-Type')
  })

  test('a query parameter given twice is refused', async () => {
    await using control = await controlWith()
    const response = await call(control, '/api/v1/agents?per_page=2&per_page=3')
    expect((await response.json()).details).toEqual([{ path: 'query.per_page', message: 'given twice; send it once' }])
  })

  test('a large body is refused by its length and by what arrives', async () => {
    await using control = await controlWith()
    const head =
      'POST /api/v1/teams HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\n'
    const declared = await rawRequest(control.port, `${head}Content-Length: 9999999\r\n\r\n{`)
    expect(declared).toMatch(/^HTTP\/1.1 413 [\s\S]*payload_too_large/)
    const chunk = `1000\r\n${' '.repeat(4096)}\r\n`
    const arrived = await rawRequest(control.port, `${head}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(20)}`)
    expect(arrived).toMatch(/^HTTP\/1.1 413 [\s\S]*payload_too_large/)
  })

  test('a wrong method is answered with those there are', async () => {
    await using control = await controlWith()
    const response = await call(control, '/api/v1/members/x', { method: 'PATCH' })
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'PUT, DELETE'])
    const options = await call(control, '/api/v1/teams', {
      method: 'OPTIONS',
      headers: { origin: 'http://evil.example' },
    })
    expect([options.status, options.headers.get('allow')]).toEqual([405, 'HEAD, POST, GET'])
  })
})

describe('limits on guessing', () => {
  const login = (control: Control, forwarded: string) =>
    post(control, '/api/v1/auth/login', '{"email_address": "a@example.org", "user_password": "x"}', {
      'x-forwarded-for': forwarded,
    })

  test('too many attempts are a 429 that says when to come back', async () => {
    const refusal = new ApiError('rate_limited', 'Too many attempts.', { retryAfterSeconds: 6.2 })
    await using control = await controlWith({ identity: identityDouble({ login: () => Promise.reject(refusal) }) })
    const response = await login(control, '203.0.113.9')
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '7'])
  })

  test.each([
    ['a stranger who says so', [], '127.0.0.1'],
    ['a trusted proxy', ['127.0.0.0/8'], '203.0.113.9'],
  ])('they count by the address that %s gives', async (_whose, trusted, expected) => {
    const addresses: string[] = []
    await using control = await controlWith({
      visitorAddress: createVisitorAddress(trusted),
      identity: identityDouble({
        login: async (_email, _password, address) => {
          addresses.push(address)
          throw new ApiError('unauthenticated', 'No.')
        },
      }),
    })
    await login(control, '203.0.113.9')
    expect(addresses).toEqual([expected])
  })
})

describe('lifetimes', () => {
  test('stopping lets a call under way finish and takes no other', async () => {
    const entered = Promise.withResolvers<void>()
    const finish = Promise.withResolvers<void>()
    await using control = await controlWith({
      identity: identityDouble({
        createTeam: async () => {
          entered.resolve()
          await finish.promise
          return { id: TEAM_ID }
        },
      }),
    })
    const response = post(control, '/api/v1/teams', '{"display_name": "T"}')
    await entered.promise
    const stopped = control.stop(new AbortController().signal)
    await expect(fetch(`${control.url}/healthz`)).rejects.toThrow()
    finish.resolve()
    expect((await response).status).toBe(201)
    await stopped
  })

  test('stopping cuts what does not finish', async () => {
    const entered = Promise.withResolvers<void>()
    await using control = await controlWith({
      identity: identityDouble({
        createTeam: () => {
          entered.resolve()
          return new Promise(() => {})
        },
      }),
    })
    const response = post(control, '/api/v1/teams', '{"display_name": "T"}')
    await entered.promise
    const patience = new AbortController()
    const stopped = control.stop(patience.signal)
    patience.abort()
    await expect(response).rejects.toThrow()
    await stopped
  })

  test('a caller that hangs up aborts the call, and that is no failure', async () => {
    const given = Promise.withResolvers<AbortSignal>()
    const called = Promise.withResolvers<number>()
    await using control = await controlWith({
      metrics: { called: (_route, status) => called.resolve(status) },
      tunnels: {
        open: (_opener, _team, _agent, _request, signal) => {
          given.resolve(signal)
          return new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason))
          })
        },
        list: () => Promise.reject(new Error('list')),
        close: () => Promise.reject(new Error('close')),
        extend: () => Promise.reject(new Error('extend')),
        revoke: () => Promise.reject(new Error('revoke')),
      },
    })
    const socket = connect(control.port, '127.0.0.1')
    socket.write(
      `POST /api/v1/agents/gpu/tunnel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nX-Team-ID: ${TEAM_ID}\r\n\r\n`,
    )
    const signal = await given.promise
    socket.destroy()
    await once(signal, 'abort')
    expect(await called.promise).toBe(504)
    expect(control.lines.join('')).not.toContain('"level":"error"')
  })

  test('bound to every address, the API names one that can be dialled', async () => {
    await using control = await controlWith({ host: '0.0.0.0' })
    expect(control.url).toBe(`http://127.0.0.1:${control.port}`)
    const rebound = await rawRequest(control.port, 'GET /healthz HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n')
    expect(rebound).toContain(' 421 ')
  })
})

test('not ready is 503 with the reason, and a check that throws keeps its story', async () => {
  let readiness = async (): Promise<string | undefined> => 'the store does not answer'
  await using control = await controlWith({ readiness: () => readiness() })
  const first = await call(control, '/readyz')
  expect([first.status, await first.json()]).toEqual([
    503,
    { status: 'not_ready', reason: 'the store does not answer' },
  ])
  readiness = () => Promise.reject(new Error('postgres://user:pw@db'))
  const second = await call(control, '/readyz')
  expect([second.status, await second.json()]).toEqual([503, { status: 'not_ready', reason: 'a check failed' }])
})
