import { expect, test } from 'vitest'
import { suggest } from '../src/suggest.ts'

test.each([
  ['prot', 'port'],
  ['pubic_url', 'public_url'],
  ['trustedproxies', 'trusted_proxies'],
])('%s was meant to be %s', (typed, meant) => {
  expect(suggest(typed, ['port', 'host', 'public_url', 'trusted_proxies'])).toBe(meant)
})

test('something else altogether is nobody', () => {
  expect(suggest('colour', ['port', 'public_url'])).toBeUndefined()
})
