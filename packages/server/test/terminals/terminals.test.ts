import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import {
  decodeViewerFrame,
  encodeShellFrame,
  encodeViewerFrame,
  type LinkStream,
  type ShellFrame,
  type StreamEvents,
  StreamResetError,
  TerminalFrameReader,
  type ViewerFrame,
} from '@cyberun/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createLocalBus } from '../../src/bus.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import type { TerminalsLimits } from '../../src/terminals/limits.ts'
import { isOwnOrigin } from '../../src/terminals/own-origin.ts'
import { Terminals } from '../../src/terminals/terminals.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'
import { controlWith, identityDouble, TEAM_ID, type TestControl, USER_ID } from '../control/doubles.ts'
import { failStatement } from '../store/away.ts'

const TOKEN = 'the-admin-token-of-an-open-tunnel'
const TUNNEL = { sessionId: 'session', teamId: TEAM_ID, agentId: 'studio' }
const OPENING = { viewer: 'viewer-01', cols: 80, rows: 24 }

/** The agent's end of a viewer's stream. */
class AgentEnd {
  readonly frames: ViewerFrame[] = []
  isReset = false
  hasEnded = false
  readonly #accepted = Promise.withResolvers<void>()
  #events: StreamEvents | undefined
  readonly #reader = new TerminalFrameReader()
  readonly stream: LinkStream = {
    id: 1,
    init: { target: { kind: 'terminal' }, priority: 'terminal' },
    accepted: this.#accepted.promise,
    queuedBytes: 0,
    listen: (events) => {
      this.#events = events
    },
    accept: () => {},
    write: (bytes) => {
      if (this.hasEnded) throw new Error('write after end')
      for (const frame of this.#reader.push(bytes)) {
        const read = decodeViewerFrame(Uint8Array.from(frame))
        if (read) this.frames.push(read)
      }
      return true
    },
    pass: ({ bytes }) => this.stream.write(bytes),
    end: () => {
      this.hasEnded = true
    },
    reset: (code) => {
      this.isReset = true
      this.#accepted.reject(new StreamResetError(code))
    },
  }
  constructor(isMute: boolean) {
    if (!isMute) this.#accepted.resolve()
  }
  say(frame: ShellFrame): void {
    this.#events?.onData({ bytes: encodeShellFrame(frame), headroom: 0, hold: () => () => {} })
  }
  lose(): void {
    this.#events?.onReset('link_lost')
  }
}

let dataDir: string
let store: Store
let terminals: Terminals
let control: TestControl
let ends: AgentEnd[]
let closing: AbortController
let now: number
/** When somebody typed. */
const noted: number[] = []
let offers: boolean
let isMute: boolean
let role: 'viewer' | 'member'
const bus = createLocalBus()
const lines: string[] = []

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'cyberun-terminals-'))
  const log = createLog({ level: 'silent', format: 'json' })
  store = await openStore({ dataDir, databaseUrl: undefined, log })
})
afterAll(async () => {
  await store.close()
  rmSync(dataDir, { recursive: true, force: true })
})
beforeEach(async () => {
  ends = []
  closing = new AbortController()
  now = 1_000_000
  offers = true
  isMute = false
  role = 'member'
  lines.length = 0
  noted.length = 0
  await serve()
})
afterEach(stop)

async function serve(limits: Partial<TerminalsLimits> = {}): Promise<void> {
  const tokenHash = createHash('sha256').update(TOKEN).digest('hex')
  terminals = new Terminals({
    identity: identityDouble({ roleIn: async () => role }),
    tunnels: {
      findByAdminToken: (hash) =>
        hash === tokenHash
          ? {
              sessionId: 'session',
              teamId: TEAM_ID,
              agentId: 'studio',
              openedByUserId: USER_ID,
              closed: closing.signal,
              noteInput: (at) => void noted.push(at),
            }
          : undefined,
    },
    agents: {
      get: (_team, agentId) => (agentId === 'studio' ? { offers_terminal: offers } : undefined),
      withTerminals: () => [{ teamId: TEAM_ID, agentId: 'studio' }],
    },
    routing: {
      pathTo: () => ({
        open: async () => {
          const end = new AgentEnd(isMute)
          ends.push(end)
          return end.stream
        },
      }),
    },
    ...{ store, bus, visitorAddress: createVisitorAddress([]), publicUrl: undefined, now: () => now },
    log: createLog({ level: 'debug', format: 'json', write: (line) => void lines.push(line) }),
    limits,
  })
  control = await controlWith({ terminals })
}

