import { describe, expect, test } from 'vitest'
import type { Arrival, DoorSettings, Routed, TunnelIndex } from '../../src/tunnels/doors/door-search.ts'
import { findDoor } from '../../src/tunnels/doors/doors.ts'
import { checkOrigin } from '../../src/tunnels/doors/origin-check.ts'
import { doorOutlook, PAGE_WARNINGS } from '../../src/tunnels/doors/path-pages.ts'
import { hostDoor, pathDoor, portDoor } from '../../src/tunnels/http/door.ts'
import { type Fields, valuesOf } from '../../src/tunnels/http/fields.ts'
import type { OwnAnswer } from '../../src/tunnels/http/pages.ts'
import { Refusal } from '../../src/tunnels/http/refusal.ts'
import { type CheckedRequest, checkRequest } from '../../src/tunnels/http/request-checks.ts'
import { OpenTunnel, type TunnelFacts } from '../../src/tunnels/open-tunnel.ts'

const EDGE = 'edge.example.org'
const PORT = 9_000

/** A tunnel called by one letter. */
function tunnelOf(letter: string, changes: Partial<TunnelFacts> = {}): OpenTunnel {
  return new OpenTunnel(
    {
      ...{ sessionId: letter, teamId: 't', agentId: 'a', targetPort: 8188, protocol: 'http' },
      ...{ token: letter.repeat(43), visitSecret: `secret-${letter}`, adminTokenHash: '', label: letter.repeat(32) },
      ...{ openedAt: 0, openedByUserId: 'u', taskId: null, idleTimeoutMs: 1 },
      ...{ profile: 'generic', hostPolicy: 'rewrite', pathMode: 'strip', edgePort: null },
      ...changes,
    },
    { bytesIn: 0, bytesOut: 0, lastActivityAt: 0 },
  )
}

const a = tunnelOf('a')
const b = tunnelOf('b')
const withPort = tunnelOf('c', { edgePort: PORT })
const based = tunnelOf('d', { pathMode: 'keep', edgePort: PORT + 1 })
const tcp = tunnelOf('e', { protocol: 'tcp' })
const ALL = [a, b, withPort, based, tcp]

const tunnels: TunnelIndex = {
  byToken: (token) => ALL.find(({ facts }) => facts.token === token),
  byLabel: (label) => ALL.find(({ facts }) => facts.label === label),
  byEdgePort: (port) => ALL.find(({ facts }) => facts.edgePort === port),
}

interface Asked {
  path?: string
  host?: string
  method?: string
  fields?: Fields
  edgePort?: number
  settings?: Partial<DoorSettings>
}

const SETTINGS: DoorSettings = {
  ...{ tunnelDomain: 'localhost', publicHost: EDGE, pathPages: 'sandbox', listenerScheme: 'http' },
  openPorts: new Set([PORT, PORT + 1]),
}

function requestOf({ path = '/', host = EDGE, method = 'GET', fields = [] }: Asked): CheckedRequest | Refusal {
  return checkRequest({ method, target: path, httpVersion: '1.1', fields: ['Host', host, ...fields] }, 0)
}

function arrivalOf({ host = EDGE, edgePort }: Asked): Arrival {
  return { scheme: 'http', host, localAddress: '10.0.0.1', edgePort }
}

/** What becomes of a request, and of the same one after the check of Origin. */
function ask(asked: Asked): Routed | OwnAnswer | Refusal {
  const request = requestOf(asked)
  if (request instanceof Refusal) return request
  const found = findDoor(request, arrivalOf(asked), tunnels, { ...SETTINGS, ...asked.settings })
  return 'tunnel' in found ? (checkOrigin(request, found.door) ?? found) : found
}

/** In a few words: the tunnel and path, the redirect, or the status. */
function verdict(asked: Asked): string {
  const found = ask(asked)
  if ('tunnel' in found) return `${found.tunnel.facts.sessionId} ${found.door.kind} ${found.path}`
  if (found instanceof Refusal) return String(found.status)
  const [location] = valuesOf(found.fields, 'location')
  return location === undefined ? String(found.status) : `${found.status} ${location}`
}

