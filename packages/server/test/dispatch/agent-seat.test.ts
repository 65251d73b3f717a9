import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { AgentConnection } from '../../src/agents/types.ts'
import { AgentSeat, attemptKey } from '../../src/dispatch/agent-seat.ts'
import { connection } from './agent-connection.ts'

const EXPECT_MS = 15_000
const RUNNING = [
  { task_id: 'task-1', fence: 1 },
  { task_id: 'task-2', fence: 4 },
]

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function seatOf(agent: AgentConnection): AgentSeat {
  const seat = new AgentSeat('team-1', 'a')
  seat.seated(agent)
  seat.isReconciled = true
  return seat
}

test('attempts that a hello named take their slots until they are attached, or for so long', () => {
  const seat = seatOf(connection({ running: RUNNING }))
  const onOver = vi.fn()
  seat.expectFor(EXPECT_MS, onOver)
  expect(seat.free(0)?.freeSlots).toBe(1)
  seat.expectNoMore(attemptKey({ taskId: 'task-1', fence: 1 }))
  expect(seat.free(0)?.freeSlots).toBe(2)
  vi.advanceTimersByTime(EXPECT_MS)
  expect([seat.free(0)?.freeSlots, onOver.mock.calls.length]).toEqual([3, 1])
})

test('nothing waits for an agent that came back with nothing, nor for one whose link is over', () => {
  seatOf(connection({})).expectFor(EXPECT_MS, () => {})
  expect(vi.getTimerCount()).toBe(0)
  const agent = connection({ running: RUNNING })
  const seat = seatOf(agent)
  seat.expectFor(EXPECT_MS, () => {})
  expect(vi.getTimerCount()).toBe(1)
  seat.left(agent)
  expect(vi.getTimerCount()).toBe(0)
})

test('the next link expects what its own hello named, for its own time', () => {
  const seat = seatOf(connection({ running: RUNNING }))
  seat.expectFor(EXPECT_MS, () => {})
  seat.seated(connection({ running: RUNNING.slice(1) }))
  expect(vi.getTimerCount()).toBe(0)
  seat.isReconciled = true
  expect(seat.free(0)?.freeSlots).toBe(2)
})

test('a claimed attempt takes its slot until it was sent', () => {
  const seat = seatOf(connection({}))
  const sent = seat.reserve('task-3 1')
  expect([seat.free(0)?.freeSlots, seat.isEmpty]).toEqual([2, false])
  sent()
  expect(seat.free(0)?.freeSlots).toBe(3)
})

test('an agent without a tool that works is given nothing', () => {
  expect(seatOf(connection({ tools: [] })).free(0)).toBeUndefined()
  expect(seatOf(connection({ tools: [{ type: 'demo', version: '1', state: 'unhealthy' }] })).free(0)).toBeUndefined()
})
