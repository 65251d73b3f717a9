import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BANNER_STATUS, execute, type Started, start, untilLinked } from './support/binary.ts'
import { folder } from './support/folder.ts'

/** A service of this machine: answers any request with its method and path. */
const service = createHttpServer((request, response) => response.end(`${request.method} ${request.url}`))
/** Another: sends back what it gets, and ends when its visitor has. */
const echo = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {}) // a visitor that hangs up
  socket.pipe(socket)
})
let servicePort = 0
let echoPort = 0

const cwd = folder()
const here = { cwd }
let up: Started
let agentId = ''

const quickstart = () => JSON.parse(readFileSync(join(cwd, '.cyberun/quickstart.json'), 'utf8'))
const json = async (args: readonly string[], place = here) => {
  const { code, stdout, stderr } = await execute([...args, '--json'], place)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

beforeAll(async () => {
  servicePort = await listen(service)
  echoPort = await listen(echo)
  up = start(['up'], here)
  await up.line(/^try: .*forward.*$/m)
  agentId = quickstart().agent_id
  await untilLinked(here)
})

afterAll(async () => {
  await up.stop('SIGINT')
  for (const server of [service, echo]) server.close()
})

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** What comes back for `sent`, up to the other end's FIN. */
async function exchange(port: number, sent: string): Promise<string> {
  const socket: Socket = connect(port, '127.0.0.1')
  socket.end(sent)
  let text = ''
  for await (const bytes of socket) text += String(bytes)
  return text
}

describe('the first start', () => {
  test('prints where everything is, the first user, the agent and three commands, as plain lines', () => {
    const { control_url, edge_url, email_address, user_password } = quickstart()
    expect(up.stdout().split('\n')).toEqual([
      `api: ${control_url}`,
      `docs: ${control_url}/api/v1/docs`,
      `edge: ${edge_url}`,
      `e-mail: ${email_address}`,
      `password: ${user_password} (shown once)`,
      expect.stringMatching(new RegExp(`^agent: ${agentId} ${BANNER_STATUS}$`)),
      expect.stringMatching(/^try: npx cyberun /),
      expect.stringMatching(/^try: npx cyberun /),
      expect.stringMatching(/^try: npx cyberun /),
      '',
    ])
    expect(up.stderr()).toBe('')
  })

  test('leaves quickstart.json for scripts, and secrets that only this user can read', () => {
    expect(Object.keys(quickstart()).sort()).toEqual([
      'agent_id',
      'control_url',
      'edge_url',
      'email_address',
      'integration_key',
      'team_id',
      'user_password',
    ])
    for (const name of ['quickstart.json', 'agent.key', 'secret.key', 'agent/machine.key']) {
      expect({ name, mode: statSync(join(cwd, '.cyberun', name)).mode & 0o777 }).toEqual({ name, mode: 0o600 })
    }
    expect(statSync(join(cwd, '.cyberun')).mode & 0o777).toBe(0o700)
  })
})

describe('commands in the same folder, without any sign-in', () => {
  test('whoami says that it is what "up" left, and agents lists this machine', async () => {
    expect(await json(['whoami'])).toMatchObject({ source: join(cwd, '.cyberun/quickstart.json') })
    expect((await execute(['whoami'], here)).stdout).toContain('left by "cyberun up"')
    expect((await json(['agents'])).agent_list).toMatchObject([{ agent_id: agentId, agent_status: 'idle' }])
    expect((await execute(['agents'], here)).stdout).toMatch(new RegExp(`^AGENT .*\n${agentId} +idle `))
  })

  test('tunnel open tells plain lines without a terminal; extend and revoke', async () => {
    const open = ['tunnel', 'open', agentId, String(servicePort), '--idle-timeout', '2h', '--profile', 'generic']
    const { stdout } = await execute(open, here)
    expect(stdout).toMatch(/^http:\/\/\S+\/tunnel\/[\w-]{43}\/\n\n/)
    expect(stdout).toContain('profile: generic\n')
    expect(stdout).toContain('ends: in 2 h unless it is used\n')
    expect(stdout, 'no colours, no QR code, no admin token').not.toMatch(/[^\P{Cc}\n]|█|terminal:/u)
    const [old = ''] = stdout.split('\n')
    expect(await json(['tunnel', 'extend', agentId, '--idle-timeout', '3h'])).toMatchObject({ idle_timeout_s: 10_800 })
    const { tunnel_url } = await json(['tunnel', 'revoke', agentId])
    expect((await fetch(old)).status).toBe(404)
    expect((await fetch(tunnel_url)).status).toBe(200)
    const list = (await execute(['tunnel', 'list'], here)).stdout
    expect(list).toMatch(/^AGENT +PORT +PROTOCOL +PROFILE +OPENED +ENDS +VIEWERS/)
    expect(list).toMatch(/ generic .* in 3 h +1 /)
    await json(['tunnel', 'close', agentId])
    expect((await execute(['tunnel', 'extend', agentId], here).catch((error) => error)).code).toBe(4)
  })

  test('tunnel open, list and close', async () => {
    const { tunnel_url, session_id } = await json(['tunnel', 'open', agentId, String(servicePort)])
    expect(await (await fetch(`${tunnel_url}hello?x=1`)).text()).toBe('GET /hello?x=1')
    const listed = await json(['tunnel', 'list'])
    expect(listed.session_list).toMatchObject([{ agent_id: agentId, session_id, target_port: servicePort, tunnel_url }])
    expect(await json(['tunnel', 'close', agentId])).toEqual({ agent_id: agentId, closed_list: [session_id] })
    expect((await fetch(`${tunnel_url}hello`)).status).toBe(404)
    expect((await execute(['tunnel', 'list', agentId], here)).stdout).toBe('No tunnel is open.\n')
  })

  test('closing one of several asks which', async () => {
    const opened = await Promise.all([1, 2].map(() => json(['tunnel', 'open', agentId, String(servicePort)])))
    const unclear = await execute(['tunnel', 'close', agentId], here)
    expect(unclear).toMatchObject({ code: 2, stderr: expect.stringContaining('--all') })
    const { closed_list } = await json(['tunnel', 'close', agentId, '--all'])
    expect(closed_list.sort()).toEqual(opened.map(({ session_id }) => session_id).sort())
  })

  test.each([
    [['tunnel', 'open', 'nobody', '80'], 4],
    [['tunnel', 'list', 'nobody'], 4],
    [['forward', 'nobody', '80'], 4],
    [['tunnel', 'close', 'nobody', '0190a5b0-0000-7000-8000-000000000001'], 4],
  ])('%j is one line and exit %i', async (args, code) => {
    const ended = await execute(args, here)
    expect(ended).toEqual({ code, stdout: '', stderr: expect.stringMatching(/^error: .+\n$/) })
  })

  test('a port nobody listens on is exit 5, before anything is opened', async () => {
    const closed = createServer()
    const port = await listen(closed)
    closed.close()
    for (const command of [['tunnel', 'open'], ['forward']]) {
      const ended = await execute([...command, agentId, String(port)], here)
      expect(ended).toMatchObject({ code: 5, stderr: expect.stringContaining('Nothing listens') })
    }
    expect((await json(['tunnel', 'list'])).session_list).toEqual([])
  })

  test('doctor finds nothing wrong, down to the link’s speed, and makes no second agent', async () => {
    const { is_healthy, check_list } = await json(['doctor'])
    expect(is_healthy).toBe(true)
    const ok = check_list.filter(({ result }: { result: string }) => result === 'ok')
    expect(ok.map(({ part, layer }: { part: string; layer: string }) => `${part} ${layer}`)).toEqual(
      expect.arrayContaining([
        'api http',
        'api key',
        'edge websocket',
        'edge key',
        'edge round_trip',
        'edge throughput',
      ]),
    )
    expect((await json(['agents'])).agent_list).toMatchObject([{ agent_id: agentId, agent_status: 'idle' }])
  })
})

describe('forward', () => {
  test('carries connections beside each other, both ways and half-closed, and closes its tunnel when stopped', async () => {
    await using forward = start(['forward', agentId, String(echoPort), '--local', '0', '--json'], here)
    const { local_port, session_id } = JSON.parse((await forward.line(/^\{.*\}$/m))[0])
    const sent = ['a', 'b'.repeat(1_000_000), 'c']
    expect(await Promise.all(sent.map((text) => exchange(local_port, text)))).toEqual(sent)
    expect((await json(['tunnel', 'list'])).session_list).toMatchObject([{ session_id, tunnel_protocol: 'tcp' }])
    expect(await forward.stop('SIGINT')).toBe(0)
    expect((await json(['tunnel', 'list'])).session_list).toEqual([])
  })

  test('serves HTTP on the same local port as the service has, or on a free one when that is taken', async () => {
    await using forward = start(['forward', agentId, String(servicePort)], here)
    const [, port] = await forward.line(/^127\.0\.0\.1:(\d+) is port \d+ of .* until Ctrl-C/m)
    expect(Number(port)).not.toBe(servicePort)
    expect(await (await fetch(`http://127.0.0.1:${port}/index`)).text()).toBe('GET /index')
    const taken = await execute(['forward', agentId, String(servicePort), '--local', String(port)], here)
    expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining('is in use') })
    expect(await forward.stop('SIGTERM')).toBe(0)
  })

  test('opens its tunnel again when somebody closed it', async () => {
    await using forward = start(['forward', agentId, String(echoPort), '--local', '0', '--json'], here)
    const { local_port, session_id } = JSON.parse((await forward.line(/^\{.*\}$/m))[0])
    await json(['tunnel', 'close', agentId, session_id])
    expect(await exchange(local_port, 'again')).toBe('again')
    expect((await json(['tunnel', 'list'])).session_list).toHaveLength(1)
  })

  test('a connection that fails is one line; the next one works', async () => {
    const late = createServer((socket) => socket.on('error', () => {}).end('here'))
    const port = await listen(late)
    await using forward = start(['forward', agentId, String(port), '--local', '0'], here)
    const [, local] = await forward.line(/^127\.0\.0\.1:(\d+)/m)
    late.close()
    await once(late, 'close')
    await expect(exchange(Number(local), '')).rejects.toThrow('ECONNRESET')
    await expect.poll(forward.stderr).toMatch(/^a connection failed: nothing listens[^\n]*\n$/i)
    late.listen(port, '127.0.0.1')
    await once(late, 'listening')
    expect(await exchange(Number(local), '')).toBe('here')
    late.close()
  })

  test('--stdio carries one connection and ends with it', async () => {
    const sent = 'x'.repeat(3_000_000)
    const ended = await execute(['forward', '--stdio', agentId, String(echoPort)], here, sent)
    expect({ ...ended, stdout: ended.stdout === sent }).toEqual({ code: 0, stdout: true, stderr: '' })
    expect((await json(['tunnel', 'list'])).session_list).toEqual([])
  })
})