const NAVIGATION = ['Sec-Fetch-Mode', 'navigate', 'Sec-Fetch-Site', 'none']
const WEBSOCKET = [
  ...['Connection', 'Upgrade', 'Upgrade', 'websocket', 'Sec-WebSocket-Version', '13'],
  ...['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ=='],
]
const from = (path: string): Fields => ['Referer', `http://${EDGE}${path}`]

describe('a request that escaped its tunnel at the path door', () => {
  test.each<[name: string, asked: Asked, verdict: string]>([
    ['goes back where its page is', { path: '/x?y', fields: from(`${a.pathPrefix}/page`) }, `307 ${a.pathPrefix}/x?y`],
    ['also with a body', { path: '/x', method: 'POST', fields: from(`${b.pathPrefix}/`) }, `307 ${b.pathPrefix}/x`],
    ['also to the root', { path: '/', fields: from(`${a.pathPrefix}/deep/page`) }, `307 ${a.pathPrefix}/`],
    [
      'byte for byte',
      { path: '//h/%2e%2e/?a#'.slice(0, -1), fields: from(`${a.pathPrefix}/`) },
      `307 ${a.pathPrefix}//h/%2e%2e/?a`,
    ],
    ['below a base path, too', { path: '/x', fields: from(`${based.pathPrefix}/lab`) }, `307 ${based.pathPrefix}/x`],
    ['not without a Referer', { path: '/x' }, '404'],
    ['not from another site', { path: '/x', fields: ['Referer', `http://evil.example${a.pathPrefix}/`] }, '404'],
    [
      'not from this host by another scheme',
      { path: '/x', fields: ['Referer', `https://${EDGE}${a.pathPrefix}/`] },
      '404',
    ],
    ['not from another port', { path: '/x', fields: ['Referer', `http://${EDGE}:81${a.pathPrefix}/`] }, '404'],
    [
      'not from a host that begins alike',
      { path: '/x', fields: ['Referer', `http://${EDGE}.evil${a.pathPrefix}/`] },
      '404',
    ],
    ['not from our own root', { path: '/x', fields: from('/') }, '404'],
    ['not from a closed tunnel', { path: '/x', fields: from(`/tunnel/${'z'.repeat(43)}/`) }, '404'],
    [
      'not with two Referers',
      { path: '/x', fields: [...from(`${a.pathPrefix}/`), ...from(`${b.pathPrefix}/`)] },
      '404',
    ],
    ['not to a relay of TCP', { path: '/x', fields: from(`${tcp.pathPrefix}/`) }, '404'],
    [
      'not out of the tunnel that its path names',
      { path: `${b.pathPrefix}/x`, fields: from(`${a.pathPrefix}/`) },
      'b path /x',
    ],
    ['no WebSocket by a Referer', { path: '/ws', fields: [...from(`${a.pathPrefix}/`), ...WEBSOCKET] }, '404'],
  ])('%s', (_name, asked, expected) => {
    expect(verdict(asked)).toBe(expected)
  })

  test('tells a sandboxed font or module that it may follow', () => {
    const found = ask({ path: '/f.woff', fields: [...from(`${a.pathPrefix}/s.css`), 'Origin', 'null'] })
    expect('fields' in found && valuesOf([...found.fields], 'access-control-allow-origin')).toEqual(['null'])
  })

  describe('and does not say whose it is', () => {
    const open = { pathPages: 'open' } as const
    const own = ['Origin', `http://${EDGE}`]
    const mark = (tunnel: OpenTunnel, secret = tunnel.facts.visitSecret): string =>
      `cyberun-tunnel-${tunnel.facts.label}=${secret}`
    const cookie = (...marks: string[]): Fields => ['Cookie', ['x=1', ...marks].join('; ')]

    test.each<[name: string, asked: Asked, verdict: string]>([
      ['a WebSocket of the only tunnel in use', { fields: [...cookie(mark(a)), ...own, ...WEBSOCKET] }, 'a path /ws'],
      [
        'a WebSocket below a base path',
        { fields: [...cookie(mark(based)), ...own, ...WEBSOCKET] },
        `d path ${based.pathPrefix}/ws`,
      ],
      ['a GET of the only tunnel in use', { fields: cookie(mark(a)) }, `307 ${a.pathPrefix}/ws`],
      ['two tunnels in use', { fields: [...cookie(mark(a), mark(b)), ...own, ...WEBSOCKET] }, '404'],
      ['a mark planted beside ours', { fields: cookie(mark(a), mark(a, 'other')) }, '404'],
      ['a mark that nobody gave', { fields: [...cookie(mark(a, 'guess')), ...own, ...WEBSOCKET] }, '404'],
      ['a Referer of another site', { fields: [...cookie(mark(a)), 'Referer', 'http://evil.example/'] }, '404'],
      [
        'a WebSocket of another site',
        { fields: [...cookie(mark(a)), 'Origin', 'http://evil.example', ...WEBSOCKET] },
        '403',
      ],
      ['a WebSocket of a sandbox', { fields: [...cookie(mark(a)), 'Origin', 'null', ...WEBSOCKET] }, '403'],
      ['pages in a sandbox', { fields: cookie(mark(a)), settings: { pathPages: 'sandbox' } }, '404'],
      ['our own page', { path: '/', fields: cookie(mark(a)) }, '200'],
    ])('%s', (_name, asked, expected) => {
      expect(verdict({ path: '/ws', settings: open, ...asked })).toBe(expected)
    })

    test('the mark is set by a page, for half an hour, and only where pages are let free', () => {
      const page = { path: `${a.pathPrefix}/`, fields: NAVIGATION }
      const marked = ask({ ...page, settings: open })
      expect('door' in marked && marked.door.setCookie).toBe(`${mark(a)}; Path=/; HttpOnly; SameSite=Lax; Max-Age=1800`)
      const fetched = ask({ path: `${a.pathPrefix}/`, settings: open })
      const sandboxed = ask(page)
      for (const found of [fetched, sandboxed]) expect('door' in found && found.door.setCookie).toBeUndefined()
    })
  })
})

