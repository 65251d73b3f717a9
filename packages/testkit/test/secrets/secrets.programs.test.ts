import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../src/free-port.ts'
import { Connection, commandLines, lacksPrograms, type Product, startProduct } from '../../src/index.ts'
import { type BrowserFindings, browserRun } from './browser-run.ts'

/**
 * One run of everything that makes, takes or could leak a secret; then every secret is searched for in each place
 * where none may be. The places are read as bytes, and tokens are looked for as text and as the bytes they encode.
 */

const CYBERUN = fileURLToPath(new URL('../../../cli/bin/cyberun.mjs', import.meta.url))

const WITHOUT_BROWSER = lacksPrograms('chromium')

let directory: string
let product: Product
/** Every secret that was issued in the run, by what it is. */
const secrets = new Map<string, string>()
/** Bodies of every answer that was an error. */
const errorBodies: string[] = []
/** Everything the tunnelled service was sent. */
const serviceReceived: Buffer[] = []
let argumentLists: string[] = []
let inBrowser: BrowserFindings | undefined
/** What the command line printed. */
let printed = ''

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-secrets-'))
  product = await startProduct(directory, { logLevel: 'debug', terminal: true })
  keep('user_password', product.control.userPassword)
  keep('agent key of the product', product.agentKey)
  await fullRun()
  await product[Symbol.asyncDispose]()
}, 120_000)

