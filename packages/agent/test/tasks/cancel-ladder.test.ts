import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { CancelLadder } from '../../src/tasks/cancel-ladder.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const ladder = () => new CancelLadder({ againMs: 10, killMs: 30, giveUpMs: 45 })
const reason = new Error('cancelled')
const stepsOf = ({ asked, again, kill }: CancelLadder) => [asked, again, kill].map(({ aborted }) => aborted)

test('the steps are taken in time, and none after the run is over', () => {
  const climbed = ladder()
  climbed.climb(reason)
  expect(stepsOf(climbed)).toEqual([true, false, false])
  vi.advanceTimersByTime(10)
  expect(stepsOf(climbed)).toEqual([true, true, false])
  climbed.stop()
  vi.advanceTimersByTime(100)
  expect(stepsOf(climbed)).toEqual([true, true, false])
  expect(vi.getTimerCount()).toBe(0)
})

test('one that is climbed after its run is over leaves no timer, so that the process can end', () => {
  for (const step of ['climb', 'leap'] as const) {
    const late = ladder()
    late.stop()
    late[step](reason)
    expect(late.asked.aborted).toBe(true)
  }
  expect(vi.getTimerCount()).toBe(0)
})
