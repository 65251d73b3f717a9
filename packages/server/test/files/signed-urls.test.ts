import { expect, test } from 'vitest'
import { UrlSigner } from '../../src/files/signed-urls.ts'

const KEY = Buffer.alloc(32, 7)
const AT = 1_700_000_000_000

function query(target: string): URLSearchParams {
  return new URL(target, 'http://host').searchParams
}

test('a URL is good for its method, its path and its time', () => {
  let now = AT
  const signer = new UrlSigner(KEY, () => now)
  const { target, expiresAt } = signer.sign('PUT', '/files/inputs/a', 60_000)
  expect(target).toMatch(/^\/files\/inputs\/a\?expires=1700000060&signature=[\w-]{43}$/)
  expect(expiresAt).toBe(AT + 60_000)
  expect(signer.check('PUT', '/files/inputs/a', query(target))).toBe('valid')
  expect(signer.check('GET', '/files/inputs/a', query(target)), 'another method').toBe('invalid')
  expect(signer.check('PUT', '/files/inputs/b', query(target)), 'another path').toBe('invalid')
  expect(new UrlSigner(Buffer.alloc(32, 8), () => now).check('PUT', '/files/inputs/a', query(target))).toBe('invalid')
  now = AT + 60_000
  expect(signer.check('PUT', '/files/inputs/a', query(target))).toBe('expired')
})

test.each(['', 'expires=1700000060', 'signature=abc', 'expires=1e99&signature=', 'expires=x&signature=%00'])(
  'what was never signed is invalid and not expired: %j',
  (text) => {
    expect(new UrlSigner(KEY, () => AT * 2).check('GET', '/files/artifacts/a', new URLSearchParams(text))).toBe(
      'invalid',
    )
  },
)

test('a longer life cannot be written into a URL', () => {
  const signer = new UrlSigner(KEY, () => AT)
  const { target } = signer.sign('GET', '/files/artifacts/a', 60_000)
  const longer = query(target.replace('1700000060', '1800000000'))
  expect(signer.check('GET', '/files/artifacts/a', longer)).toBe('invalid')
})
