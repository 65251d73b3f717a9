import { describe, expect, test } from 'vitest'
import { doorOutlook, PAGE_WARNINGS } from '../../src/tunnels/doors/path-pages.ts'
import { hostDoor, pathDoor, portDoor } from '../../src/tunnels/http/door.ts'
import { type Fields, valuesOf } from '../../src/tunnels/http/fields.ts'
import { Refusal } from '../../src/tunnels/http/refusal.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { type Asked, a, ask, b, based, EDGE, PORT, SETTINGS, tcp, verdict, withPort } from './doors-bed.ts'

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

test('doors name where they are', () => {
  const place = { scheme: 'https', host: EDGE } as const
  expect(hostDoor(a, place)).toMatchObject({ prefix: '', origin: `https://${EDGE}`, cookiePrefix: '' })
  expect(portDoor(based, place)).toMatchObject({ prefix: based.pathPrefix, cookiePrefix: `cyberun.${'d'.repeat(32)}.` })
  expect(pathDoor(a, place, 'open')).toMatchObject({ prefix: a.pathPrefix, pages: 'open' })
})
