import fc from 'fast-check'
import { expect, test } from 'vitest'
import { safeFileName } from '../src/file-name.ts'

test.each([
  ['cat.png', 'cat.png'],
  ['été 猫.png', 'été 猫.png'],
  ['../../etc/passwd', 'passwd'],
  ['C:\\Windows\\system.ini', 'system.ini'],
  ['a\r\nSet-Cookie: x=1.png', 'aSet-Cookie_ x=1.png'],
  ['photo\u202egnp.exe', 'photognp.exe'],
  ['nul\u0000l.txt', 'null.txt'],
  ['"quoted"; filename=x', '_quoted_; filename=x'],
  ['.bashrc', 'bashrc'],
  ['-rf', 'rf'],
  ['trailing. . ', 'trailing'],
  ['NUL.txt', '_NUL.txt'],
  ['com1', '_com1'],
  ['..', 'file'],
  ['', 'file'],
  ['folder/', 'file'],
  ['\ud800', 'file'],
  ['e\u0301.png', 'é.png'],
  [`${'長'.repeat(100)}.safetensors`, `${'長'.repeat(62)}.safetensors`],
  [`a.${'x'.repeat(300)}`, `a.${'x'.repeat(198)}`],
])('%j becomes %j', (raw, safe) => {
  expect(safeFileName(raw)).toBe(safe)
})

test('whatever comes in, what comes out is one plain name, and stays as it is', () => {
  const hostile = fc.string({ unit: 'binary', maxLength: 300 })
  const spiced = fc.array(fc.constantFrom('../', '\\', '\r\n', '\u202e', '.', ' ', 'con', '\u0000', 'é', '"', '.png'), {
    maxLength: 120,
  })
  fc.assert(
    fc.property(
      fc.oneof(
        hostile,
        spiced.map((parts) => parts.join('')),
      ),
      (raw) => {
        const safe = safeFileName(raw)
        expect(safe).not.toBe('')
        expect(Buffer.byteLength(safe)).toBeLessThanOrEqual(201)
        expect(safe).not.toMatch(/[/\\<>:"|?*%\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069\u2028\u2029]|^[.\s-]|[.\s]$/u)
        expect(safe.isWellFormed()).toBe(true)
        expect(safeFileName(safe)).toBe(safe)
      },
    ),
    { numRuns: 200 },
  )
})
