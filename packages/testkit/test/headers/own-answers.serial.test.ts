import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../src/free-port.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'

/** Every kind of answer that we give in our own name, and the fields that keep other sites' pages from using it. */

let directory: string
let installation: Installation
let service: Server
/** `/tunnel/<token>` of an open tunnel, the host door's name for it, and the same of one whose service is gone. */
let tunnel: { path: string; host: string }
let deserted: { path: string; host: string }
/** Of a tunnel that takes no HTTP. */
let relayPath: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-own-answers-'))
  installation = await startInstallation(directory, { CYBERUN_EDGE_VISITOR_NOTICE: 'true' })
  service = createServer((_, response) => response.end('service')).listen(0, '127.0.0.1')
  await once(service, 'listening')
  const leaving = createServer().listen(await freePort(), '127.0.0.1')
  await once(leaving, 'listening')
  tunnel = await openTunnel(service)
  deserted = await openTunnel(leaving)
  const { tunnelUrl } = await installation.openTunnel((service.address() as AddressInfo).port, 'tcp')
  relayPath = new URL(tunnelUrl).pathname
  leaving.close()
  leaving.closeAllConnections()
})

afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  service.close()
  service.closeAllConnections()
  rmSync(directory, { recursive: true, force: true })
})

async function openTunnel(server: Server): Promise<{ path: string; host: string }> {
  const { tunnelUrl } = await installation.openTunnel((server.address() as AddressInfo).port, 'http')
  const { pathname, host } = new URL(tunnelUrl)
  const sent = await ask(installation.edgePort, { path: pathname, host, headers: NAVIGATION })
  return { path: pathname.slice(0, -1), host: new URL(sent.headers.location ?? '').host }
}

interface Asked {
  path: string
  method?: string
  host?: string
  headers?: Record<string, string>
  body?: string
}

function ask(port: number, { path, method = 'GET', host = `localhost:${port}`, headers = {}, body = '' }: Asked) {
  return new Promise<{ status: number; headers: IncomingHttpHeaders }>((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path, method, headers: { host, ...headers } }, (answer) => {
      answer.resume()
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers }))
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

const NAVIGATION = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'user-agent': 'Mozilla/5.0' }
const PERSON = { accept: 'text/html' }

/** On everything of ours. */
function expectClosed(headers: IncomingHttpHeaders): void {
  expect(headers['x-content-type-options']).toBe('nosniff')
  expect(headers['cache-control']).toContain('no-store')
  expect(headers['referrer-policy']).toBe('no-referrer')
  const policy = headers['content-security-policy'] ?? ''
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy).not.toMatch(/script-src[^;]*unsafe/)
  expect(headers['set-cookie'] ?? []).toEqual([])
}

/** On everything of ours that can become a page. */
function expectIsolated(headers: IncomingHttpHeaders): void {
  expectClosed(headers)
  expect(headers['cross-origin-opener-policy']).toBe('same-origin')
  expect(headers['cross-origin-resource-policy']).toBe('same-origin')
}

describe('the control listener', () => {
  const JSON_BODY = { 'content-type': 'application/json' }
  const cases: [name: string, status: number, asked: Asked][] = [
    ['its front page', 200, { path: '/', headers: PERSON }],
    ['the page for pairing', 200, { path: '/pair', headers: PERSON }],
    ['the terminal', 200, { path: '/terminal', headers: PERSON }],
    ['a script of the terminal', 200, { path: '/terminal/terminal.js' }],
    ['the socket of a shell, asked without an upgrade', 404, { path: '/api/v1/agents/vm/terminal' }],
    ['the documentation', 200, { path: '/api/v1/docs', headers: PERSON }],
    ['the OpenAPI document', 200, { path: '/api/v1/openapi.json' }],
    ['its health', 200, { path: '/healthz' }],
    ['a call without credentials', 401, { path: '/api/v1/agents' }],
    ['a call with false credentials', 401, { path: '/api/v1/agents', headers: { authorization: 'Bearer x' } }],
    ['a call that is no JSON', 400, { path: '/api/v1/auth/login', method: 'POST', headers: JSON_BODY, body: '{' }],
    ['a method there is not', 405, { path: '/api/v1/auth/login', method: 'PATCH' }],
    ['a preflight', 405, { path: '/api/v1/agents', method: 'OPTIONS', headers: { origin: 'https://else.test' } }],
    ['a path there is not', 404, { path: '/api/v1/nothing' }],
    ['a page there is not', 404, { path: '/nothing', headers: PERSON }],
    ['another host name', 421, { path: '/', host: 'else.test' }],
  ]
  test.each(cases)('%s: %i', async (_, status, asked) => {
    const answer = await ask(Number(new URL(installation.controlUrl).port), asked)
    expect(answer.status).toBe(status)
    expectIsolated(answer.headers)
    expect(answer.headers['access-control-allow-origin']).toBeUndefined()
  })
})