afterAll(async () => {
  await product[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

function keep(name: string, secret: unknown): string {
  if (typeof secret !== 'string' || secret.length < 8) throw new Error(`${name} was not issued`)
  secrets.set(name, secret)
  return secret
}

interface Call {
  token?: string
  body?: unknown
  headers?: Record<string, string>
}

type Json = Record<string, unknown>

/** One call of the API; the body of an error is kept to be searched. */
async function api(method: string, path: string, call: Call = {}): Promise<Json> {
  const headers: Record<string, string> = { 'x-team-id': product.control.teamId, ...call.headers }
  if (call.token !== undefined) headers['authorization'] = `Bearer ${call.token}`
  if (call.body !== undefined) headers['content-type'] = 'application/json'
  const init: RequestInit = { method, headers }
  if (call.body !== undefined) init.body = typeof call.body === 'string' ? call.body : JSON.stringify(call.body)
  return await answer(await fetch(`${product.control.controlUrl}/api/v1${path}`, init))
}

async function answer(response: Response): Promise<Json> {
  const text = await response.text()
  if (response.status >= 400) errorBodies.push(`${response.status} ${response.url.slice(-12)} ${text}`)
  return response.headers.get('content-type')?.includes('json') ? (JSON.parse(text) as Json) : { text }
}

async function fullRun(): Promise<void> {
  const access = await signIns()
  const integration = await keysAndInvitations(access)
  await pairing(access)
  await tunnelsInUse(integration)
  await errors(access, integration)
  await commandLine(integration)
  if (!WITHOUT_BROWSER) await browser(integration)
}

/** Login, refresh, reuse of a refresh token, change of password; returns a good access token. */
async function signIns(): Promise<string> {
  const { emailAddress, userPassword } = product.control
  const login = (user_password: string) =>
    api('POST', '/auth/login', { body: { email_address: emailAddress, user_password } })
  const first = await login(userPassword)
  keep('access token', first['access_token'])
  const spent = keep('refresh token', first['refresh_token'])
  const second = await api('POST', '/auth/refresh', { body: { refresh_token: spent } })
  keep('second access token', second['access_token'])
  keep('second refresh token', second['refresh_token'])
  await api('POST', '/auth/refresh', { body: { refresh_token: spent } })

  const token = String((await login(userPassword))['access_token'])
  const newPassword = keep('new password', 'correct horse 7 battery staple')
  await api('PUT', '/users/me/password', {
    token,
    body: { current_password: userPassword, new_password: newPassword },
  })
  const third = await login(newPassword)
  keep('third refresh token', third['refresh_token'])
  return keep('third access token', third['access_token'])
}

/** Returns an integration key. */
async function keysAndInvitations(token: string): Promise<string> {
  const create = async (kind: string) =>
    keep(`${kind} key`, (await api('POST', '/credentials', { token, body: { kind, display_name: kind } }))['raw_key'])
  await create('agent')
  await api('GET', '/credentials', { token })
  const invitation = await api('POST', '/invitations', {
    token,
    body: { email_address: 'guest@example.org', invitation_role: 'member' },
  })
  const invitationToken = keep('invitation token', invitation['invitation_token'])
  const guestPassword = keep('password of the guest', 'a guest keeps this to themself')
  await api('POST', '/invitations/register', {
    body: { invitation_token: invitationToken, display_name: 'Guest', user_password: guestPassword },
  })
  await api('POST', '/invitations/accept', { token, body: { invitation_token: invitationToken } })
  return await create('integration')
}

async function pairing(token: string): Promise<void> {
  const started = await api('POST', '/desktop/pair/start')
  const deviceCode = keep('device code', started['device_code'])
  const userCode = keep('user code', started['user_code'])
  await api('POST', '/desktop/pair/poll', { body: { device_code: deviceCode } })
  await api('POST', '/desktop/pair/confirm', { token, body: { user_code: userCode, device_name: 'tablet' } })
  const approved = await api('POST', '/desktop/pair/poll', { body: { device_code: deviceCode } })
  const deviceKey = keep('device key', approved['raw_key'])
  keep('companion agent key', approved['agent_key'])
  await api('POST', '/desktop/pair/poll', { body: { device_code: deviceCode } })
  await api('POST', '/auth/device/revoke', { token: deviceKey })
  await api('GET', '/agents', { token: deviceKey })
}

/** Opens sessions, visits each door, and leaves one session pointing at a port where nothing listens any more. */
async function tunnelsInUse(integration: string): Promise<void> {
  const sockets = new Set<Socket>()
  const service = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('data', (bytes) => {
      serviceReceived.push(bytes)
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
  }).listen(await freePort(), '127.0.0.1')
  await once(service, 'listening')
  const { port } = service.address() as AddressInfo
  const open = async (tunnel_protocol: string) => {
    const body = { target_port: port, tunnel_protocol }
    const opened = await api('POST', `/agents/${product.agentId}/tunnel`, { token: integration, body })
    keep(`${tunnel_protocol} admin token`, opened['admin_token'])
    const url = new URL(String(opened['tunnel_url']))
    keep(`${tunnel_protocol} tunnel token`, url.pathname.split('/')[2])
    return { url, sessionId: String(opened['session_id']) }
  }

  const http = await open('http')
  await visitHttp(http.url, integration)
  const tcp = await open('tcp')
  await visitTcp(tcp.url.pathname)
  await api('GET', `/agents/${product.agentId}/tunnel`, { token: integration })

  service.close()
  for (const socket of sockets) socket.destroy()
  await visitHttp(http.url, integration)
  await Connection.open(
    { kind: 'relay', port: product.edgePort, path: tcp.url.pathname },
    { errand: 'echo', bufferBytes: 1024, onBytes: () => true },
  ).catch((error: Error) => errorBodies.push(error.message.replaceAll(tcp.url.pathname, '(the path)')))
  await api('DELETE', `/agents/${product.agentId}/tunnel?session_id=${http.sessionId}`, { token: integration })
  await visitHttp(http.url, integration)
}

/** The path door as curl, a key sent to the edge, and the way of a browser to the host door. */
async function visitHttp(url: URL, integration: string): Promise<void> {
  await answer(await fetch(url))
  await answer(await fetch(`${url.origin}/agent`, { headers: { authorization: `Bearer ${integration}` } }))
  const navigation = { host: url.host, accept: 'text/html', 'sec-fetch-mode': 'navigate', referer: url.href }
  const page = await rawRequest(url.pathname, navigation)
  const location = /\r\nlocation: ([^\r]+)/i.exec(page)?.[1]
  if (location === undefined) errorBodies.push(page)
  else await enterHostDoor(new URL(location))
}

/** What a browser does at the host door: the token becomes a cookie, and the cookie opens the door. */
async function enterHostDoor({ host, pathname }: URL): Promise<void> {
  const swap = await rawRequest(pathname, { host, 'sec-fetch-mode': 'navigate' })
  const cookie = /\r\nset-cookie: ([^;]+)/i.exec(swap)?.[1]
  if (cookie === undefined) throw new Error(`no cookie at the host door: ${swap}`)
  keep('visit cookie', cookie.slice(cookie.indexOf('=') + 1))
  await rawRequest('/with-cookie', { host, cookie })
  await rawRequest('/with-token', { host, 'cyberun-tunnel-token': pathname.split('/')[2] ?? '' })
  errorBodies.push(await rawRequest('/with-nothing', { host }))
}

/** One request to the edge with fields that fetch does not let us choose; the whole answer as text. */
async function rawRequest(path: string, headers: Record<string, string>): Promise<string> {
  const socket = connect(product.edgePort, '127.0.0.1')
  const fields = Object.entries({ ...headers, connection: 'close' }).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET ${path} HTTP/1.1\r\n${fields.join('')}\r\n`)
  const parts: Buffer[] = []
  for await (const bytes of socket) parts.push(bytes)
  return Buffer.concat(parts).toString('latin1')
}

async function visitTcp(path: string): Promise<void> {
  const answered = Promise.withResolvers<void>()
  const connection = await Connection.open(
    { kind: 'relay', port: product.edgePort, path },
    {
      errand: 'echo',
      bufferBytes: 1024,
      onBytes() {
        answered.resolve()
        return true
      },
    },
  )
  await answered.promise
  connection.socket.destroy()
}

/** Good secrets at the wrong place, and nearly good ones at the right place. */
async function errors(access: string, integration: string): Promise<void> {
  const { emailAddress } = product.control
  const password = secrets.get('new password') ?? ''
  await api('POST', '/auth/login', { body: { email_address: `x${emailAddress}`, user_password: password } })
  await api('POST', '/auth/login', { body: { email_address: password, user_password: emailAddress } })
  await api('POST', '/auth/login', { body: `{"user_password": "${password}", ` })
  await api('POST', '/auth/login', { body: { email_address: emailAddress, user_password: [password] } })
  await api('POST', '/auth/refresh', { body: { refresh_token: { token: secrets.get('third refresh token') } } })
  for (const [name, secret] of secrets) {
    await api('GET', '/agents', { token: secret })
    if (name.endsWith('key')) await api('GET', '/agents', { token: `${secret.slice(0, -1)}~` })
  }
  await api('GET', `/agents/${integration}`, { token: access })
  await api('GET', `/agents?token=${integration}&current_page=x`, { token: access })
  await api('DELETE', `/credentials/${secrets.get('agent key')}`, { token: access })
  await api('POST', '/credentials', { token: access, body: { kind: integration, display_name: password } })
  await api('POST', '/desktop/pair/confirm', { token: access, body: { user_code: integration } })
  const token = secrets.get('tcp tunnel token') ?? ''
  const edge = `http://127.0.0.1:${product.edgePort}`
  for (const path of [`/tunnel/${token.slice(0, -1)}/`, `/${token}`, `/tunnel/${token}%00/`, `/agent?key=${token}`]) {
    await answer(await fetch(edge + path, { redirect: 'manual' }))
  }
}

/** `cyberun forward` with its key in the environment; every argument list of the machine is read while it runs. */
async function commandLine(integration: string): Promise<void> {
  const { port } = new URL(product.control.controlUrl)
  const args = [CYBERUN, 'forward', product.agentId, port, '--local', '0', '--json']
  const env = { ...process.env, CYBERUN_URL: product.control.controlUrl, CYBERUN_KEY: integration }
  const forward = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  forward.stderr.on('data', (bytes: Buffer) => {
    printed += bytes
  })
  for await (const bytes of forward.stdout) {
    printed += bytes
    const localPort = /"local_port": ?(\d+)/.exec(printed)?.[1]
    if (localPort === undefined) continue
    await answer(await fetch(`http://127.0.0.1:${localPort}/api/v1/agents`))
    break
  }
  argumentLists = commandLines()
  forward.kill('SIGINT')
  await once(forward, 'exit')
}

/** A tunnel's pages and the terminal in a browser; every argument list of the machine is read while a shell is open. */
async function browser(integration: string): Promise<void> {
  inBrowser = await browserRun({
    async openTunnel(target_port) {
      const body = { target_port, tunnel_protocol: 'http' }
      const opened = await api('POST', `/agents/${product.agentId}/tunnel`, { token: integration, body })
      const url = String(opened['tunnel_url'])
      keep('tunnel token of the browser', new URL(url).pathname.split('/')[2])
      return { url, adminToken: keep('admin token of the browser', opened['admin_token']) }
    },
    terminalUrl: `${product.control.controlUrl}/terminal#agent=${product.agentId}&token=`,
    environmentFile: join(directory, 'environment-of-a-shell'),
    whileOpen() {
      argumentLists.push(...commandLines())
    },
  })
}

/** Each secret found in `bytes`, also as the bytes that it encodes. */
function found(bytes: Buffer): string[] {
  return [...secrets].flatMap(([name, secret]) => {
    const decoded = /^[\w-]{43}$/.test(secret) ? [Buffer.from(secret, 'base64url')] : []
    const forms = [Buffer.from(secret), Buffer.from(encodeURIComponent(secret)), ...decoded]
    return forms.some((form) => bytes.includes(form)) ? [name] : []
  })
}

function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path).flatMap((name) => filesBelow(join(path, name)))
}

test('the run issued every kind of secret and reached the service', () => {
  expect(secrets.size).toBeGreaterThanOrEqual(18)
  expect(errorBodies.length).toBeGreaterThanOrEqual(30)
  const received = Buffer.concat(serviceReceived).toString('latin1')
  for (const path of ['/', '/with-cookie', '/with-token']) expect(received).toContain(`GET ${path} HTTP/1.1`)
})

test('the search finds a secret that is there, as text and as bytes', () => {
  const token = secrets.get('tcp tunnel token') ?? ''
  expect(found(Buffer.from(`GET /tunnel/${token}/`))).toEqual(['tcp tunnel token'])
  expect(found(Buffer.from(token, 'base64url'))).toEqual(['tcp tunnel token'])
})

test.each(['server', 'agent'] as const)('no secret is in the debug log of the %s', (end) => {
  const log = readFileSync(product.logs[end])
  expect(log.length).toBeGreaterThan(0)
  expect(found(log)).toEqual([])
})

test('no secret is in the database or any other file of the server', () => {
  const files = filesBelow(product.dataDir)
  expect(files.length).toBeGreaterThan(1)
  expect(files.flatMap((file) => found(readFileSync(file)).map((name) => `${name} in ${file}`))).toEqual([])
})

test('no secret is in an argument list, nor printed by cyberun forward', () => {
  expect(argumentLists.some((line) => line.includes('forward'))).toBe(true)
  expect(found(Buffer.from(argumentLists.join('\n')))).toEqual([])
  expect(printed).toContain('local_port')
  expect(found(Buffer.from(printed))).toEqual([])
})

test('no secret is in the body of an error', () => {
  expect(errorBodies.flatMap((body) => found(Buffer.from(body)).map((name) => `${name} in ${body}`))).toEqual([])
})

test('no secret reached the tunnelled service', () => {
  expect(found(Buffer.concat(serviceReceived))).toEqual([])
})

describe.skipIf(WITHOUT_BROWSER)('after a browser has opened a tunnel and a shell, no secret', () => {
  test('reached the tunnelled service', () => {
    expect(inBrowser?.service.length).toBeGreaterThan(0)
    expect(found(Buffer.from(inBrowser?.service.join('\n') ?? ''))).toEqual([])
  })

  test('reached another site, though the page wanted it to', () => {
    const paths = ['/image', '/script', '/style', '/frame', '/link']
    expect(inBrowser?.otherSite.map((head) => /^GET (\S+)/.exec(head)?.[1])).toEqual(expect.arrayContaining(paths))
    expect(inBrowser?.otherSite.join()).toContain('Referer')
    expect(found(Buffer.from(inBrowser?.otherSite.join('\n') ?? ''))).toEqual([])
  })

  test('is in an address, the history or anything else that a page can read', () => {
    expect(found(Buffer.from(inBrowser?.browser.join('\n') ?? ''))).toEqual([])
  })

  test('is in the environment of the shell or of what started it', () => {
    const environment = readFileSync(join(directory, 'environment-of-a-shell'))
    expect(environment.includes('TERM=xterm-256color')).toBe(true)
    expect(found(environment)).toEqual([])
  })
})
