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
  ['\x1b\x1b[m', '\x1b[m'],
  ['a\x1b\x1bXx\x07]52;c;eA==\x07b', 'a]52;c;eA==\x07b'],
  ['a\x1b\x07]52;c;eA==\x07b', 'a\x07b'],
  ['a\x1b]0;x\x1b\x07]52;c;eA==\x07b', 'a\x07b'],
  ['a\u009d52;c;eA==\x07b', 'ab'],
  ['a\x1b\u009d52;c;eA==\u009c]b ©', 'a]b ©'],
  ['a\x1bktitle\x1b\\b', 'ab'],
  ['a\x1b]52;c;without an end', 'a'],
])('%j reaches the terminal as %j', (text, rest) => {
  expect(filtered(text)).toBe(rest)
})

test('how the bytes are cut never matters, and what comes out begins no string', () => {
  const bytes = fc.array(
    fc.constantFrom(...Buffer.from('a\x1b]P\\\x07[m_^X\x18;\x7fk \x9d\x9c\x90é', 'latin1'), 0xc2, 0x1b),
  )
  fc.assert(
    fc.property(bytes, fc.nat(), (list, at) => {
      const whole = Buffer.from(list)
      const filter = new OutputFilter()
      const cut = at % (whole.length + 1)
      const parts = [whole.subarray(0, cut), whole.subarray(cut)].map((part) => filter.filter(part))
      const rest = Buffer.from(new OutputFilter().filter(whole))
      expect(Buffer.concat(parts)).toEqual(rest)
      // A terminal obeys a control between ESC and its letter, and goes on; CAN and SUB cancel.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what a terminal looks for.
      expect(rest.toString('latin1')).not.toMatch(/\x1b[\0-\x17\x19\x1b-\x1f\x7f]*[PX\]^_k]|\xc2[\x90\x98\x9d-\x9f]/)
    }),
    { numRuns: 5_000 },
  )
})
