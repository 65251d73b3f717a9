import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Arrival, DoorSettings, TunnelIndex } from '../../src/tunnels/doors/door-search.ts'
import { findDoor } from '../../src/tunnels/doors/doors.ts'
import { hostDoor } from '../../src/tunnels/http/door.ts'
import { type Fields, formatHead } from '../../src/tunnels/http/fields.ts'
import { Refusal } from '../../src/tunnels/http/refusal.ts'
import { checkRequest } from '../../src/tunnels/http/request-checks.ts'
import { rewriteRequest } from '../../src/tunnels/http/request-head.ts'
import type { RequestHead } from '../../src/tunnels/http/request-parser.ts'
import { climbsOut, parseHost, parseTarget } from '../../src/tunnels/http/target.ts'
import { OpenTunnel, type TunnelFacts } from '../../src/tunnels/open-tunnel.ts'

const TOKEN = 'a'.repeat(43)
const facts: TunnelFacts = {
  ...{ sessionId: '01990000-0000-7000-8000-000000000000', teamId: 't', agentId: 'a', targetPort: 80, protocol: 'http' },
  ...{ adminTokenHash: '', label: 'ab'.repeat(16), profile: 'generic', hostPolicy: 'rewrite', pathMode: 'strip' },
  ...{
    token: TOKEN,
    visitSecret: 's',
    edgePort: null,
    openedAt: 0,
    openedByUserId: 'u',
    taskId: null,
    idleTimeoutMs: 1,
  },
}
const tunnel = new OpenTunnel(facts, { bytesIn: 0, bytesOut: 0, lastActivityAt: 0 })
const tunnels: TunnelIndex = {
  byToken: (token) => (token === TOKEN ? tunnel : undefined),
  byLabel: (label) => (label === tunnel.facts.label ? tunnel : undefined),
  byEdgePort: (port) => (port === tunnel.facts.edgePort ? tunnel : undefined),
}
const settings: DoorSettings = {
  ...{ tunnelDomain: 'tunnels.example.org', publicHost: 'edge.example.org' },
  ...{ pathPages: 'sandbox', listenerScheme: 'https', openPorts: new Set() },
}
const arrival = (host: string): Arrival => ({ scheme: 'https', host, localAddress: '10.0.0.1', edgePort: undefined })

/** What the checks say of a GET of / with these changes. */
const check = ({ early = 0, ...changes }: Partial<RequestHead> & { early?: number }) =>
  checkRequest({ method: 'GET', target: '/', httpVersion: '1.1', fields: ['Host', 'a'], ...changes }, early)

test('hosts that are taken, and those that are none', () => {
  expect(parseHost('Example.ORG')).toEqual({ name: 'example.org', port: undefined })
  expect(parseHost('[::1]:8788')).toEqual({ name: '[::1]', port: 8788 })
  expect(parseHost('a_b-c.d:0')).toEqual({ name: 'a_b-c.d', port: 0 })
  const none = [
    '',
    ' ',
    'a b',
    'a,b',
    'u@a',
    'a/',
    'a?',
    'a#',
    'a\\b',
    'a:',
    'a:x',
    'a:65536',
    'a:1:2',
    'a.',
    '.a',
    '-a',
    '[::1',
    '::1',
    'é',
  ]
  for (const raw of none) expect([raw, parseHost(raw)]).toEqual([raw, undefined])
})

test('targets that are taken, and those that are refused', () => {
  for (const path of ['/', '/a//b/%2e%2e/%2F?x=/../..', '/a/../b', '/./a', '/?', '*', '/tunnel']) {
    expect(parseTarget(path)).toEqual({ path })
  }
  expect(parseTarget('http://a:1/b?c')).toEqual({ path: '/b?c', authority: 'a:1' })
  expect(parseTarget('HTTPS://a')).toEqual({ path: '/', authority: 'a' })
  for (const bad of [
    '',
    'a',
    '/a#b',
    '/a\\b',
    '/..',
    '/a/../../b',
    '/a/./../..',
    'ftp://a/',
    'http://',
    'http://u@a/',
    'http://a/../x',
  ]) {
    expect([bad, typeof parseTarget(bad)]).toEqual([bad, 'string'])
  }
  expect(climbsOut('/a/..')).toBe(false)
  expect(climbsOut('/a//..//..')).toBe(true)
})

const segment = fc.constantFrom('a', '', '.', '..', '%2e%2e', '%2F', '%5c', ';x', '%C3%A9', '~', 'tunnel', TOKEN)
const paths = fc.array(segment, { maxLength: 8 }).map((segments) => `/${segments.join('/')}`)

