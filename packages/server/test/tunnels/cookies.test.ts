import { describe, expect, test } from 'vitest'
import { cookieToService, setCookieToVisitor, visitCookieName } from '../../src/tunnels/http/cookies.ts'
import { type DoorTunnel, hostDoor, pathDoor, portDoor } from '../../src/tunnels/http/door.ts'

const LABEL = 'a'.repeat(32)
const OTHER = 'b'.repeat(32)
const tunnel: DoorTunnel = {
  facts: { label: LABEL, hostPolicy: 'rewrite', pathMode: 'strip' },
  pathPrefix: '/tunnel/TOKEN',
}
const place = { scheme: 'https', host: 'edge.example.org' } as const
const doors = {
  host: hostDoor(tunnel, place),
  port: portDoor(tunnel, place),
  path: pathDoor(tunnel, place, 'open'),
}
const OWN = `cyberun.${LABEL}.`

/** Names in every spelling that a service could use against us or another tunnel. */
const NAMES = [
  ...['a', 'A', 'session', '_xsrf', 'a.b', 'a-b', '$x', '__Secure-a', '__Host-a', '__host-a', 'tunnel', 'cyberun', ''],
  ...['cyberun-tunnel', '__Host-cyberun-tunnel', 'Cyberun-Tunnel', '__HOST-CYBERUN-tunnel', 'cyberun-notice'],
  ...[`cyberun-tunnel-${OTHER}`, `__Secure-cyberun-x`, `cyberun.${OTHER}.a`, `${OWN}a`, 'cyberun.a', ' padded '],
]
const VALUES = ['=1', '=', '="q=1"', '', '=cyberun-tunnel=x', '= spaced ']
const ATTRIBUTES = [
  ...[
    '',
    '; Path=/',
    '; path=/x/',
    '; PATH = /',
    '; Path=relative',
    '; Path=/tunnel/TOKEN/y',
    '; Path=/tunnel/TOKENISH',
  ],
  ...['; Path=/tunnel/OTHER/', '; Path=/../..', '; Domain=edge.example.org; Path=/', '; domain', ';Domain=.org;Secure'],
  ...['; HttpOnly; SameSite=None; Secure; Partitioned', '; Max-Age=0; Path=/; Path=/z'],
]

/** What a browser makes of a Set-Cookie value (RFC 6265, section 5.2): its pair, and the attributes that matter here. */
function stored(setCookie: string) {
  const [pair = '', ...rest] = setCookie.split(';')
  const equals = pair.indexOf('=')
  const name = equals < 0 ? '' : pair.slice(0, equals).trim()
  const value = pair.slice(equals + 1).trim()
  let path: string | undefined
  let hasDomain = false
  for (const attribute of rest) {
    const [key = '', ...words] = attribute.split('=')
    const text = words.join('=').trim()
    if (key.trim().toLowerCase() === 'path') path = text.startsWith('/') ? text : undefined
    if (key.trim().toLowerCase() === 'domain') hasDomain = true
  }
  return { name, path, hasDomain, sent: name === '' ? value : `${name}=${value}` }
}

const VARIANTS = NAMES.flatMap((name) => VALUES.flatMap((value) => ATTRIBUTES.map((rest) => name + value + rest)))

describe(`${VARIANTS.length} variants of Set-Cookie`, () => {
  test.each(Object.entries(doors))(
    'at the %s door none reaches beyond its tunnel, and each comes back as set',
    (kind, door) => {
      expect(VARIANTS.length).toBeGreaterThan(200)
      for (const variant of VARIANTS) {
        const before = stored(variant)
        const [told, copy] = setCookieToVisitor(variant, door)
        const reads = /^(__host-|__secure-)?cyberun-/i.test(before.sent)
        expect([variant, told === undefined]).toEqual([variant, reads])
        if (told === undefined) continue
        const kept = stored(told)
        expect(kept.hasDomain, variant).toBe(false)
        if (kind !== 'host') expect(kept.name.startsWith(OWN), variant).toBe(true)
        if (kind === 'path' && kept.path !== undefined) expect(`${kept.path}/`, variant).toMatch(/^\/tunnel\/TOKEN\//)
        if (kind !== 'path') expect(kept.path, variant).toBe(before.path)
        const isForScripts = kind !== 'host' && !/httponly/i.test(variant) && !/^(cyberun\.|$)/.test(before.name)
        expect([variant, copy !== undefined]).toEqual([variant, isForScripts])
        if (copy !== undefined)
          expect([stored(copy).sent, stored(copy).path, stored(copy).hasDomain]).toEqual([
            before.sent,
            kept.path,
            false,
          ])
        if (before.sent !== '') expect(cookieToService(kept.sent, door, true), variant).toBe(before.sent)
      }
    },
  )
})

test('what the service is sent of a browser’s cookies', () => {
  const sent = `a=1; ${OWN}b=2; cyberun.${OTHER}.c=3; cyberun-tunnel=s; __Host-cyberun-tunnel-${OTHER}=t; ${OWN}=bare`
  expect(cookieToService(sent, doors.host, true)).toBe(`a=1; ${OWN}b=2; cyberun.${OTHER}.c=3; ${OWN}=bare`)
  expect(cookieToService(sent, doors.port, true)).toBe('b=2; bare')
  expect(cookieToService(sent, doors.path, true)).toBe('b=2; bare')
  expect(cookieToService(sent, doors.path, false), 'a client that is no browser').toBe('a=1; b=2; bare')
  const twice = `${OWN}_xsrf=1; _xsrf=1; x=2`
  expect(cookieToService(twice, doors.port, true), 'and its copy for scripts').toBe('_xsrf=1')
  expect(cookieToService(twice, doors.port, false)).toBe('_xsrf=1; x=2')
  expect(cookieToService('other=1', doors.port, true), 'of another program on the same host').toBeUndefined()
  expect(cookieToService('other=1;  odd ;', doors.path, false)).toBe('other=1;  odd ;')
})

test('our cookie has one name for each origin, and where it can one that no other host may set', () => {
  const plain = { scheme: 'http', host: 'h' } as const
  expect(visitCookieName(doors.host)).toBe('__Host-cyberun-tunnel')
  expect(visitCookieName(hostDoor(tunnel, plain))).toBe('cyberun-tunnel')
  expect(visitCookieName(doors.port)).toBe(`__Host-cyberun-tunnel-${LABEL}`)
  expect(visitCookieName(portDoor(tunnel, plain))).toBe(`cyberun-tunnel-${LABEL}`)
})
