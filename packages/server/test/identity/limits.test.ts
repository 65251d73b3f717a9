import { ApiError } from '@cyberun/api'
import { describe, expect, test } from 'vitest'
import { AttemptLimiter, addressKey } from '../../src/identity/limits.ts'

describe('the attempt limiter', () => {
  const attempt = (limiter: AttemptLimiter, key: string): number => {
    try {
      limiter.take(key)
      return 0
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'rate_limited') throw error
      return error.retryAfterSeconds ?? Number.NaN
    }
  }

  test('lets a burst pass, then one each time an attempt has come back', () => {
    let now = 0
    const limiter = new AttemptLimiter(6, () => now)
    const burst = Array.from({ length: 8 }, () => attempt(limiter, 'a'))
    expect(burst).toEqual([0, 0, 0, 0, 0, 0, 10, 10])
    now += 9_000
    expect(attempt(limiter, 'a')).toBe(1)
    now += 1_000
    expect([attempt(limiter, 'a'), attempt(limiter, 'a')]).toEqual([0, 10])
    expect(attempt(limiter, 'b')).toBe(0)
  })

  test('never holds more than its burst, whatever is given back or waited for', () => {
    let now = 0
    const limiter = new AttemptLimiter(3, () => now)
    for (let i = 0; i < 10; i++) limiter.giveBack('a')
    now += 3_600_000
    expect(Array.from({ length: 5 }, () => attempt(limiter, 'a') > 0)).toEqual([false, false, false, true, true])
  })

  test('does not lend when the clock goes back', () => {
    let now = 100_000
    const limiter = new AttemptLimiter(1, () => now)
    expect(attempt(limiter, 'a')).toBe(0)
    now = 0
    expect(attempt(limiter, 'a')).toBeGreaterThan(0)
  })
})

test.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:0DB8:0001:0002::1', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['1::8', '1:0:0:0'],
])('the address %s counts as %s', (address, key) => {
  expect(addressKey(address)).toBe(key)
})
