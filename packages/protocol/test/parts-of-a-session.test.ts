import { LIMITS } from '@cyberun/protocol'
import { describe, expect, test } from 'vitest'
import { Heartbeat } from '../src/heartbeat.ts'
import { RateLimit } from '../src/rate.ts'
import { GrowthBudget, ReceiveWindow } from '../src/receive-window.ts'
import { type Scheduled, Scheduler } from '../src/scheduler.ts'

const stream = (rank: number): Scheduled => ({ rank, turnBytes: 0, nextScheduled: undefined, isScheduled: false })
const MIB = 1024 * 1024

describe('the scheduler', () => {
  test('takes the lower rank first, and each rank in turn', () => {
    const scheduler = new Scheduler<Scheduled>()
    const [a, b, control] = [stream(3), stream(3), stream(0)]
    for (const one of [a, b, control]) scheduler.add(one)
    expect([scheduler.take(), scheduler.take(), scheduler.take(), scheduler.take()]).toEqual([control, a, b, undefined])
  })

  test('a stream that was alone owes nothing to those who come later, and takes its turn like them', () => {
    const scheduler = new Scheduler<Scheduled>()
    const [first, later] = [stream(3), stream(3)]
    scheduler.add(first)
    expect(scheduler.take()).toBe(first)
    expect(scheduler.frameBytes(first, 0, MIB)).toBe(MIB)
    scheduler.sent(first, MIB)
    scheduler.add(later)
    expect(scheduler.take()).toBe(first)
    expect(scheduler.frameBytes(first, 0, MIB)).toBe(256 * 1024)
    scheduler.sent(first, 256 * 1024)
    expect(scheduler.take()).toBe(later)
  })

  test('hands little over while something light is alive, which a stream found to be bulk is not', () => {
    const scheduler = new Scheduler<Scheduled>()
    const light = { ...stream(2), rank: 2 }
    expect(scheduler.handoverBytes(0)).toBe(MIB)
    scheduler.moved(light, 0)
    expect([scheduler.handoverBytes(499), scheduler.handoverBytes(501)]).toEqual([128 * 1024, MIB])
    scheduler.moved(light, 600)
    light.rank = 3
    expect(scheduler.handoverBytes(601)).toBe(MIB)
  })
})

describe('a receive window', () => {
  test('doubles while half of it is consumed in a round trip, stops at its bounds, and rests', () => {
    const budget = new GrowthBudget(3 * MIB)
    const window = new ReceiveWindow(LIMITS, budget, 256 * 1024, 256 * 1024)
    const sizes: number[] = []
    for (let now = 50; now <= 400; now += 50) {
      const bytes = window.size
      window.takeCredit()
      expect(window.arrived(Math.min(bytes, 256 * 1024), now)).toBe(true)
      window.consumed(bytes, now, 50, 1)
      sizes.push(window.size)
    }
    expect(sizes.at(-1)).toBe(256 * 1024 + 3 * MIB)
    expect(window.rest(4_000)).toBe(false)
    expect(window.rest(6_000)).toBe(true)
    expect(window.size).toBe(256 * 1024)
    expect(budget.take(4 * MIB)).toBe(3 * MIB)
  })

  test.each([
    { grown: 1, mib: 8 },
    { grown: 2, mib: 4 },
    { grown: 16, mib: 1 },
  ])('grows to $mib MiB on a path without delay when $grown of its link grow', ({ grown, mib }) => {
    const window = new ReceiveWindow(LIMITS, new GrowthBudget(64 * MIB), 256 * 1024, 256 * 1024)
    // 0.8 GiB a second, of which a round trip of 0.1 ms holds next to nothing.
    for (let now = 50; now <= 1_000; now += 50) window.consumed(40 * MIB, now, 0.1, grown)
    expect(window.size).toBe(mib * MIB)
  })

  test('gives credit back in quarters, and none for what is held', () => {
    const window = new ReceiveWindow(LIMITS, new GrowthBudget(0), 1000, 1000)
    window.arrived(800, 0)
    expect(window.takeCredit()).toBe(0)
    window.consumed(200, 0, 1, 0)
    expect(window.takeCredit()).toBe(0)
    window.consumed(100, 0, 1, 0)
    expect([window.takeCredit(), window.held]).toEqual([300, 500])
    expect(window.arrived(501, 0)).toBe(false)
  })
})

describe('a heartbeat', () => {
  test('that slept asks once more before it believes in death', () => {
    const beat = new Heartbeat(0, 0)
    expect(beat.tick(3_600_000)).toBe('ping')
    beat.ping(3_600_000)
    expect(beat.tick(3_600_000 + 2_000)).toBe('ping')
    beat.ping(3_600_000 + 2_000)
    expect(beat.tick(3_600_000 + 2_510)).toBe('dead')
  })

  test('knows the shortest of the recent round trips, and ignores a pong nobody asked for', () => {
    const beat = new Heartbeat(0, 0)
    for (const [at, took] of [
      [0, 30],
      [100, 10],
      [200, 50],
    ] as const) {
      beat.pong(beat.ping(at), at + took)
    }
    beat.pong(99, 1)
    expect(beat.shortestMs).toBe(10)
    expect(beat.roundTripMs).toBeCloseTo((30 * 0.875 + 10 * 0.125) * 0.875 + 50 * 0.125)
  })
})

test('a rate allows a burst of a second, then its share', () => {
  const rate = new RateLimit(10, 0)
  const allowed = (now: number): number => Array.from({ length: 30 }, () => rate.take(now)).filter(Boolean).length
  expect([allowed(0), allowed(500), allowed(10_000)]).toEqual([10, 5, 10])
})
