import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { formatKey } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { fakeApi } from './support/fake-api.ts'
import { folder } from './support/folder.ts'
import { run } from './support/run.ts'

const TEAM = { id: '0190a5b0-0000-7000-8000-000000000001', display_name: 'Studio', role: 'owner' }
const OTHER_TEAM = { id: '0190a5b0-0000-7000-8000-000000000003', display_name: 'Annex', role: 'viewer' }
const USER = {
  id: '0190a5b0-0000-7000-8000-000000000002',
  first_name: '',
  last_name: '',
  display_name: 'Ada',
  email_address: 'ada@example.org',
  team_list: [OTHER_TEAM, TEAM],
  feature_flags: {},
}
const SECRET_KEY = formatKey('sk', new Uint8Array(32).fill(7))

/** A server whose refresh tokens work once; a second use ends the sign-in, as the contract says. */
function rotatingApi(options: { expiresIn: number }) {
  let generation = 1
  let ended = false
  const pair = () => ({
    access_token: `access-${generation}`,
    refresh_token: `refresh-${generation}`,
    expires_in: options.expiresIn,
  })
  const refused = { status: 401, body: { error_message: 'Sign in again.', error_code: 'unauthenticated' } }
  const isCurrent = (request: IncomingMessage) =>
    request.headers.authorization === `Bearer access-${generation}` && !ended
  return fakeApi({
    'POST /auth/login': () => ({ status: 200, body: pair() }),
    'POST /auth/refresh': (body) => {
      if ((body as { refresh_token: string }).refresh_token !== `refresh-${generation}`) ended = true
      if (ended) return refused
      generation++
      options.expiresIn = 3600
      return { status: 200, body: pair() }
    },
    'GET /users/me': (_body, request) => (isCurrent(request) ? { status: 200, body: USER } : refused),
  })
}

async function signedIn(url: string) {
  const cwd = folder()
  const args = ['login', '--url', url, '--email', USER.email_address, '--password-stdin', '--team', TEAM.id]
  expect(await run(args, { cwd, stdin: 'correct horse\n' })).toMatchObject({ code: 0, stderr: '' })
  return { cwd, file: join(cwd, '.config/cyberun/session.json') }
}

test('a sign-in is kept for this user only, and whoami says where', async () => {
  await using api = await rotatingApi({ expiresIn: 3600 })
  const { cwd, file } = await signedIn(api.url)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(statSync(join(file, '..')).mode & 0o777).toBe(0o700)
  expect(readdirSync(join(file, '..'))).toEqual(['session.json'])
  expect(readFileSync(file, 'utf8')).not.toContain('correct horse')
  const { stdout } = await run(['whoami', '--json'], { cwd })
  expect(JSON.parse(stdout)).toMatchObject({
    user: 'ada@example.org',
    team: 'Studio',
    role: 'owner',
    control_url: api.url,
    source: file,
  })
  const elsewhere = await run(['whoami', '--json'], { cwd, env: { CYBERUN_TEAM: OTHER_TEAM.id } })
  expect(JSON.parse(elsewhere.stdout)).toMatchObject({ team_id: OTHER_TEAM.id, team: 'Annex', role: 'viewer' })
})

test('a password of two lines is a mistake, exit 2', async () => {
  const args = ['login', '--url', 'http://127.0.0.1:1', '--email', USER.email_address, '--password-stdin']
  const { code, stderr } = await run(args, { stdin: 'correct horse\nbattery staple\n' })
  expect({ code, stderr }).toEqual({ code: 2, stderr: 'error: standard input holds more than one line\n' })
})

test('pairing goes on after polls that a server or proxy could not answer', async () => {
  const answers = [
    { status: 503, body: { error_message: 'Stopping.', error_code: 'unavailable' } },
    { status: 502, body: 'a proxy’s page' },
    { status: 200, body: { status: 'approved', raw_key: SECRET_KEY, agent_key: SECRET_KEY } },
  ]
  const started = { device_code: 'd', user_code: 'ABCD-EFGH', expires_in: 60, interval: 0 }
  await using api = await fakeApi({
    'POST /desktop/pair/start': () => ({ status: 200, body: started }),
    'POST /desktop/pair/poll': () => answers.shift() ?? { status: 500 },
  })
  expect(await run(['login', '--url', api.url, '--pair'])).toMatchObject({ code: 0 })
  expect(answers).toEqual([])
})

test('commands at once renew an expiring sign-in once', async () => {
  await using api = await rotatingApi({ expiresIn: 30 })
  const { cwd } = await signedIn(api.url)
  const ran = await Promise.all(Array.from({ length: 8 }, () => run(['whoami'], { cwd })))
  expect(ran.map(({ code, stderr }) => ({ code, stderr }))).toEqual(ran.map(() => ({ code: 0, stderr: '' })))
  expect(api.calls.filter((name) => name === 'POST /auth/refresh')).toHaveLength(1)
})

