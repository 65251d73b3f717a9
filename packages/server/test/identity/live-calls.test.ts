import { expect, test } from 'vitest'
import { createLocalBus } from '../../src/bus.ts'
import { LiveCalls } from '../../src/identity/live-calls.ts'

test('a call that was let in before the stop, and lasts only from then on, is over at once', () => {
  const calls = new LiveCalls(createLocalBus())
  const caller = { kind: 'user', userId: 'ada', familyId: 'family-1' } as const
  const before = calls.hold(caller, 'team-1')
  expect(before.signal.aborted).toBe(false)
  calls.stop()
  expect([before.signal.aborted, calls.hold(caller, 'team-1').signal.aborted]).toEqual([true, true])
})
