import { expect, test } from 'vitest'
import { retryWait } from '../../../agent/src/backoff.ts'
import { AcceptRate } from '../../../server/src/agents/accept-rate.ts'
import { AGENTS_LIMITS } from '../../../server/src/agents/limits.ts'

/** Numbers that look random and are the same in each run (a linear congruential generator). */
function repeatable(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** When each of `count` agents is back, in virtual milliseconds after the server is, all having lost it together. */
function storm(count: number, seed: number): number[] {
  const random = repeatable(seed)
  const rate = new AcceptRate(AGENTS_LIMITS, 0)
  const dials = Array.from({ length: count }, () => ({ at: random() * 100, attempt: 0 }))
  const back: number[] = []
  while (dials.length > 0) {
    dials.sort((a, b) => b.at - a.at)
    const dial = dials.pop()
    if (!dial) break
    const retryAfterMs = rate.take(dial.at)
    if (retryAfterMs === undefined) back.push(dial.at)
    else {
      // As on the wire, where Retry-After is whole seconds.
      const asked = Math.ceil(retryAfterMs / 1000) * 1000
      const wait = retryWait(
        { attempt: dial.attempt, answered: true, downForMs: dial.at, retryAfterMs: asked },
        random(),
      )
      dials.push({ at: dial.at + wait, attempt: dial.attempt + 1 })
    }
  }
  return back
}

test.each([1, 2, 3])('2,000 agents that reconnect at once are all back within 30 s (seed %i)', (seed) => {
  const back = storm(2_000, seed)
  expect(back.length).toBe(2_000)
  expect(Math.max(...back)).toBeLessThan(15_000)
})
