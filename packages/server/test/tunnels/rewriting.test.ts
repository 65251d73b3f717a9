import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Door, type DoorTunnel, hostDoor, localTarget, pathDoor, portDoor } from '../../src/tunnels/http/door.ts'
import { type Fields, formatHead, valuesOf } from '../../src/tunnels/http/fields.ts'
import { refreshToVisitor, toVisitor } from '../../src/tunnels/http/references.ts'
import { Refusal } from '../../src/tunnels/http/refusal.ts'
import { type CheckedRequest, checkRequest } from '../../src/tunnels/http/request-checks.ts'
import { rewriteRequest, rewriteRequestTrailers } from '../../src/tunnels/http/request-head.ts'
import { rewriteInterim, rewriteResponse, rewriteTrailers } from '../../src/tunnels/http/response-head.ts'

const target = localTarget(8188)
const LABEL = '0123456789abcdef0123456789abcdef'
const tunnel = (changes: Partial<DoorTunnel['facts']> = {}): DoorTunnel => ({
  facts: { label: LABEL, hostPolicy: 'rewrite', pathMode: 'strip', ...changes },
  pathPrefix: '/tunnel/TOKEN',
})
const atHost = { scheme: 'https', host: 'abc.example.org' } as const
const atEdge = { scheme: 'https', host: 'edge.example.org' } as const
const host = hostDoor(tunnel(), atHost)
const path = pathDoor(tunnel(), atEdge, 'elsewhere')
const sandbox = pathDoor(tunnel(), atEdge, 'sandbox')
const open = pathDoor(tunnel(), atEdge, 'open')
const port = portDoor(tunnel(), { scheme: 'https', host: 'edge.example.org:9000' })
const visitor = { address: '192.0.2.7', userAgent: '', scheme: 'https', host: 'abc.example.org', port: 443 } as const

function checked(fields: Fields, method = 'GET'): CheckedRequest {
  const head = { method, target: '/x', httpVersion: '1.1', fields: ['Host', 'abc.example.org', ...fields] }
  const request = checkRequest(head, 0)
  if (request instanceof Refusal) throw new Error(request.message)
  return request
}