describe('where a browser is sent from the path door', () => {
  const page = (tunnel: OpenTunnel): Asked => ({ path: `${tunnel.pathPrefix}/x`, fields: NAVIGATION })
  const local = `127.0.0.1:8788`
  test.each<[name: string, asked: Asked, verdict: string]>([
    [
      'its host, when it is on this machine',
      { ...page(withPort), host: local },
      `302 http://${'c'.repeat(32)}.localhost:8788${withPort.pathPrefix}/x`,
    ],
    [
      'its port, when *.localhost is another machine',
      page(withPort),
      `302 http://${EDGE}:${PORT}${withPort.pathPrefix}/x`,
    ],
    ['its port with a base path', page(based), `302 http://${EDGE}:${PORT + 1}${based.pathPrefix}/x`],
    [
      'its host, by a domain that everybody resolves',
      { ...page(withPort), settings: { tunnelDomain: 't.example.net' } },
      `302 http://${'c'.repeat(32)}.t.example.net${withPort.pathPrefix}/x`,
    ],
    ['nowhere, without a port', page(a), 'a path /x'],
    [
      'nowhere, when another program has its port',
      { ...page(withPort), settings: { openPorts: new Set() } },
      'c path /x',
    ],
    [
      'nowhere, when a proxy takes the TLS off',
      { ...page(withPort), settings: { listenerScheme: 'https' } },
      'c path /x',
    ],
    ['nowhere, and it is refused, when pages are', { ...page(a), settings: { pathPages: 'refuse' } }, '403'],
    [
      'its port, although pages are refused here',
      { ...page(withPort), settings: { pathPages: 'refuse' } },
      `302 http://${EDGE}:${PORT}${withPort.pathPrefix}/x`,
    ],
    [
      'nowhere: a script is served in place',
      { path: `${withPort.pathPrefix}/x`, settings: { pathPages: 'refuse' } },
      'c path /x',
    ],
  ])('%s', (_name, asked, expected) => {
    expect(verdict(asked)).toBe(expected)
  })

  test('what pages may do there follows the setting, and never more', () => {
    const pagesAt = (asked: Asked) => {
      const found = ask(asked)
      return 'door' in found && found.door.pages
    }
    const script = { path: `${a.pathPrefix}/x` }
    expect(pagesAt(page(a))).toBe('sandbox')
    expect(pagesAt({ ...page(a), settings: { pathPages: 'open' } })).toBe('open')
    expect(pagesAt({ ...script, settings: { pathPages: 'refuse' } })).toBe('elsewhere')
    expect(pagesAt({ ...script, host: local, settings: { pathPages: 'open' } })).toBe('elsewhere')
  })

  test('whoever opens it is told its address, or why it has none', () => {
    const edge = { ...SETTINGS, url: `http://${EDGE}`, hasPortRange: false }
    expect(doorOutlook(withPort, edge)).toEqual({
      hostUrl: `http://${EDGE}:${PORT}${withPort.pathPrefix}/`,
      warnings: [],
    })
    expect(doorOutlook(tcp, edge)).toEqual({ hostUrl: undefined, warnings: [] })
    for (const pathPages of ['sandbox', 'refuse', 'open'] as const) {
      expect(doorOutlook(a, { ...edge, pathPages })).toEqual({
        hostUrl: undefined,
        warnings: [PAGE_WARNINGS[pathPages]],
      })
    }
    expect(doorOutlook(a, { ...edge, hasPortRange: true }).warnings.at(-1)).toContain('edge.tunnel_port_range')
    expect(doorOutlook(a, { ...edge, url: 'http://localhost:1' }).warnings).toEqual([])
  })
})

