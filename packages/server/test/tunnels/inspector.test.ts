import { expect, test } from 'vitest'
import { INSPECTOR_LIMITS, Inspector } from '../../src/tunnels/inspector/inspector.ts'

/** An inspector on a clock that only the test moves. */
function inspectorAt(settings: { isBodyKept?: boolean; roundTripMs?: number } = {}) {
  const time = { now: 1_000_000, tick: 0, turnedOff: 0 }
  const inspector = new Inspector({
    clock: { now: () => time.now, tick: () => time.tick },
    isBodyKept: settings.isBodyKept ?? false,
    roundTripMs: () => settings.roundTripMs,
    turnOff: () => {
      time.turnedOff += 1
    },
  })
  const pass = (ms: number): void => {
    time.now += ms
    time.tick += ms
  }
  const begin = (path = '/') => inspector.begin({ method: 'GET', path, address: '127.0.0.1', replayOf: null })
  return { inspector, pass, begin, time }
}

/** Lets promises that have settled be noticed. */
const noticed = (): Promise<void> => Promise.resolve()

test('on a fresh connection the time until the agent reached the service is the agent’s', async () => {
  const { begin, pass } = inspectorAt()
  const entry = begin()
  pass(3) // for the agent's link
  const reached = Promise.withResolvers<void>()
  entry.asked(['Host', 'x'], false, reached.promise)
  pass(40)
  reached.resolve()
  await noticed()
  pass(7)
  entry.answered(200, [])
  pass(20)
  entry.responseBytes(new Uint8Array(10), false)
  pass(5)
  entry.ended()
  expect(entry.timing).toEqual({ totalMs: 75, visitorMs: 0, edgeMs: 0, agentMs: 43, serviceMs: 32, firstByteMs: 50 })
})

test('on a kept connection a round trip of the link is the agent’s, and never more than was waited', () => {
  const { begin, pass } = inspectorAt({ roundTripMs: 10 })
  const slow = begin()
  slow.asked([], false, undefined)
  pass(25)
  slow.answered(200, [])
  slow.ended()
  expect(slow.timing).toMatchObject({ agentMs: 10, serviceMs: 15, edgeMs: 0, totalMs: 25 })
  const quick = begin()
  quick.asked([], false, undefined)
  pass(4)
  quick.answered(200, [])
  quick.ended()
  expect(quick.timing).toMatchObject({ agentMs: 4, serviceMs: 0, totalMs: 4 })
})

test('an upload, and an answer that waits to be taken, are the visitor’s time', () => {
  const { begin, pass } = inspectorAt({ roundTripMs: 1 })
  const entry = begin()
  pass(2) // ours
  entry.asked([], true, undefined)
  pass(100)
  entry.requestBytes(new Uint8Array(5))
  entry.requestEnded()
  pass(11)
  entry.answered(200, [])
  entry.responseBytes(new Uint8Array(5), true)
  pass(50)
  entry.responseBytes(new Uint8Array(5), false)
  pass(8)
  entry.ended()
  expect(entry.timing).toEqual({ totalMs: 171, visitorMs: 150, edgeMs: 2, agentMs: 1, serviceMs: 18, firstByteMs: 113 })
})

test('a service that answers before it has the whole request is not charged to the visitor', () => {
  const { begin, pass } = inspectorAt()
  const entry = begin()
  entry.asked([], true, undefined)
  pass(10)
  entry.answered(413, [])
  pass(5)
  entry.ended()
  expect(entry.timing).toMatchObject({ totalMs: 15, visitorMs: 10, serviceMs: 5 })
})

test('a connection that is lost before it answered was the agent’s time', () => {
  const { begin, pass } = inspectorAt()
  const entry = begin()
  entry.asked([], false, undefined)
  pass(30)
  entry.asked([], false, Promise.resolve())
  pass(5)
  entry.answered(200, [])
  entry.ended()
  expect(entry.timing).toMatchObject({ totalMs: 35, agentMs: 35 })
})

test('a request that never reaches the service waited for its agent', () => {
  const { begin, pass } = inspectorAt()
  const entry = begin()
  pass(5_000)
  entry.ended({ code: 'agent_offline', status: 503 })
  expect(entry.timing).toMatchObject({ totalMs: 5_000, agentMs: 5_000, firstByteMs: null })
  expect(entry).toMatchObject({ status: 503, failure: 'agent_offline', isRequestWhole: false })
})

test('one request more than are kept forgets the oldest, and pages tell which are left', () => {
  const { inspector, begin } = inspectorAt()
  for (let i = 0; i < INSPECTOR_LIMITS.entries + 3; i++) begin().ended()
  expect(inspector.size).toBe(INSPECTOR_LIMITS.entries)
  expect(inspector.read(3)).toBeUndefined()
  expect(inspector.list(undefined, 2).map(({ number }) => number)).toEqual([1_002, 1_003])
  expect(inspector.list(0, 2).map(({ number }) => number)).toEqual([4, 5])
  expect(inspector.list(1_003, 2)).toEqual([])
})

test('bytes are bounded, too, and what left the ring keeps no body while it goes on', () => {
  const { inspector, begin } = inspectorAt({ isBodyKept: true })
  const oldest = begin()
  oldest.asked(['Content-Length', '70000'], true, undefined)
  const count = 2 * Math.ceil(INSPECTOR_LIMITS.bytes / INSPECTOR_LIMITS.bodyBytes)
  for (let i = 0; i < count; i++) {
    const entry = begin(`/${'x'.repeat(i)}`)
    entry.responseBytes(Buffer.alloc(INSPECTOR_LIMITS.bodyBytes + 1), false)
    entry.ended()
    expect(inspector.bytes).toBeLessThanOrEqual(INSPECTOR_LIMITS.bytes)
  }
  expect(inspector.size).toBeLessThan(count)
  oldest.requestBytes(Buffer.alloc(1_000))
  expect(oldest.requestBody).toMatchObject({ bytes: 1_000, kept: undefined })
  expect(inspector.bytes).toBeLessThanOrEqual(INSPECTOR_LIMITS.bytes)
})

test('a body is kept up to its bound, by copy, and only when asked', () => {
  const { begin } = inspectorAt({ isBodyKept: true })
  const entry = begin()
  const piece = Buffer.from('abc')
  entry.requestBytes(piece)
  piece.fill(0)
  expect(entry.requestBody.kept).toEqual({ bytes: Buffer.from('abc'), isWhole: true })
  entry.requestBytes(Buffer.alloc(INSPECTOR_LIMITS.bodyBytes))
  expect(entry.requestBody.kept?.isWhole).toBe(false)
  expect(entry.requestBody.kept?.bytes.length).toBe(INSPECTOR_LIMITS.bodyBytes)
  const other = inspectorAt().begin()
  other.requestBytes(Buffer.from('abc'))
  expect(other.requestBody).toMatchObject({ bytes: 3, kept: undefined })
})

test('an inspector that nobody reads turns itself off', () => {
  const { inspector, begin, pass, time } = inspectorAt()
  pass(INSPECTOR_LIMITS.unreadMs)
  inspector.list(undefined, 1)
  pass(INSPECTOR_LIMITS.unreadMs)
  begin()
  expect(time.turnedOff).toBe(0)
  pass(1)
  begin()
  expect(time.turnedOff).toBe(1)
})
