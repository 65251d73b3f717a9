import { expect, test } from 'vitest'
import type { RecordedEvent } from '../../src/store/task-events.ts'
import { type EventFeed, TaskFeed } from '../../src/tasks/task-feed.ts'
import { type ReadEvents, TaskWatch } from '../../src/tasks/task-watch.ts'

/** A journal that a test writes, and everybody who reads it. */
function journal() {
  const events: RecordedEvent[] = []
  let reads = 0
  let firstKept = 1
  let fails = false
  const read: ReadEvents = async (_taskId, after, limit) => {
    reads++
    if (fails) throw new Error('the store is away')
    const page = events.filter(({ number }) => number > after && number >= firstKept).slice(0, limit)
    const lastMissing = (page[0]?.number ?? events.length + 1) - 1
    return lastMissing > after ? { events: page, gap: { from: after + 1, to: lastMissing } } : { events: page }
  }
  let clock = 0
  const urlOf = (artifactId: string) => ({ url: `http://files/${artifactId}?at=${clock}`, expiresAt: clock + 60_000 })
  const errors: unknown[] = []
  const options = { taskId: 'task', read, urlOf, now: () => clock }
  const watch = new TaskWatch({ ...options, onReadError: (error) => errors.push(error) })
  return {
    watch,
    errors,
    reads: () => reads,
    write(...said: RecordedEvent['event'][]) {
      for (const event of said) events.push({ number: events.length + 1, at: 0, event })
    },
    /** Forgets what is older. */
    keepFrom: (number: number) => {
      firstKept = number
    },
    setFailing: (is: boolean) => {
      fails = is
    },
    pass: (ms: number) => {
      clock += ms
    },
    feed(after = 0, lostEnd: () => RecordedEvent | undefined = () => undefined): TaskFeed {
      const feed = new TaskFeed({ ...options, watch, lostEnd, onClose: () => {} })
      feed.startAfter(after)
      const isEnded = events.at(-1)?.event.kind === 'completed'
      watch.start({ eventCount: events.length, isEnded, progress: undefined }, after)
      return feed
    },
  }
}

const log = (line: string): RecordedEvent['event'] => ({ kind: 'log', stream: 'stdout', line, timestamp: 'then' })
const COMPLETED: RecordedEvent['event'] = { kind: 'completed', output: {} }
const signal = new AbortController().signal

/** Ids of the events in a piece; live ones by name. */
function idsIn(bytes: Uint8Array | undefined): (number | string)[] {
  const text = Buffer.from(bytes ?? []).toString()
  return text
    .split('\n\n')
    .filter((block) => block !== '')
    .map(
      (block) => Number(/^id: (\d+)$/m.exec(block)?.[1] ?? Number.NaN) || (/^event: (\w+)$/m.exec(block)?.[1] ?? '?'),
    )
}

/** Everything up to the end, with the bytes of the largest piece. */
async function drain(feed: EventFeed): Promise<{ ids: (number | string)[]; largest: number }> {
  const ids: (number | string)[] = []
  let largest = 0
  for (let piece = await feed.next(signal); piece !== undefined; piece = await feed.next(signal)) {
    ids.push(...idsIn(piece))
    largest = Math.max(largest, piece.byteLength)
  }
  return { ids, largest }
}

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, at) => first + at)

test('what was stored comes first, then what is stored later, then the end', async () => {
  const { feed, write, watch } = journal()
  write(log('a'), log('b'))
  const reader = feed()
  expect(idsIn(await reader.next(signal))).toEqual([1, 2])
  const next = reader.next(signal)
  write(log('c'), COMPLETED)
  watch.refresh()
  expect(idsIn(await next)).toEqual([3, 4])
  expect(await reader.next(signal)).toBeUndefined()
})

test('a thousand watchers of one task share the reading', async () => {
  const { feed, write, watch, reads } = journal()
  const readers = Array.from({ length: 1_000 }, () => feed())
  const pieces = readers.map((reader) => reader.next(signal))
  write(log('a'))
  watch.refresh()
  const got = await Promise.all(pieces)
  expect(new Set(got).size).toBe(1)
  expect(reads()).toBeLessThanOrEqual(3)
})

test('one who is far behind reads for itself, in pieces, and misses nothing', async () => {
  const { feed, write, watch } = journal()
  const slow = feed()
  const quick = feed()
  const lines = Array.from({ length: 3_000 }, (_, at) => log(`${at} ${'x'.repeat(at % 7 === 0 ? 16_000 : 20)}`))
  for (let at = 0; at < lines.length; at += 50) {
    write(...lines.slice(at, at + 50))
    watch.refresh()
    await quick.next(signal)
  }
  write(COMPLETED)
  watch.refresh()
  const { ids, largest } = await drain(slow)
  expect(ids).toEqual(upTo(3_001))
  expect(largest).toBeLessThan(160 * 1024)
})