describe('the port door', () => {
  const at = (asked: Asked): string => verdict({ host: `${EDGE}:${PORT}`, edgePort: PORT, ...asked })
  const cookie = `cyberun-tunnel-${'c'.repeat(32)}=secret-c`

  test('takes who shows the token, and gives a cookie of its own name for it', () => {
    const found = ask({ path: `${withPort.pathPrefix}//x`, host: `${EDGE}:${PORT}`, edgePort: PORT })
    if (!('fields' in found) || found instanceof Refusal) throw new Error('this is a redirect')
    expect(valuesOf(found.fields, 'location')).toEqual([`http://${EDGE}:${PORT}//x`])
    expect(valuesOf(found.fields, 'set-cookie')).toEqual([`${cookie}; Path=/; HttpOnly; SameSite=Lax`])
    expect(valuesOf(found.fields, 'clear-site-data'), 'of whoever had the port before').toEqual(['"storage"'])
    const again = ask({
      path: `${withPort.pathPrefix}/`,
      host: `${EDGE}:${PORT}`,
      edgePort: PORT,
      fields: ['Cookie', cookie],
    })
    expect('fields' in again && valuesOf([...again.fields], 'clear-site-data')).toEqual([])
  })

  test.each<[name: string, asked: Asked, verdict: string]>([
    ['a visitor with the cookie', { path: '/x', fields: ['Cookie', cookie] }, 'c port /x'],
    ['a client with the field', { path: '/x', fields: ['Cyberun-Tunnel-Token', withPort.facts.token] }, 'c port /x'],
    ['nobody else', { path: '/x' }, '401'],
    ['the cookie of the host door', { path: '/x', fields: ['Cookie', 'cyberun-tunnel=secret-c'] }, '401'],
    [
      'the cookie of another tunnel',
      { path: '/x', fields: ['Cookie', `cyberun-tunnel-${'a'.repeat(32)}=secret-a`] },
      '401',
    ],
    ['the cookie twice', { path: '/x', fields: ['Cookie', `${cookie}; ${cookie}`] }, '400'],
    ['the token of another tunnel', { path: `${a.pathPrefix}/x` }, '401'],
    ['a port without a tunnel', { path: '/x', edgePort: PORT + 7 }, '404'],
    ['a service worker', { path: '/sw.js', fields: ['Cookie', cookie, 'Service-Worker', 'script'] }, '403'],
    [
      'a page of another port',
      { method: 'POST', fields: ['Cookie', cookie, 'Origin', `http://${EDGE}:${PORT + 1}`] },
      '403',
    ],
    [
      'a page of its own',
      { method: 'POST', fields: ['Cookie', cookie, 'Origin', `http://${EDGE}:${PORT}`] },
      'c port /',
    ],
    ['a host name of somebody else', { host: `evil.example:${PORT}` }, '421'],
    ['the host door’s name', { host: `${'a'.repeat(32)}.localhost:${PORT}` }, '421'],
  ])('%s', (_name, asked, expected) => {
    expect(at(asked)).toBe(expected)
  })
})

