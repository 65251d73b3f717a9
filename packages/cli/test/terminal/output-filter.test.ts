import fc from 'fast-check'
import { expect, test } from 'vitest'
import { OutputFilter } from '../../src/terminal/output-filter.ts'

const filtered = (text: string): string => Buffer.from(new OutputFilter().filter(Buffer.from(text))).toString()

test.each([
  ['plain text\r\n', 'plain text\r\n'],
  ['\x1b[1;31mred\x1b[0m ✓ 日本', '\x1b[1;31mred\x1b[0m ✓ 日本'],
  ['a\x1b]0;title\x07b', 'ab'],
  ['a\x1b]52;c;eA==\x1b\\b', 'ab'],
  ['a\x1bP$qm\x1b\\b', 'ab'],
  ['a\x1b_G\x1b\\\x1b^x\x1b\\\x1bXy\x1b\\b', 'ab'],
  ['a\x1b]0;cut off\x18b', 'ab'],
  ['a\x1b]0;x\x1b[31mb', 'a\x1b[31mb'],
  ['a\x1b]0;x\x1b]52;c;y\x07b', 'ab'],
  ['\x1b\x1b[m', '\x1b\x1b[m'],
  ['a\x1b]52;c;without an end', 'a'],
])('%j reaches the terminal as %j', (text, rest) => {
  expect(filtered(text)).toBe(rest)
})

test('how the bytes are cut never matters, and what comes out begins no string', () => {
  const piece = fc.constantFrom('a', '\x1b', ']', 'P', '\\', '\x07', '[', 'm', '_', '^', 'X', '\x18', ';')
  fc.assert(
    fc.property(fc.array(piece), fc.nat(), (pieces, at) => {
      const text = pieces.join('')
      const filter = new OutputFilter()
      const cut = at % (text.length + 1)
      const parts = [text.slice(0, cut), text.slice(cut)].map((part) =>
        Buffer.from(filter.filter(Buffer.from(part))).toString(),
      )
      expect(parts.join('')).toBe(filtered(text))
      for (const string of [']', 'P', '_', '^', 'X']) expect(filtered(text)).not.toContain(`\x1b${string}`)
    }),
  )
})