async function stop(): Promise<void> {
  terminals.stop()
  await control[Symbol.asyncDispose]()
}

interface Answer {
  code: number
  text: string
}

function dial(agentId = 'studio', headers: Record<string, string> = {}): WebSocket {
  return new WebSocket(`${control.url.replace('http', 'ws')}/api/v1/agents/${agentId}/terminal`, { headers })
}

/** Says `opening` and waits for the close. */
function ask(opening: unknown, agentId?: string, headers?: Record<string, string>): Promise<Answer> {
  const socket = dial(agentId, headers)
  let text = ''
  return new Promise((resolve, reject) => {
    socket.on(
      'open',
      () => opening !== undefined && socket.send(typeof opening === 'string' ? opening : JSON.stringify(opening)),
    )
    socket.on('message', (data) => {
      text = data.toString()
    })
    socket.on('close', (code) => resolve({ code, text }))
    socket.on('error', reject)
  })
}

/** Opens a terminal and waits until the agent was asked for it. */
async function look(
  opening: object = { admin_token: TOKEN },
  headers?: Record<string, string>,
): Promise<{ socket: WebSocket; end: AgentEnd }> {
  const socket = dial('studio', headers)
  const before = ends.length
  socket.on('open', () => socket.send(JSON.stringify({ ...OPENING, ...opening })))
  await expect.poll(() => ends[before]?.frames.length).toBe(1)
  const end = ends[before]
  if (!end) throw new Error('the agent was not asked')
  return { socket, end }
}

const closeOf = (socket: WebSocket) => new Promise<number>((resolve) => socket.on('close', resolve))

describe('who may look at a shell', () => {
  test('the admin token of an open tunnel to the agent opens one, and its bytes pass both ways', async () => {
    const { socket, end } = await look()
    expect(end.frames[0]).toEqual({
      type: 'attach',
      attach: { scope: 'tunnel:session', viewer: 'viewer-01', cols: 80, rows: 24 },
    })
    const got: Buffer[] = []
    socket.on('message', (data) => got.push(data as Buffer))
    const output: ShellFrame = { type: 'output', position: 0, bytes: new Uint8Array(Buffer.from('$ ')) }
    end.say(output)
    await expect.poll(() => got.length).toBe(1)
    expect(got[0]?.toString('hex')).toBe(Buffer.from(encodeShellFrame(output)).toString('hex'))
    const input: ViewerFrame = { type: 'input', position: 0, bytes: new Uint8Array(Buffer.from('ls\r')) }
    socket.send(encodeViewerFrame(input))
    await expect.poll(() => end.frames[1]).toEqual(input)
    expect(noted, 'the tunnel is in use').toEqual([now])
    expect(terminals.viewerCount).toBe(1)
    socket.close()
    await expect.poll(() => end.isReset).toBe(true)
    expect(terminals.viewerCount).toBe(0)
  })

  test.each([
    ['in the first message', { bearer: 'good', team_id: TEAM_ID }, {}],
    ['in a header', { team_id: TEAM_ID }, { authorization: 'Bearer good' }],
  ])('an access token of a member, %s', async (_where, opening, headers) => {
    const { end } = await look(opening, headers)
    expect(end.frames[0]).toMatchObject({ attach: { scope: `user:${USER_ID}`, right: 'sign-in:family' } })
  })

  test('nobody while that cannot be recorded, and the agent keeps no stream of it', async () => {
    failStatement(store, 'terminal.opened')
    expect((await ask({ ...OPENING, admin_token: TOKEN })).code).toBe(4503)
    expect(ends.map(({ isReset }) => isReset)).toEqual([true])
  })

  test.each<[string, object, number, string?]>([
    ['nothing', {}, 401],
    ['a wrong admin token', { admin_token: 'wrong' }, 401],
    ['the admin token of a tunnel to another agent', { admin_token: TOKEN }, 401, 'other'],
    ['a wrong bearer', { bearer: 'bad', team_id: TEAM_ID }, 401],
    ['an access token without a team', { bearer: 'good' }, 400],
    ['an unknown member', { admin_token: TOKEN, admin: true }, 400],
    ['no size', { admin_token: TOKEN, cols: undefined }, 400],
    ['a viewer without a name', { admin_token: TOKEN, viewer: '' }, 400],
    ['a size beyond the bound', { admin_token: TOKEN, rows: 501 }, 400],
    ['an agent that is not there', { bearer: 'good', team_id: TEAM_ID }, 409, 'other'],
  ])('with %s: refused', async (_what, opening, status, agentId) => {
    const answer = await ask({ ...OPENING, ...opening }, agentId)
    expect(answer.code).toBe(4000 + status)
    expect(JSON.parse(answer.text)).toMatchObject({ status, error_message: expect.any(String) })
    expect(answer.text).not.toContain(TOKEN)
    expect(ends).toEqual([])
  })

  test('a role below member, and an agent whose owner allows none: 403', async () => {
    role = 'viewer'
    expect((await ask({ ...OPENING, bearer: 'good', team_id: TEAM_ID })).code).toBe(4403)
    offers = false
    expect((await ask({ ...OPENING, admin_token: TOKEN })).code).toBe(4403)
    expect(ends).toEqual([])
  })

  test('wrong admin tokens are counted by address; the right one is let in all the same, and time forgives', async () => {
    const wrong = () => ask({ ...OPENING, admin_token: 'wrong' })
    for (let guess = 0; guess < 10; guess++) expect((await wrong()).code).toBe(4401)
    const limited = await wrong()
    expect(limited.code).toBe(4429)
    expect(JSON.parse(limited.text)).toMatchObject({ status: 429, retry_after_seconds: 6 })
    await look()
    now += 6_000
    expect((await wrong()).code).toBe(4401)
    expect((await wrong()).code).toBe(4429)
  })

  test('nothing secret is in the log or the audit', async () => {
    await ask({ ...OPENING, admin_token: 'wrong-secret' })
    const { socket } = await look()
    socket.close()
    await expect.poll(() => lines.join()).toContain('terminal.closed')
    expect(lines.join()).not.toMatch(/wrong-secret|the-admin-token/)
  })
})