test('an access token that the server refuses is renewed once, then the call is made again', async () => {
  await using api = await rotatingApi({ expiresIn: 3600 })
  const { cwd, file } = await signedIn(api.url)
  writeFileSync(file, readFileSync(file, 'utf8').replace('access-1', 'access-of-a-server-before-its-restart'))
  expect((await run(['whoami'], { cwd })).code).toBe(0)
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ access_token: 'access-2', refresh_token: 'refresh-2' })
})

test('a sign-in that ended asks for a new one, exit 3', async () => {
  await using api = await rotatingApi({ expiresIn: 30 })
  const { cwd, file } = await signedIn(api.url)
  writeFileSync(file, readFileSync(file, 'utf8').replace('refresh-1', 'refresh-0'))
  expect(await run(['whoami'], { cwd })).toMatchObject({ code: 3, stderr: 'error: Sign in again.\n' })
})

test('a stored sign-in never goes to another server', async () => {
  await using api = await rotatingApi({ expiresIn: 3600 })
  await using other = await rotatingApi({ expiresIn: 3600 })
  const { cwd } = await signedIn(api.url)
  const { code, stderr } = await run(['whoami'], { cwd, env: { CYBERUN_URL: other.url } })
  expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining(`not signed in to ${other.url}`) })
  expect(other.calls).toEqual([])
})

test('logout forgets it', async () => {
  await using api = await rotatingApi({ expiresIn: 3600 })
  const { cwd, file } = await signedIn(api.url)
  expect((await run(['logout'], { cwd })).stdout).toBe(`Signed out of ${api.url}.\n`)
  expect(readdirSync(join(file, '..'))).toEqual([])
  expect((await run(['whoami'], { cwd })).stderr).toContain('not signed in')
  expect((await run(['logout'], { cwd })).stdout).toBe('You were not signed in.\n')
})

test.each([
  ['{', 'is not JSON'],
  ['[]', 'has no text in "kind"'],
  ['{"kind":"user"}', 'has no text in "control_url"'],
  ['{"kind":"robot"}', 'is of another release'],
])('a session file holding %s says what to do', async (text, says) => {
  const cwd = folder()
  writeFileSync(join(cwd, 'session.json'), text)
  const { stderr } = await run(['whoami'], { cwd, env: { CYBERUN_CONFIG_DIR: cwd } })
  expect(stderr).toContain(says)
  expect(stderr).toContain('cyberun login')
})

test.each([
  [{ CYBERUN_KEY: 'sk-short' }, 'mistyped'],
  [{ CYBERUN_KEY: formatKey('ak', new Uint8Array(32)) }, 'only agents use'],
  [{ CYBERUN_KEY: SECRET_KEY, CYBERUN_URL: 'gopher://x' }, 'CYBERUN_URL must be a URL'],
])('%j is refused before anything is sent', async (env, says) => {
  const { code, stderr } = await run(['agents'], { env })
  expect(stderr).toContain(says)
  expect(stderr).not.toContain(SECRET_KEY)
  expect([2, 3]).toContain(code)
})

test('a key is used before a sign-in, and cannot manage keys', async () => {
  const agents = { agent_list: [], page_meta: { current_page: 1, per_page: 100, total_count: 0 } }
  let bearer: string | undefined
  await using api = await fakeApi({
    'GET /agents': (_body, request) => {
      bearer = request.headers.authorization
      return { status: 200, body: agents }
    },
  })
  const env = { CYBERUN_KEY: SECRET_KEY, CYBERUN_URL: api.url }
  expect((await run(['agents', '--json'], { env })).stdout).toBe('{"agent_list":[]}\n')
  expect(bearer).toBe(`Bearer ${SECRET_KEY}`)
  expect(await run(['keys', 'list'], { env })).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('needs a person'),
  })
})

test('an answer that is no API’s says so, and a server that is not there is exit 6', async () => {
  await using api = await fakeApi({ 'GET /agents': () => ({ status: 200, headers: { 'content-type': 'text/html' } }) })
  const env = { CYBERUN_KEY: SECRET_KEY, CYBERUN_URL: api.url }
  expect((await run(['agents'], { env })).stderr).toContain('not as this API does')
  await api[Symbol.asyncDispose]()
  const gone = await run(['agents'], { env })
  expect(gone).toMatchObject({ code: 6, stderr: expect.stringContaining('nothing listens there') })
})

test('names from the server cannot steer the terminal', async () => {
  const trick = '\u001b]0;owned\u0007'
  await using api = await fakeApi({
    'POST /auth/login': () => ({ status: 200, body: { access_token: 'a', refresh_token: 'r', expires_in: 3600 } }),
    'GET /users/me': () => ({
      status: 200,
      body: { ...USER, display_name: trick, team_list: [{ ...TEAM, display_name: trick }] },
    }),
  })
  const { cwd } = await signedIn(api.url)
  for (const args of [['whoami'], ['whoami', '--json']]) {
    const { stdout } = await run(args, { cwd })
    expect(stdout).not.toContain('\u001b')
    expect(stdout).toContain('owned')
  }
})
