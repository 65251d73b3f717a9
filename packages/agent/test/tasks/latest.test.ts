import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { latestWins } from '../../src/tasks/latest.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function passing() {
  const passed: [number, number][] = []
  const latest = latestWins<number>(
    250,
    (value) => passed.push([Date.now(), value]),
    () => Date.now(),
  )
  vi.setSystemTime(0)
  return { passed, latest }
}

test('at most one value each interval is passed on, the latest, and none is late', () => {
  const { passed, latest } = passing()
  for (let value = 0; value <= 100; value++) {
    latest.offer(value)
    vi.advanceTimersByTime(10)
  }
  vi.advanceTimersByTime(1_000)
  expect(passed).toEqual([
    [0, 0],
    [250, 24],
    [500, 49],
    [750, 74],
    [1_000, 99],
    [1_250, 100],
  ])
})

test('what waits can be passed on at once, or forgotten', () => {
  const { passed, latest } = passing()
  latest.offer(1)
  latest.offer(2)
  latest.flush()
  latest.offer(3)
  latest.stop()
  vi.advanceTimersByTime(1_000)
  expect(passed.map(([, value]) => value)).toEqual([1, 2])
})