describe('the first message', () => {
  test.each([
    ['no JSON', '{', 4400],
    ['a list', '[]', 4400],
    ['too long', JSON.stringify({ ...OPENING, admin_token: 'x'.repeat(5_000) }), 4400],
  ])('%s is refused', async (_what, text, code) => {
    expect((await ask(text)).code).toBe(code)
  })

  test('a binary one is refused', async () => {
    const socket = dial()
    socket.on('open', () => socket.send(encodeViewerFrame({ type: 'ping', token: 1 })))
    expect(await closeOf(socket)).toBe(4400)
  })

  test('one that does not come in time ends the socket', async () => {
    await stop()
    await serve({ openingMs: 1 })
    expect((await ask(undefined)).code).toBe(4408)
  })
})

describe('a viewer that breaks the rules', () => {
  test.each([
    ['a second attach', Buffer.from(encodeViewerFrame({ type: 'attach', attach: { scope: 's', ...OPENING } }))],
    ['the end of a scope', Buffer.from(encodeViewerFrame({ type: 'end_scope', scope: 'tunnel:other' }))],
    ['text', 'hello'],
    ['half a frame', Buffer.from([2, 0, 0])],
  ])('%s ends the socket, and the agent sees none of it', async (_what, message) => {
    const { socket, end } = await look()
    socket.send(message)
    expect(await closeOf(socket)).toBe(4400)
    expect(end.frames).toHaveLength(1)
  })

  test('a message larger than any frame ends the socket', async () => {
    const { socket } = await look()
    socket.send(Buffer.alloc(70_000))
    expect(await closeOf(socket)).toBe(1009)
  })
})