/** What the service gets beside Host and what every request has. */
function toService(fields: Fields, door: Door = host, method = 'GET'): Fields {
  const { fields: all } = rewriteRequest(checked(fields, method), '/x', door, target, visitor, 'gw-1')
  expect(all.slice(0, 2)).toEqual(['Host', 'localhost:8188'])
  expect(all.slice(-10)).toEqual([
    ...['X-Forwarded-For', '192.0.2.7', 'X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'abc.example.org'],
    ...['X-Forwarded-Port', '443', 'Cyberun-Hop', 'gw-1'],
  ])
  return all.slice(2, -10)
}

describe('fields of a request, as the service gets them', () => {
  const cases: [name: string, sent: Fields, got: Fields, door?: Door][] = [
    ['order, case and duplicates stay', ['b', '2', 'A', '1', 'B', '3'], ['b', '2', 'A', '1', 'B', '3']],
    ['names that objects have', ['__proto__', 'x', 'constructor', 'c'], ['constructor', 'c']],
    ['hop-by-hop fields end here', ['Keep-Alive', '5', 'Proxy-Connection', 'x', 'Proxy-Authorization', 'y'], []],
    ['what Connection names ends here', ['Connection', 'close, X-A', 'x-a', '1', 'X-B', '2'], ['X-B', '2']],
    ['several Connection fields', ['Connection', 'a', 'connection', 'B', 'A', '1', 'b', '2'], []],
    ['an own Origin is the service’s', ['Origin', 'https://abc.example.org'], ['Origin', 'http://localhost:8188']],
    ['a foreign Origin stays', ['Origin', 'https://evil.example'], ['Origin', 'https://evil.example']],
    ['Origin null stays on the host door', ['Origin', 'null'], ['Origin', 'null']],
    ['a sandboxed page is the service’s own', ['Origin', 'null'], ['Origin', 'http://localhost:8188'], sandbox],
    ['an own Referer', ['Referer', 'https://abc.example.org/a?b'], ['Referer', 'http://localhost:8188/a?b']],
    [
      'a Referer below the prefix',
      ['Referer', 'https://edge.example.org/tunnel/TOKEN/a'],
      ['Referer', 'http://localhost:8188/a'],
      path,
    ],
    [
      'a Destination below the prefix',
      ['Destination', 'https://edge.example.org/tunnel/TOKEN/a'],
      ['Destination', 'http://localhost:8188/a'],
      path,
    ],
    ['its path alone', ['Destination', '/tunnel/TOKEN/a'], ['Destination', 'http://localhost:8188/a'], path],
    ['a Destination below another tunnel goes', ['Destination', '/tunnel/OTHER/a'], [], path],
    ['a Referer below another tunnel goes', ['Referer', 'https://edge.example.org/tunnel/OTHER/a'], [], path],
    ['a Referer that shows the token goes', ['Referer', 'https://abc.example.org/tunnel/TOKEN/a'], []],
    ['a Referer of another site stays', ['Referer', 'https://example.com/a'], ['Referer', 'https://example.com/a']],
    ['our cookie goes', ['Cookie', 'a=1; cyberun-tunnel=s; b=2'], ['Cookie', 'a=1; b=2']],
    ['our cookie alone', ['Cookie', '__Host-cyberun-tunnel=s'], []],
    ['other cookies stay, byte for byte', ['Cookie', 'a=1;b="2 ; ;c'], ['Cookie', 'a=1;b="2 ; ;c']],
    [
      'claims of a proxy',
      ['Forwarded', 'for=x', 'X-Real-IP', '1', 'X-Forwarded-Prefix', '/', 'x-FORWARDED-for', '1'],
      [],
    ],
    ['ours and what looks like ours', ['Cyberun-Tunnel-Token', 't', 'cyberun-hop', 'x', 'X_Forwarded_For', 'y'], []],
    [
      'TE asks for trailers only',
      ['TE', 'gzip;q=1, trailers', 'Connection', 'TE'],
      ['Connection', 'TE', 'TE', 'trailers'],
    ],
    ['another TE ends here', ['TE', 'gzip'], []],
    [
      'Expect stays',
      ['Expect', '100-continue', 'Content-Length', '3'],
      ['Expect', '100-continue', 'Content-Length', '3'],
    ],
    ['a chunked body', ['Transfer-Encoding', 'chunked'], ['Transfer-Encoding', 'chunked']],
    ['Authorization is the service’s', ['Authorization', 'Basic x'], ['Authorization', 'Basic x']],
  ]
  test.each(cases)('%s', (_name, sent, got, door) => {
    expect(toService(sent, door)).toEqual(got)
  })

  test('a WebSocket is asked for again', () => {
    const key = ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version', '13']
    expect(toService(['Upgrade', 'WebSocket', 'Connection', 'keep-alive, Upgrade', ...key])).toEqual([
      ...[...key, 'Connection', 'Upgrade', 'Upgrade', 'websocket'],
    ])
    expect(toService(['Upgrade', 'h2c', 'Connection', 'Upgrade, HTTP2-Settings', 'HTTP2-Settings', 'x'])).toEqual([])
  })

  test('trailers follow the same rules', () => {
    const trailers = ['X-Sum', '1', 'Cookie', 'a=1', 'X_Y', '1', 'X-Forwarded-For', '1', 'Authorization', 'x']
    expect(rewriteRequestTrailers(trailers)).toEqual(['X-Sum', '1'])
  })

  test('nobody loses our fields by naming them', () => {
    for (const name of [
      'X-Forwarded-For',
      'X-Forwarded-Proto',
      'X-Forwarded-Host',
      'X-Forwarded-Port',
      'Cyberun-Hop',
    ]) {
      const { fields } = rewriteRequest(checked(['Connection', name, name, 'x']), '/x', host, target, visitor, 'gw-1')
      expect(valuesOf(fields, name.toLowerCase()), name).toHaveLength(1)
      expect(valuesOf(fields, name.toLowerCase()), name).not.toContain('x')
    }
  })
})

describe('a service that is told the visitor’s own address', () => {
  const fieldsAt = (door: Door, fields: Fields): Fields =>
    rewriteRequest(checked(fields), '/x', door, target, visitor, 'gw-1').fields
  const shared = tunnel({ hostPolicy: 'preserve' })

  test('gets Host, Origin and Referer as they were sent', () => {
    const door = hostDoor(shared, atHost)
    const sent = ['Origin', 'https://abc.example.org', 'Referer', 'https://abc.example.org/a?b']
    expect(fieldsAt(door, sent).slice(0, 6)).toEqual(['Host', 'abc.example.org', ...sent])
    expect(toBrowser(['Location', 'http://abc.example.org/a'], door)).toContain('https://abc.example.org/a')
    expect(toBrowser(['Location', 'http://localhost:8188/a'], door)).toContain('https://abc.example.org/a')
  })

  test('is not shown the token at the path door, and takes a sandboxed page for its own', () => {
    const door = pathDoor(shared, atEdge, 'sandbox')
    const fields = fieldsAt(door, ['Origin', 'null', 'Referer', 'https://edge.example.org/tunnel/TOKEN/a?b'])
    expect(fields.slice(0, 6)).toEqual([
      ...['Host', 'edge.example.org', 'Origin', 'https://edge.example.org'],
      ...['Referer', 'https://edge.example.org/a?b'],
    ])
    const location = ['Location', 'http://edge.example.org/a']
    expect(toBrowser(location, door)).toContain('https://edge.example.org/tunnel/TOKEN/a')
  })
})

test('a service that was started with the prefix as its base path is told it, on every door', () => {
  const based = tunnel({ pathMode: 'keep' })
  const doors = [hostDoor(based, atHost), portDoor(based, atHost), pathDoor(based, atHost, 'open')]
  for (const door of doors) {
    const sent = ['Referer', 'https://abc.example.org/tunnel/TOKEN/a']
    const { fields, target: asked } = rewriteRequest(checked(sent), '/tunnel/TOKEN/x', door, target, visitor, 'gw-1')
    expect(asked).toBe('/tunnel/TOKEN/x')
    expect(valuesOf(fields, 'referer')).toEqual(['http://localhost:8188/tunnel/TOKEN/a'])
    expect(valuesOf(fields, 'x-forwarded-prefix')).toEqual(['/tunnel/TOKEN'])
    const answer = toBrowser(['Location', '/tunnel/TOKEN/lab', 'Set-Cookie', 'a=1; Path=/tunnel/TOKEN/'], door)
    expect(valuesOf(answer, 'location')).toEqual(['/tunnel/TOKEN/lab'])
    expect(valuesOf(answer, 'set-cookie')[0]).toMatch(/a=1; Path=\/tunnel\/TOKEN\/$/)
    expect(valuesOf(answer, 'referrer-policy'), 'its URL holds the token').toEqual(['same-origin'])
  }
})

describe('cookies of a form that some sandboxed page of the path door has sent', () => {
  const sandbox = pathDoor(tunnel(), atEdge, 'sandbox')
  const cookie = ['Cookie', `cyberun.${LABEL}.session=1`]
  const asked = (fields: Fields, door: Door) =>
    valuesOf(rewriteRequest(checked(fields), '/x', door, target, visitor, 'gw-1').fields, 'cookie')
  const from = (path: string) => ['Referer', `https://edge.example.org${path}`]
  test.each([
    ['of this tunnel', from('/tunnel/TOKEN/page'), 1],
    ['of another', from('/tunnel/OTHER/page'), 0],
    ['of one whose token begins alike', from('/tunnel/TOKENS/page'), 0],
    ['that does not say which', [], 0],
  ])('%s', (_, referer, count) => {
    const sent = [...cookie, 'Origin', 'null', ...referer]
    expect(asked(sent, sandbox)).toHaveLength(count)
  })
  test('are nobody else’s concern: a person’s own navigation has no Origin', () => {
    expect(asked(cookie, sandbox)).toHaveLength(1)
  })
})

const FLOOR = {
  host: [
    ...['Referrer-Policy', 'strict-origin-when-cross-origin', 'X-Robots-Tag', 'noindex'],
    ...['Content-Security-Policy', "frame-ancestors 'self'", 'Cross-Origin-Resource-Policy', 'same-origin'],
  ],
  path: ['Referrer-Policy', 'same-origin', 'X-Robots-Tag', 'noindex'],
}

function toBrowser(fields: Fields, door: Door, requestOrigin?: string): Fields {
  return rewriteResponse(fields, { door, target, status: 200, chunked: true, requestOrigin })
}

describe('fields of an answer, as the visitor gets them', () => {
  const cases: [name: string, sent: Fields, onHost: Fields, onPath: Fields][] = [
    [
      'order, case and duplicates stay',
      ['b', '2', 'A', '1', 'B', '3'],
      ['b', '2', 'A', '1', 'B', '3'],
      ['b', '2', 'A', '1', 'B', '3'],
    ],
    ['hop-by-hop fields end here', ['Connection', 'x-a', 'X-A', '1', 'Keep-Alive', 'y', 'Upgrade', 'h2'], [], []],
    [
      'origin-wide fields',
      ['Clear-Site-Data', '"*"', 'NEL', '{}', 'Alt-Svc', 'h3', 'Service-Worker-Allowed', '/'],
      ['Clear-Site-Data', '"*"', 'NEL', '{}', 'Service-Worker-Allowed', '/'],
      [],
    ],
    ['HSTS', ['Strict-Transport-Security', 'max-age=1; includeSubDomains'], [], []],
    ['Location, absolute path', ['Location', '/a'], ['Location', '/a'], ['Location', '/tunnel/TOKEN/a']],
    [
      'Location, local',
      ['location', 'http://127.0.0.1:8188/a?b#c'],
      ['location', 'https://abc.example.org/a?b#c'],
      ['location', 'https://edge.example.org/tunnel/TOKEN/a?b#c'],
    ],
    ['Location, relative', ['Location', 'a/../b'], ['Location', 'a/../b'], ['Location', 'a/../b']],
    [
      'Location, elsewhere',
      ['Location', 'http://localhost:81880/a'],
      ['Location', 'http://localhost:81880/a'],
      ['Location', 'http://localhost:81880/a'],
    ],
    [
      'Set-Cookie',
      ['Set-Cookie', 'a=1; Path=/x; Domain=localhost; HttpOnly'],
      ['Set-Cookie', 'a=1; Path=/x; HttpOnly'],
      ['Set-Cookie', `cyberun.${LABEL}.a=1; Path=/tunnel/TOKEN/x; HttpOnly`],
    ],
    [
      'a planted cookie of ours',
      ['Set-Cookie', 'cyberun-tunnel=x; Path=/', 'Set-Cookie', '__Host-cyberun-tunnel=y'],
      [],
      [],
    ],
    [
      'Link',
      ['Link', '</a.css>; rel=preload, <b>; rel=x, <//cdn/c>'],
      ['Link', '</a.css>; rel=preload, <b>; rel=x, <//cdn/c>'],
      ['Link', '</tunnel/TOKEN/a.css>; rel=preload, <b>; rel=x, <//cdn/c>'],
    ],
  ]
  test.each(cases)('%s', (_name, sent, onHost, onPath) => {
    expect(toBrowser(sent, host)).toEqual([...onHost, ...FLOOR.host])
    const got = toBrowser(sent, path)
    expect(got.slice(0, -2)).toEqual([...onPath, ...FLOOR.path])
    expect(got.at(-2)).toBe('Content-Security-Policy')
    expect(got.at(-1)).toMatch(/^sandbox /)
    expect(got.at(-1)).not.toContain('allow-same-origin')
  })

  test('the port door drops what speaks for its host name, and lets no other tunnel’s pages be taken from a cache', () => {
    const wide = ['Clear-Site-Data', '"*"', 'NEL', '{}', 'Strict-Transport-Security', 'max-age=1', 'Vary', 'Accept']
    const got = toBrowser([...wide, 'Location', '/a'], port)
    expect(got).toEqual(['Vary', 'Accept', 'Location', '/a', ...FLOOR.host, 'Vary', 'Cookie'])
  })

  test('pages that the operator let out of the sandbox have none', () => {
    expect(toBrowser([], open)).toEqual(FLOOR.path)
    expect(toBrowser([], open, 'null')).toEqual(FLOOR.path)
    expect(toBrowser([], { ...open, setCookie: 'a=1' })).toEqual([...FLOOR.path, 'Set-Cookie', 'a=1'])
  })

  test('a stricter Referrer-Policy stays, a weaker one does not', () => {
    const policies = (policy: string, door: Door) =>
      valuesOf(toBrowser(['Referrer-Policy', policy], door), 'referrer-policy')
    expect(policies('no-referrer', host)).toEqual(['no-referrer'])
    expect(policies('unsafe-url', host)).toEqual(['strict-origin-when-cross-origin'])
    expect(policies('no-referrer, unsafe-url', host)).toEqual(['strict-origin-when-cross-origin'])
    expect(policies('strict-origin', path)).toEqual(['same-origin'])
    expect(policies('unsafe-url, same-origin', path)).toEqual(['unsafe-url, same-origin'])
  })

  test('a sandboxed page may read what its own service answers', () => {
    const sent = ['Access-Control-Allow-Origin', '*', 'Access-Control-Allow-Credentials', 'true']
    const cors = ['Access-Control-Allow-Origin', 'null', 'Access-Control-Expose-Headers', '*']
    expect(toBrowser(sent, sandbox, 'null')).toEqual(expect.arrayContaining(cors))
    expect(toBrowser(sent, sandbox, 'null')).not.toContain('Access-Control-Allow-Credentials')
    expect(toBrowser(sent, sandbox, 'https://evil.example')).toEqual(expect.arrayContaining(sent))
    expect(toBrowser([], path, 'null')).not.toContain('Access-Control-Allow-Origin')
  })

  test('what only some answers may have', () => {
    const context = { door: host, target, requestOrigin: undefined }
    const fields = ['Content-Length', '0', 'Trailer', 'X']
    expect(rewriteResponse(fields, { ...context, status: 204, chunked: false })).toEqual(FLOOR.host)
    expect(rewriteInterim(['Link', '</a>', 'Connection', 'x'], { ...context, status: 103, chunked: false })).toEqual([
      'Link',
      '</a>',
    ])
    expect(rewriteTrailers(['X-Sum', '1', 'Set-Cookie', 'a=1', 'Connection', 'x', 'Location', '/'])).toEqual([
      'X-Sum',
      '1',
    ])
  })
})

test('references', () => {
  const cases: [reference: string, onHost: string, onPath: string][] = [
    ['', '', ''],
    ['?q', '?q', '?q'],
    ['/', '/', '/tunnel/TOKEN/'],
    ['/tunnel/TOKEN', '/tunnel/TOKEN', '/tunnel/TOKEN'],
    ['/tunnel/TOKENISH', '/tunnel/TOKENISH', '/tunnel/TOKEN/tunnel/TOKENISH'],
    ['http://localhost:8188', 'https://abc.example.org/', 'https://edge.example.org/tunnel/TOKEN/'],
    ['HTTP://LOCALHOST:8188?a', 'https://abc.example.org/?a', 'https://edge.example.org/tunnel/TOKEN/?a'],
    ['//[::1]:8188/a', 'https://abc.example.org/a', 'https://edge.example.org/tunnel/TOKEN/a'],
    ['https://edge.example.org/a', 'https://edge.example.org/a', 'https://edge.example.org/tunnel/TOKEN/a'],
    ['http://localhost:8188@evil/', 'http://localhost:8188@evil/', 'http://localhost:8188@evil/'],
    ['mailto:a@b', 'mailto:a@b', 'mailto:a@b'],
  ]
  for (const [reference, onHost, onPath] of cases) {
    expect(toVisitor(reference, host, target)).toBe(onHost)
    expect(toVisitor(reference, path, target)).toBe(onPath)
  }
  expect(refreshToVisitor('5; URL="/a"', path, target)).toBe('5; URL="/tunnel/TOKEN/a"')
  expect(refreshToVisitor('5', path, target)).toBe('5')
})

test('no field leaves its line, whatever its name and value', () => {
  const text = fc.string({
    unit: fc.constantFrom('a', '\r', '\n', '\0', ' ', ':', '\x7f', '\xff', 'Ā', '\t'),
    maxLength: 6,
  })
  fc.assert(
    fc.property(text, text, (name, value) => {
      let head: string
      try {
        head = formatHead('GET / HTTP/1.1', [name, value]).toString('latin1')
      } catch {
        return
      }
      expect(head).toBe(`GET / HTTP/1.1\r\n${name}: ${value}\r\n\r\n`)
      expect(head.split(/[\r\n\0]/).filter((line) => line !== '')).toHaveLength(2)
    }),
    { numRuns: 500 },
  )
})

test('any fields: what is added is there once, what ends here is gone, the rest is unchanged', () => {
  const names = fc.constantFrom(
    'X-A',
    'x-b',
    'Connection',
    'TE',
    'Cookie',
    'X-Forwarded-For',
    'Upgrade',
    'X_C',
    'Accept',
  )
  const values = fc.constantFrom(
    'x-a',
    'close',
    'X-Forwarded-For, x-b',
    'a=1; cyberun-tunnel=2',
    'trailers',
    'h2c',
    '*/*',
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(names, values), { maxLength: 8 }),
      fc.constantFrom(host, port, path, sandbox),
      (list, door) => {
        const got = toService(list.flat(), door)
        const kept = got.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase())
        for (const gone of ['upgrade', 'x-forwarded-for', 'x_c']) expect(kept).not.toContain(gone)
        expect(valuesOf(got, 'cookie').join()).not.toContain('cyberun-tunnel')
        expect(valuesOf(got, 'accept')).toEqual(valuesOf(list.flat(), 'accept'))
      },
    ),
    { numRuns: 500 },
  )
})
