import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AcceptRate } from '../../src/agents/accept-rate.ts'

const LIMITS = { acceptsPerSecond: 200, acceptBurst: 400, longestRetryAfterMs: 60_000 }

test('a burst gets in at once, the rest is asked to come back one after the other', () => {
  const rate = new AcceptRate(LIMITS, 0)
  const answers = Array.from({ length: 2_000 }, () => rate.take(0))
  expect(answers.filter((answer) => answer === undefined).length).toBe(400)
  const waits = answers.filter((answer) => answer !== undefined)
  expect(waits[0]).toBe(5)
  expect(waits.at(-1)).toBe(8_000)
})

test('nobody is asked to stay away for longer than the longest wait', () => {
  const rate = new AcceptRate(LIMITS, 0)
  for (let i = 0; i < 100_000; i++) rate.take(0)
  expect(rate.take(0)).toBe(60_000)
  expect(rate.take(60_000)).toBeUndefined()
})

test('never more than the burst and the rate together, whenever they come', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { maxLength: 2_000 }), (gaps) => {
      const rate = new AcceptRate({ acceptsPerSecond: 20, acceptBurst: 5, longestRetryAfterMs: 60_000 }, 0)
      let now = 0
      let accepted = 0
      for (const gap of gaps) {
        now += gap
        if (rate.take(now) === undefined) accepted++
      }
      expect(accepted).toBeLessThanOrEqual(5 + Math.ceil((now / 1000) * 20))
    }),
  )
})