describe('when it ends', () => {
  const events: [string, () => void, object][] = [
    ['its tunnel', () => closing.abort(), { admin_token: TOKEN }],
    ['the sign-in', () => bus.publish('session.revoked', { familyId: 'family' }), { bearer: 'good', team_id: TEAM_ID }],
    [
      'the role',
      () => bus.publish('member.removed', { teamId: TEAM_ID, userId: USER_ID }),
      { bearer: 'good', team_id: TEAM_ID },
    ],
    ['the team', () => bus.publish('team.deleted', { teamId: TEAM_ID }), { bearer: 'good', team_id: TEAM_ID }],
  ]
  test.each(events)('%s ends, and so does the socket, at once', async (_what, end, opening) => {
    const { socket, end: agent } = await look(opening)
    const closed = closeOf(socket)
    end()
    // Typed before its viewer hears of the end.
    socket.send(Buffer.from(encodeViewerFrame({ type: 'input', position: 0, bytes: Buffer.from('ls') })))
    expect(await closed).toBe(4401)
    expect(agent.hasEnded || agent.isReset).toBe(true)
    expect(agent.frames.at(-1)).toEqual({ type: 'hang_up' })
  })

  test('an agent that does not hang up is not waited for', async () => {
    const { socket, end: agent } = await look({ admin_token: TOKEN })
    const closed = closeOf(socket)
    closing.abort()
    await closed
    await expect.poll(() => agent.isReset).toBe(true)
  })

  test('an agent without terminals is told of none', async () => {
    offers = false
    bus.publish('tunnel.closed', TUNNEL)
    expect(ends).toEqual([])
  })

  test('the token of a tunnel that has ended is worth nothing more', async () => {
    closing.abort()
    expect((await ask({ ...OPENING, admin_token: TOKEN })).code).toBe(4401)
  })

  test.each([
    ['the sign-in', () => bus.publish('session.revoked', { familyId: 'family' }), 'sign-in:family'],
    ['the key', () => bus.publish('credential.revoked', { credentialId: 'key' }), 'credential:key'],
    ['the role', () => bus.publish('member.removed', { teamId: TEAM_ID, userId: USER_ID }), `user:${USER_ID}`],
    ['the tunnel', () => bus.publish('tunnel.closed', TUNNEL), 'tunnel:session'],
    ['the admin token', () => bus.publish('tunnel.revoked', TUNNEL), 'tunnel:session'],
  ])('with %s its shells end, also those that nobody looks at', async (_what, end, scope) => {
    end()
    await expect.poll(() => ends.at(-1)?.frames).toEqual([{ type: 'end_scope', scope }])
  })

  test('an agent that does not take the stream in time: 503', async () => {
    await stop()
    await serve({ openMs: 50 })
    isMute = true
    const { code, text } = await ask({ ...OPENING, admin_token: TOKEN })
    expect({ code, ...JSON.parse(text) }).toMatchObject({ code: 4503, status: 503, error_code: 'unavailable' })
    expect(ends.at(-1)?.isReset).toBe(true)
  })

  test('an agent that has lost its link closes the socket so that its viewer comes back', async () => {
    const { socket, end } = await look()
    end.lose()
    expect(await closeOf(socket)).toBe(4503)
  })

  test('a server that stops closes sockets and leaves the shells', async () => {
    const { socket, end } = await look()
    const closed = closeOf(socket)
    terminals.stop()
    expect(await closed).toBe(1012)
    expect(end.frames.map(({ type }) => type)).toEqual(['attach'])
  })
})

/** What a browser or an attacker may say that it is. The page is at http://127.0.0.1:<port>. */
const ORIGINS: [string | undefined, boolean][] = [
  [undefined, true],
  ['http://HERE', true],
  ['https://HERE', false],
  ['http://127.0.0.1', false],
  ['http://127.0.0.1:1', false],
  ['http://localhost', false],
  ['http://HERE/', false],
  ['http://HERE.evil.example', false],
  ['http://evil.example', false],
  ['https://evil.example', false],
  ['http://evil.example:8787', false],
  ['http://user@HERE', false],
  ['http://HERE@evil.example', false],
  ['null', false],
  ['', false],
  ['*', false],
  ['file://', false],
  ['HERE', false],
  ['//HERE', false],
  ['ws://HERE', false],
  ['wss://HERE', false],
  ['chrome-extension://abcdefghijklmnop', false],
  ['http://abc.localhost:8788', false],
  ['http://0123456789abcdef.localhost:8788', false],
  ['http://[::1]:8787', false],
  ['http://127.0.0.1:8788', false],
  ['http://2130706433', false],
  ['HTTP://HERE', false],
  ['http://HERE http://HERE', false],
  ['http://HERE, http://evil.example', false],
  ['data:text/html,x', false],
]

test.each(ORIGINS)('an upgrade with Origin %j: let in is %s', async (origin, isOurs) => {
  const here = new URL(control.url).host
  const headers = origin === undefined ? {} : { origin: origin.replaceAll('HERE', here) }
  const answer = await ask({ ...OPENING, admin_token: 'wrong' }, 'studio', headers).catch(
    (error: Error) => error.message,
  )
  expect(answer).toEqual(isOurs ? { code: 4401, text: expect.any(String) } : 'Unexpected server response: 403')
})