test('whatever stands behind the token reaches the service byte for byte, at both doors, or is refused', () => {
  fc.assert(
    fc.property(paths, fc.constantFrom('', '?', '?q=/tunnel/x/../..'), (path, query) => {
      const rest = path + query
      const onPath = check({ target: `/tunnel/${TOKEN}${rest}`, fields: ['Host', 'edge.example.org'] })
      const host = `${tunnel.facts.label}.tunnels.example.org`
      const onHost = check({ target: rest, fields: ['Host', host, 'Cyberun-Tunnel-Token', TOKEN] })
      expect(onHost instanceof Refusal).toBe(climbsOut(rest))
      if (!(onHost instanceof Refusal) && !rest.startsWith(`/tunnel/${TOKEN}`)) {
        expect(findDoor(onHost, arrival(host), tunnels, settings)).toMatchObject({ tunnel, path: rest })
      }
      if (!(onPath instanceof Refusal)) {
        const found = findDoor(onPath, arrival('edge.example.org'), tunnels, settings)
        expect(found instanceof Refusal || ('path' in found && found.path === rest)).toBe(true)
        if (climbsOut(rest)) expect(found).toBeInstanceOf(Refusal)
      }
    }),
    { numRuns: 1_000 },
  )
})

/** Names and values that checks look at, beside any text. */
const names = fc.oneof(
  fc.constantFrom('Host', 'Content-Length', 'Transfer-Encoding', 'Expect', 'Upgrade', 'Connection', 'Cookie', 'Origin'),
  fc.constantFrom('Sec-WebSocket-Key', 'Sec-WebSocket-Version', 'TE', 'Referer', 'X-Forwarded-For', '__proto__'),
)
const values = fc.oneof(
  fc.constantFrom('a', '0', '5', '5, 5', 'chunked', 'gzip, chunked', '100-continue', 'websocket', 'upgrade', '13', ''),
  fc.string({ unit: 'grapheme-ascii', maxLength: 12 }),
)

test('no request makes the checks throw, and one that passes can be written as one head', () => {
  const raw = fc.record({
    method: fc.constantFrom('GET', 'HEAD', 'POST', 'OPTIONS', 'TRACE', 'PUT'),
    target: fc.oneof(
      paths,
      fc.string({ unit: 'grapheme-ascii', maxLength: 20 }),
      fc.constantFrom('*', 'http://a/', '//a'),
    ),
    httpVersion: fc.constantFrom('1.1', '1.0', '0.9', '2.0'),
    fields: fc.array(fc.tuple(names, values), { maxLength: 6 }).map((list): Fields => ['Host', 'a', ...list.flat()]),
    early: fc.constantFrom(0, 0, 3),
  })
  fc.assert(
    fc.property(raw, (sent) => {
      const checked = check(sent)
      if (checked instanceof Refusal) return
      const door = hostDoor(tunnel, { scheme: 'https', host: 'a' })
      const visitor = { address: '1.2.3.4', userAgent: '', scheme: 'https', host: 'a', port: 443 } as const
      const head = rewriteRequest(checked, checked.path, door, tunnel.target, visitor, 'gw')
      const text = formatHead('GET / HTTP/1.1', head.fields).toString('latin1')
      expect(text.match(/^host:/gim)).toHaveLength(1)
      const framings = text.match(/^(content-length|transfer-encoding):/gim) ?? []
      expect(framings.length).toBeLessThanOrEqual(1)
    }),
    { numRuns: 2_000 },
  )
})

test('an upgrade is passed on only when it is one', () => {
  const key = ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==']
  const verdict = (fields: Fields, changes: Parameters<typeof check>[0] = {}) => {
    const checked = check({ fields: ['Host', 'a', ...fields], ...changes })
    return checked instanceof Refusal ? checked.status : checked.upgrade
  }
  const asked = ['Connection', 'keep-alive, Upgrade', 'Upgrade', 'WebSocket', 'Sec-WebSocket-Version', '13']
  expect(verdict([...asked, ...key])).toBe('websocket')
  expect(verdict([...asked, ...key], { method: 'POST' })).toBe(400)
  expect(verdict([...asked, ...key], { httpVersion: '1.0' })).toBe(400)
  expect(verdict([...asked, ...key], { early: 1 })).toBe(400)
  expect(verdict([...asked, ...key, 'Content-Length', '1'])).toBe(400)
  expect(verdict([...asked, ...key, 'Content-Length', '0'])).toBe('websocket')
  expect(verdict([...asked, ...key, ...key])).toBe(400)
  expect(verdict(asked)).toBe(400)
  expect(verdict(['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '8', ...key])).toBe(426)
  expect(verdict(['Upgrade', 'websocket', ...key])).toBe('none')
  for (const protocol of ['h2c', 'TLS/1.0', 'websocket, h2c', 'IRC/6.9', 'foo']) {
    expect([protocol, verdict(['Connection', 'Upgrade', 'Upgrade', protocol])]).toEqual([protocol, 'none'])
  }
})
