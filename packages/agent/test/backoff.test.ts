import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EAGER_FOR_MS, EAGER_WAIT_MS, FIRST_WAIT_MS, LONGEST_WAIT_MS, retryWait } from '../src/backoff.ts'

const ALMOST_ONE = 1 - Number.EPSILON

test('waits double from 250 ms to 30 s for a server that answers, with full jitter', () => {
  const longest = Array.from({ length: 10 }, (_, attempt) =>
    retryWait({ attempt, answered: true, downForMs: 0 }, ALMOST_ONE),
  )
  expect(longest).toEqual([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
  expect(retryWait({ attempt: 9, answered: true, downForMs: 0 }, 0)).toBe(0)
})

test('waits stay short while nobody answers, and for the first minutes only', () => {
  expect(retryWait({ attempt: 9, answered: false, downForMs: EAGER_FOR_MS - 1 }, ALMOST_ONE)).toBe(EAGER_WAIT_MS)
  expect(retryWait({ attempt: 9, answered: false, downForMs: EAGER_FOR_MS }, ALMOST_ONE)).toBe(LONGEST_WAIT_MS)
})

test('a wait is never below the wish of the server and never far above both', () => {
  fc.assert(
    fc.property(
      fc.nat(100_000),
      fc.boolean(),
      fc.nat(10_000_000),
      fc.option(fc.nat(3_600_000), { nil: undefined }),
      fc.double({ min: 0, max: ALMOST_ONE, noNaN: true }),
      (attempt, answered, downForMs, retryAfterMs, random) => {
        const wait = retryWait({ attempt, answered, downForMs, retryAfterMs }, random)
        expect(wait).toBeGreaterThanOrEqual(retryAfterMs ?? 0)
        expect(wait).toBeLessThanOrEqual((retryAfterMs ?? 0) + Math.max(LONGEST_WAIT_MS, FIRST_WAIT_MS))
      },
    ),
  )
})
