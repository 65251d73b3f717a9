import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatAge, formatBytes, printable, printableJson } from '../src/text.ts'

const TRICKS = [
  '\u001b]0;title\u0007',
  '\u001b[2J',
  '\u009b31m',
  'line\nbreak',
  '\r',
  '\u007f',
  '\u202eevil',
  '\u2066x',
  '\u2028',
]

test.each(TRICKS)('what a terminal would obey is written out: %j', (trick) => {
  expect(printable(`a${trick}b`)).toMatch(/^a.*\\u\{[0-9a-f]+\}.*b$/)
  expect(printable(printable(trick))).toBe(printable(trick))
})

test('names in any script stay as they are', () => {
  const name = 'Büro-1 工作室 مكتب 🎬'
  expect(printable(name)).toBe(name)
})

test('JSON keeps the value and holds nothing a terminal would obey', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(...TRICKS), (value, trick) => {
      const sent = { value, [trick]: trick }
      const text = printableJson(sent)
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(sent)))
      expect(text).not.toMatch(/[\p{Cc}\u2028\u202a-\u202e\u2066-\u2069]/u)
    }),
  )
})

test('sizes and ages are rounded to what a person reads', () => {
  expect([0, 1023, 1024, 1536, 150 * 1024 ** 2, 3 * 1024 ** 4].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '150 MiB',
    '3.0 TiB',
  ])
  const now = Date.parse('2030-01-02T00:00:00Z')
  const ages = [
    '2030-01-02T00:00:05Z',
    '2030-01-01T23:59:30Z',
    '2030-01-01T23:58:00Z',
    '2030-01-01T12:00:00Z',
    '2029-12-30T00:00:00Z',
  ]
  expect(ages.map((at) => formatAge(at, now))).toEqual(['0 s ago', '30 s ago', '2 min ago', '12 h ago', '3 d ago'])
  expect(formatAge(null, now)).toBe('-')
})