describe('signing in', () => {
  const config = folder()
  const elsewhere = { cwd: config }
  const signIn = () => {
    const { control_url, email_address, user_password } = quickstart()
    const args = ['login', '--url', control_url, '--email', email_address, '--password-stdin']
    return execute(args, elsewhere, user_password)
  }

  test('with the password that was printed; keys made then work until they are revoked', async () => {
    expect(await signIn()).toMatchObject({ code: 0, stdout: expect.stringContaining('Signed in to') })
    expect(await json(['whoami'], elsewhere)).toMatchObject({ user: 'admin@localhost', role: 'owner' })
    const { raw_key, id } = await json(['keys', 'create', '--name', 'script'], elsewhere)
    const asScript = { cwd: config, env: { CYBERUN_KEY: raw_key, CYBERUN_URL: quickstart().control_url } }
    expect((await json(['agents'], asScript)).agent_list).toHaveLength(1)
    expect((await execute(['keys', 'list'], elsewhere)).stdout).toContain(raw_key.slice(0, 12))
    expect(await json(['keys', 'revoke', raw_key.slice(0, 12)], elsewhere)).toMatchObject({ id, key_status: 'revoked' })
    expect(await execute(['agents'], asScript)).toMatchObject({ code: 3 })
  })

  test('a wrong password is exit 3', async () => {
    const args = ['login', '--url', quickstart().control_url, '--email', 'admin@localhost', '--password-stdin']
    expect(await execute(args, elsewhere, 'wrong')).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^error: /),
    })
  })

  test('by pairing: another machine shows a code, this one approves it', async () => {
    const other = { cwd: folder() }
    await using pairing = start(['login', '--pair', '--url', quickstart().control_url, '--json'], other)
    await expect.poll(pairing.stderr).toMatch(/user_code.*\n/)
    const { user_code } = JSON.parse(pairing.stderr())
    await json(['approve', user_code.toLowerCase().replace('-', ' '), '--name', 'laptop'], elsewhere)
    expect(await pairing.ended).toBe(0)
    expect(await json(['whoami'], other)).toMatchObject({ user: 'admin@localhost', signed_in_as: 'paired device' })
    expect((await json(['agents'], other)).agent_list).toHaveLength(1)

    await execute(['agent', 'init', '--gateway', quickstart().edge_url], other)
    await using agent = start(['agent'], { ...other, env: { CYBERUN_AGENT_AGENT_ID: 'second' } })
    await expect.poll(async () => (await json(['agents'], other)).agent_list.length).toBe(2)
    expect(await execute(['logout'], other)).toMatchObject({ code: 0 })
    // The pairing's agent key goes with it, and the agent says why it stops.
    expect(await agent.ended).toBe(3)
    expect(agent.stderr()).toMatch(/error: .+\n$/)
  })
})
