import type { Link, StreamEvents } from '@cyberun/link'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { measureRate } from '../src/doctor/echo.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

/** A link that takes one piece of 64 KiB at a time; what comes back, and when there is room again, the test tells. */
function narrowLink() {
  let events: StreamEvents | undefined
  const stream = { accepted: Promise.resolve(), write: () => false, reset() {} }
  const open: unknown = (_init: unknown, given: StreamEvents) => {
    events = given
    return stream
  }
  return {
    link: { open } as Link,
    answer: () => events?.onData({ bytes: new Uint8Array(65_536), headroom: 0, hold: () => () => {} }),
    drain: () => events?.onDrain(),
  }
}

test('a rate is told although all was back before there was room again, and nothing is sent any more', async () => {
  const { link, answer, drain } = narrowLink()
  const measuring = measureRate(link, new AbortController().signal)
  answer()
  vi.advanceTimersByTime(2_000)
  drain()
  expect(await measuring).toBe(32_768)
})

test('a machine that was busy until the time is up does not say that nothing came back, unless it is so', async () => {
  for (const isSilent of [false, true]) {
    const { link, answer } = narrowLink()
    const timeIsUp = new AbortController()
    const measuring = measureRate(link, timeIsUp.signal)
    if (!isSilent) answer()
    vi.advanceTimersByTime(4_000)
    timeIsUp.abort()
    if (isSilent) await expect(measuring).rejects.toThrow('nothing comes back')
    else expect(await measuring).toBe(16_384)
  }
})
