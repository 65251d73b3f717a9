import { describe, expect, test } from 'vitest'
import { type Asked, a, ask, b, based, EDGE, PORT, verdict, withPort } from './doors-bed.ts'

/** Requests that somebody reads otherwise than we do: the hosts they name, and their targets. */

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
