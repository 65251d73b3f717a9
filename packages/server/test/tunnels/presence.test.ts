import { expect, test } from 'vitest'
import { PRESENCE_LIMITS, Presence } from '../../src/tunnels/presence.ts'

test('a viewer is an address with a user agent, here while anything is open and for a minute after', () => {
  const presence = new Presence()
  const tab = presence.enter('192.0.2.1', 'Firefox', 1_000)
  expect(presence.enter('192.0.2.1', 'Firefox', 2_000)).toBe(tab)
  presence.enter('192.0.2.1', 'curl', 3_000)
  expect(presence.list(3_000, 10).map(({ userAgent, openCount }) => [userAgent, openCount])).toEqual([
    ['curl', 1],
    ['Firefox', 2],
  ])
  presence.leave(tab, 4_000)
  presence.leave(tab, 5_000)
  expect(presence.count(5_000 + PRESENCE_LIMITS.awayMs - 1)).toBe(2)
  expect(presence.count(5_000 + PRESENCE_LIMITS.awayMs)).toBe(1)
  expect([presence.hasAddress('192.0.2.1', 1e9), presence.hasAddress('192.0.2.2', 1e9)]).toEqual([true, false])
  expect(presence.lastSeenAt).toBe(5_000)
  const again = presence.enter('192.0.2.1', 'Firefox', 1e9)
  expect(again).toMatchObject({ connectedAt: 1e9, openCount: 1 })
})

test('a crowd is bounded: who is away goes first, who does not fit is not shown', () => {
  const presence = new Presence()
  const viewers = Array.from({ length: PRESENCE_LIMITS.viewers }, (_, i) => presence.enter(`10.0.0.${i}`, '', i))
  const extra = presence.enter('192.0.2.1', '', 2_000)
  expect(presence.count(2_000)).toBe(PRESENCE_LIMITS.viewers)
  presence.leave(extra, 2_001)
  const [first] = viewers
  if (first) presence.leave(first, 2_002)
  presence.enter('192.0.2.2', '', 2_003)
  expect([presence.hasAddress('10.0.0.0', 2_003), presence.hasAddress('192.0.2.2', 2_003)]).toEqual([false, true])
  expect(presence.list(2_003, 100)).toHaveLength(100)
})

test('a user agent is cut', () => {
  const { userAgent } = new Presence().enter('192.0.2.1', 'x'.repeat(10_000), 0)
  expect(userAgent).toHaveLength(PRESENCE_LIMITS.userAgentCharacters)
})