describe('the edge', () => {
  const visitor = (path: string, headers = {}) => ({ path: `${tunnel.path}${path}`, headers })
  const cases: [name: string, status: number, asked: () => Asked][] = [
    ['its front page', 200, () => ({ path: '/', headers: PERSON })],
    ['no such tunnel', 404, () => ({ path: '/tunnel/nothing/', headers: PERSON })],
    ['no such tunnel, for a program', 404, () => ({ path: '/tunnel/nothing/' })],
    ['another host name', 421, () => ({ path: '/', host: 'else.test' })],
    ['the host door without a cookie', 401, () => ({ path: '/', host: tunnel.host, headers: PERSON })],
    ['the host door without a token', 401, () => ({ path: '/', host: tunnel.host })],
    ['a host door there is not', 404, () => ({ path: '/', host: `${'0'.repeat(32)}.localhost`, headers: PERSON })],
    ['a path that climbs out', 400, () => visitor('/../../x', PERSON)],
    ['a service worker', 403, () => visitor('/sw.js', { 'service-worker': 'script' })],
    ['a page of another site', 403, () => ({ ...visitor('/', { origin: 'https://else.test' }), method: 'POST' })],
    ['TRACE', 405, () => ({ ...visitor('/'), method: 'TRACE' })],
    ['a service that is gone', 502, () => ({ path: `${deserted.path}/`, headers: PERSON })],
    ['a service that is gone, for a program', 502, () => ({ path: `${deserted.path}/` })],
    ['a relay without WebSocket', 426, () => ({ path: relayPath, headers: PERSON })],
  ]
  test.each(cases)('%s: %i', async (_, status, asked) => {
    const answer = await ask(installation.edgePort, asked())
    expect(answer.status).toBe(status)
    expectIsolated(answer.headers)
    expect(answer.headers['x-robots-tag']).toBe('noindex')
  })

  test('an answer that sends the visitor on is kept nowhere and shown by nobody, but passed through by anyone', async () => {
    const onward = await ask(installation.edgePort, visitor('/', NAVIGATION))
    expect(onward.status).toBe(302)
    expectClosed(onward.headers)
    const swap = await ask(installation.edgePort, { path: `${tunnel.path}/`, host: tunnel.host, headers: NAVIGATION })
    expect(swap.status).toBe(302)
    const [cookie = '', ...others] = swap.headers['set-cookie'] ?? []
    expect(others).toEqual([])
    expect(cookie).toMatch(/; Path=\/; HttpOnly; SameSite=Lax/)
    expectClosed({ ...swap.headers, 'set-cookie': [] })
  })

  test('the notice before a first page', async () => {
    const swap = await ask(installation.edgePort, { path: `${tunnel.path}/`, host: tunnel.host, headers: NAVIGATION })
    const [cookie = ''] = swap.headers['set-cookie']?.map((each) => each.split(';')[0] ?? '') ?? []
    const notice = { path: '/', host: tunnel.host, headers: { ...NAVIGATION, cookie } }
    const { status, headers } = await ask(installation.edgePort, notice)
    expect(status).toBe(200)
    expect(headers['set-cookie']).toHaveLength(1)
    expect(headers['set-cookie']?.[0]).toMatch(/; HttpOnly; SameSite=Lax/)
    expectIsolated({ ...headers, 'set-cookie': [] })
  })
})