test.each([
  ['https://cyberun.example', 'cyberun.example', 'https://cyberun.example', true],
  ['http://cyberun.example', 'cyberun.example', 'https://cyberun.example', false],
  ['https://cyberun.example:444', 'cyberun.example', 'https://cyberun.example', false],
  ['https://abc.tunnels.example', 'cyberun.example', 'https://cyberun.example', false],
  ['http://localhost:8787', 'localhost:8787', 'https://cyberun.example', true],
  ['https://cyberun.example', 'localhost:8787', 'https://cyberun.example', false],
])('%s at Host %s of a server at %s: %s', (origin, host, publicUrl, isOurs) => {
  expect(isOwnOrigin(origin, host, publicUrl)).toBe(isOurs)
})

describe('upgrades', () => {
  const raw = (head: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(control.url)
      const socket = connect(Number(port), hostname, () => socket.write(head))
      let text = ''
      socket.on('data', (bytes) => {
        text += bytes
        if (text.includes('\r\n\r\n')) socket.end()
      })
      socket.on('error', reject).on('close', () => resolve(text.split('\r\n')[0] ?? ''))
    })
  const UPGRADE =
    'Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  const PATH = '/api/v1/agents/studio/terminal'

  test.each([
    ['as it should be', `GET ${PATH} HTTP/1.1\r\n${UPGRADE}\r\n`, '101'],
    ['with another Host', `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('localhost', 'evil.example')}\r\n`, '421'],
    ['with two Hosts', `GET ${PATH} HTTP/1.1\r\nHost: localhost\r\n${UPGRADE}\r\n`, '400'],
    ['with a body', `GET ${PATH} HTTP/1.1\r\n${UPGRADE}Content-Length: 4\r\n\r\nabcd`, '400'],
    ['with a chunked body', `GET ${PATH} HTTP/1.1\r\n${UPGRADE}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, '400'],
    ['by POST', `POST ${PATH} HTTP/1.1\r\n${UPGRADE}\r\n`, '400'],
    ['without a key', `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace(/Sec-WebSocket-Key.*\r\n/, '')}\r\n`, '400'],
    ['of an old version', `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('13', '7')}\r\n`, '400'],
    ['of another kind', `GET ${PATH} HTTP/1.1\r\n${UPGRADE.replace('websocket', 'h2c')}\r\n`, '404'],
    ['of another address', `GET /api/v1/agents HTTP/1.1\r\n${UPGRADE}\r\n`, '401'],
    ['of a path with dots', `GET /api/v1/agents/a/../b/terminal HTTP/1.1\r\n${UPGRADE}\r\n`, '404'],
  ])('%s', async (_what, head, status) => {
    expect(await raw(head)).toContain(` ${status} `)
  })

  test('a token in the query is not looked at', async () => {
    const socket = new WebSocket(`${control.url.replace('http', 'ws')}${PATH}?admin_token=${TOKEN}`)
    socket.on('open', () => socket.send(JSON.stringify(OPENING)))
    expect(await closeOf(socket)).toBe(4401)
  })

  test('strangers are few: more of one address wait', async () => {
    const sockets = Array.from({ length: 16 }, () => dial())
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.on('open', resolve))))
    await expect(ask(OPENING)).rejects.toThrow('503')
    for (const socket of sockets) socket.terminate()
  })
})

const PAGE = [
  '',
  'terminal.css',
  'terminal.js',
  'shell-view.js',
  'shell-connection.js',
  'hostile-output.js',
  'frames.js',
  'xterm.js',
  'xterm.css',
  'addon-fit.js',
]

test.each(PAGE)('the page’s file %j comes with the policy of the page, and from here', async (name) => {
  const answer = await fetch(`${control.url}/terminal${name && `/${name}`}`)
  expect(answer.status).toBe(200)
  const policy = answer.headers.get('content-security-policy') ?? ''
  for (const part of [
    "default-src 'none'",
    "script-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ]) {
    expect(policy.split('; ')).toContain(part)
  }
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cache-control': 'no-store',
  })
  expect((await answer.text()).length).toBeGreaterThan(100)
})

test.each(['..%2fterminals.ts', 'terminals.ts', '__proto__', 'constructor', 'xterm.mjs'])(
  '%s is no file of the page',
  async (name) => {
    expect((await fetch(`${control.url}/terminal/${name}`)).status).toBe(404)
  },
)

test('the page holds no script of its own text, and loads nothing from elsewhere', () => {
  const html = readFileSync(new URL('../../src/terminals/page/terminal.html', import.meta.url), 'utf8')
  expect(html.match(/<script[^>]*>/g)).toEqual(['<script type="module" src="/terminal/terminal.js">'])
  expect(html).not.toMatch(/ on\w+=|https?:|style=/)
})
