import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { formatKey, parseKey, redactSecrets } from '../src/secrets.ts'

test('a key tells its kind and nothing else passes', () => {
  for (const kind of ['sk', 'dk', 'ak'] as const) expect(parseKey(formatKey(kind, randomBytes(32)))).toBe(kind)
  for (const bad of ['', 'sk-', 'sk-abc', `xx-${'0'.repeat(49)}`, `sk-${'0'.repeat(48)}é`, `sk-${'0'.repeat(49)}\n`]) {
    expect(parseKey(bad)).toBeUndefined()
  }
})

test('the smallest and the largest key have the same length', () => {
  expect(formatKey('sk', new Uint8Array(32))).toHaveLength(52)
  expect(formatKey('sk', new Uint8Array(32).fill(255))).toHaveLength(52)
})

test('every single-character edit is refused', () => {
  const key = formatKey('ak', randomBytes(32))
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
  for (let at = 3; at < key.length; at++) {
    for (const letter of alphabet) {
      if (letter !== key[at]) expect(parseKey(key.slice(0, at) + letter + key.slice(at + 1))).toBeUndefined()
    }
  }
})

test('redaction finds every kind of secret, whatever surrounds it', () => {
  const key = formatKey('sk', randomBytes(32))
  const token = randomBytes(32).toString('base64url')
  const jwt = `eyJ${'a'.repeat(30)}.eyJ${'b'.repeat(30)}.${'c'.repeat(43)}`
  const line = `{"a":"${key}","url":"http://x/tunnel/${token}/b?c","h":"Bearer ${jwt}","j":"${jwt}"}`
  const clean = redactSecrets(line)
  for (const secret of [key, token, jwt]) expect(clean).not.toContain(secret)
  expect(() => JSON.parse(clean)).not.toThrow()
})