test('a service with a base path is asked for it at every door', () => {
  const { pathPrefix, facts } = based
  const host = `${facts.label}.localhost`
  const port = { host: `${EDGE}:${PORT + 1}`, edgePort: PORT + 1 }
  expect(verdict({ path: `${pathPrefix}/lab?x` })).toBe(`d path ${pathPrefix}/lab?x`)
  expect(verdict({ path: `${pathPrefix}/lab?x`, host })).toBe(`d host ${pathPrefix}/lab?x`)
  expect(verdict({ path: `${pathPrefix}/lab?x`, ...port })).toBe(`d port ${pathPrefix}/lab?x`)
  expect(verdict({ path: pathPrefix, host })).toBe(`307 ${pathPrefix}/`)
  expect(verdict({ path: `${pathPrefix}/..`, host })).toBe('400')
  expect(verdict({ path: '/lab', host })).toBe('401')
  expect(verdict({ path: `${a.pathPrefix}/lab`, host })).toBe('401')
})

describe('hosts that a request may name (DNS rebinding)', () => {
  const OWN = [
    EDGE,
    `${EDGE}:8788`,
    'EDGE.example.org',
    'localhost',
    'localhost:1',
    '127.0.0.1',
    '127.9.9.9:80',
    '[::1]:8788',
    '10.0.0.1',
  ]
  const OTHERS = [
    ...[
      'evil.example',
      `${EDGE}.evil.example`,
      `evil-${EDGE}`,
      `x.${EDGE}`,
      'localhost.evil.example',
      'evil.localhost',
    ],
    ...[
      '10.0.0.2',
      '192.0.2.1:8788',
      '0.0.0.0',
      '[::]',
      '[::2]',
      '[::ffff:10.0.0.1]',
      '127.0.0.1.evil.example',
      '127.0.0.1.nip.io',
    ],
    ...['2130706433', '0x7f.1', '017700000001', '127.1', `${'z'.repeat(32)}.localhost`, `${'A'.repeat(31)}.localhost`],
    ...['localhost.localdomain', 'metadata.google.internal', '169.254.169.254'],
  ]
  const NONE = [
    ...[
      `${EDGE}.`,
      'localhost.',
      `user@${EDGE}`,
      `${EDGE}/`,
      `${EDGE}/..`,
      `${EDGE}?`,
      `${EDGE}#`,
      `${EDGE}\\`,
      `${EDGE},a`,
    ],
    ...[
      `${EDGE}:`,
      `${EDGE}:x`,
      `${EDGE}:99999`,
      `${EDGE}:1:2`,
      `${EDGE}:-1`,
      '[::1',
      '::1',
      '',
      ' ',
      `${EDGE} x`,
      'é.example',
    ],
    ...[`http://${EDGE}`, '%65dge.example.org', '[::1]x', '[fe80::1%25lo]', '*', '.', '..'],
  ]
  test.each(OWN)('%s is ours', (host) => expect(verdict({ host })).toBe('200'))
  test.each(OTHERS)('%s is misdirected', (host) => expect(verdict({ host })).toBe('421'))
  test.each(NONE)('"%s" is no host', (host) => expect(verdict({ host })).toBe('400'))

  test('a tunnel’s token is no way around it', () => {
    for (const host of OTHERS) expect([host, verdict({ host, path: `${a.pathPrefix}/` })]).toEqual([host, '421'])
  })
})