test('however readers are late and join, each gets every event once', async () => {
  const { feed, write, watch } = journal()
  const drains: { after: number; got: ReturnType<typeof drain> }[] = []
  for (let round = 0; round < 200; round++) {
    write(...Array.from({ length: round % 5 }, () => log('x'.repeat((round * 997) % 4_000))))
    if (round % 3 === 0) watch.refresh()
    const after = Math.max(0, round - 40)
    drains.push({ after, got: drain(feed(after)) })
    if (round % 4 === 0) await Promise.resolve()
  }
  write(COMPLETED)
  watch.refresh()
  for (const { after, got } of drains) expect((await got).ids).toEqual(upTo(401, after + 1))
})

test('live events come only to those who are up to date, the latest of each kind', async () => {
  const { feed, write, watch } = journal()
  write(log('a'))
  const reader = feed()
  watch.show({ kind: 'progress', progress: 0.1 })
  watch.show({ kind: 'preview', content_type: 'image/png', data: 'AA==' })
  watch.show({ kind: 'progress', progress: 0.2 })
  expect(idsIn(await reader.next(signal))).toEqual([1])
  const live = await reader.next(signal)
  expect(idsIn(live)).toEqual(['progress', 'preview'])
  expect(Buffer.from(live ?? []).toString()).toContain('"progress":0.2')
})

test('who has everything sees what is live, also while the store is away', async () => {
  const { feed, write, watch, setFailing } = journal()
  write(log('a'))
  setFailing(true)
  const reader = feed(1)
  watch.show({ kind: 'progress', progress: 0.5 })
  expect(idsIn(await reader.next(signal))).toEqual(['progress'])
})

test('what an attempt showed is not shown of the next', async () => {
  const { feed, write, watch } = journal()
  const reader = feed()
  watch.show({ kind: 'progress', progress: 0.9 })
  write({ kind: 'status', status: 'waiting' })
  watch.refresh()
  expect(idsIn(await reader.next(signal))).toEqual(['progress'])
  expect(idsIn(await reader.next(signal))).toEqual([1])
  const late = feed(1)
  const next = late.next(signal)
  write({ kind: 'status', status: 'queued' })
  watch.refresh()
  expect(idsIn(await next)).toEqual([2])
})

test('what is past retention is a gap', async () => {
  const { feed, write, keepFrom } = journal()
  write(...Array.from({ length: 9 }, () => log('x')), COMPLETED)
  keepFrom(4)
  expect((await drain(feed())).ids).toEqual(['gap', ...upTo(10, 4)])
  keepFrom(11)
  const lostEnd = (): RecordedEvent => ({ number: 10, at: 0, event: COMPLETED })
  expect((await drain(feed(0, lostEnd))).ids).toEqual(['gap', 10])
  expect((await drain(feed(9, lostEnd))).ids).toEqual([10])
})

test('who comes long after an artifact gets a fresh URL for it', async () => {
  const { feed, write, pass } = journal()
  const artifact = { artifact_id: 'a', key: 'a', file_name: 'a.png', content_type: 'image/png', size: 1 }
  write({ kind: 'artifact', ...artifact })
  const text = async (reader: EventFeed) => Buffer.from((await reader.next(signal)) ?? []).toString()
  expect(await text(feed())).toContain('?at=0"')
  pass(3_600_000)
  expect(await text(feed())).toContain('?at=3600000"')
})

test('a store that is away is asked again at the next call', async () => {
  const { feed, write, watch, errors, setFailing } = journal()
  const reader = feed()
  const next = reader.next(signal)
  setFailing(true)
  write(log('a'))
  watch.refresh()
  await expect.poll(() => errors.length).toBe(1)
  setFailing(false)
  expect(watch.isBehind(1)).toBe(true)
  watch.refresh()
  expect(idsIn(await next)).toEqual([1])
})

test('a reader that is closed, or whose signal aborts, ends', async () => {
  const { feed, watch } = journal()
  const closed = feed()
  const next = closed.next(signal)
  closed.close()
  expect(await next).toBeUndefined()
  const ending = new AbortController()
  const aborted = feed()
  const waiting = aborted.next(ending.signal)
  ending.abort()
  expect(await waiting).toBeUndefined()
  aborted.close()
  expect(watch.watcherCount).toBe(0)
})