/** Segments that some reader takes for `.`, `..`, `/` or `\`, or for another tunnel or the API. */
const SEGMENTS = [
  ...[
    '',
    '.',
    '..',
    '...',
    '%2e',
    '%2E%2e',
    '.%2e',
    '%2f',
    '%2F..%2F',
    '%5c',
    '%5C..',
    '%252e%252e',
    '%252f',
    '..;',
    ';',
    ';x=/..',
  ],
  ...[
    '%00',
    '%0d%0a',
    '%c0%ae%c0%ae',
    '%c0%af',
    '%u002e',
    '%e0%80%ae',
    '%ef%bc%8f',
    'a%',
    'a%2',
    '~',
    '*',
    '@',
    ':',
    '&',
    'a b'.replace(' ', '+'),
  ],
  ...['tunnel', b.facts.token, 'api', 'v1', 'agent', '\\', '..\\', '#'],
]
const TARGETS = SEGMENTS.flatMap((one) => [
  ...[`/${one}`, `/${one}/`, `/${one}/api/v1/users/me`, `//${one}/x`, `/a/${one}/${b.pathPrefix}/`],
  ...[
    `/${one}/${one}/x`,
    `/a/b/${one}/..`,
    `/?${one}`,
    `/${one}?/../${one}`,
    `/x/${one};/../y`,
    `/${one}${b.pathPrefix}/x`,
  ],
  ...[`/${one}//agent`, `/a/../${one}`],
])

describe(`${TARGETS.length} confusing targets`, () => {
  const enter = ['Cyberun-Tunnel-Token', a.facts.token]
  const doors: [name: string, of: (target: string) => Asked][] = [
    ['path', (target) => ({ path: a.pathPrefix + target })],
    ['host', (path) => ({ path, host: `${a.facts.label}.localhost`, fields: enter })],
    [
      'port',
      (path) => ({
        path,
        host: `${EDGE}:${PORT}`,
        edgePort: PORT,
        fields: ['Cyberun-Tunnel-Token', withPort.facts.token],
      }),
    ],
    ['path below a base path', (target) => ({ path: based.pathPrefix + target })],
  ]
  test.each(doors)('at the %s door each reaches its own service byte for byte, or nobody', (name, of) => {
    expect(TARGETS.length).toBeGreaterThanOrEqual(500)
    let passed = 0
    for (const target of TARGETS) {
      const found = ask(of(target))
      if (!('tunnel' in found)) {
        expect([target, found.status]).toEqual([target, 400])
        continue
      }
      passed += 1
      const own = name === 'port' ? withPort : name.endsWith('base path') ? based : a
      expect([target, found.tunnel, found.path]).toEqual([
        target,
        own,
        name.endsWith('base path') ? based.pathPrefix + target : target,
      ])
    }
    // Refused is what climbs out as it stands, or has a backslash or a fragment.
    expect(passed).toBeGreaterThan(TARGETS.length * 0.8)
  })

  test('none of them reaches a tunnel without its token', () => {
    for (const path of TARGETS) {
      const found = ask({ path })
      const named = 'tunnel' in found ? found.tunnel : undefined
      expect([path, named === undefined || path.startsWith(named.pathPrefix)]).toEqual([path, true])
      expect([path, verdict({ path, host: `${a.facts.label}.localhost` })]).toEqual([
        path,
        expect.stringMatching(/^40[01]$/),
      ])
    }
  })
})

test('doors name where they are', () => {
  const place = { scheme: 'https', host: EDGE } as const
  expect(hostDoor(a, place)).toMatchObject({ prefix: '', origin: `https://${EDGE}`, cookiePrefix: '' })
  expect(portDoor(based, place)).toMatchObject({ prefix: based.pathPrefix, cookiePrefix: `cyberun.${'d'.repeat(32)}.` })
  expect(pathDoor(a, place, 'open')).toMatchObject({ prefix: a.pathPrefix, pages: 'open' })
})
