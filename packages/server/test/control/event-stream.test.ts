import type { ServerResponse } from 'node:http'
import { Writable } from 'node:stream'
import { beforeEach, expect, test, vi } from 'vitest'
import { sendEventStream } from '../../src/control/event-stream.ts'
import type { EventFeed } from '../../src/tasks/task-feed.ts'

const KEEP_ALIVE_MS = 15_000
const STALL_MS = 60_000

/** The response of a reader that takes one write at a time, and only when it is told to. */
class ReaderResponse extends Writable {
  readonly taken: string[] = []
  #take: (() => void) | undefined

  constructor() {
    super({ highWaterMark: 1 })
  }

  writeHead(): this {
    return this
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.taken.push(chunk.toString())
    this.#take = done
  }

  /** Takes what is on its way. */
  async take(): Promise<void> {
    this.#take?.()
    await turn()
  }
}

/** Lets everything happen that waits for no timer. */
const turn = () => vi.advanceTimersByTimeAsync(0)

/** A feed that gives what it is told to. */
function feedOf() {
  let give: (events: Uint8Array | undefined) => void = () => {}
  const feed: Pick<EventFeed, 'next'> = {
    next: (signal) =>
      new Promise((resolve) => {
        give = resolve
        if (signal.aborted) resolve(undefined)
        signal.addEventListener('abort', () => resolve(undefined), { once: true })
      }),
  }
  return { feed: feed as EventFeed, give: (text: string) => give(Buffer.from(text)) }
}

async function stream() {
  const response = new ReaderResponse()
  const { feed, give } = feedOf()
  const ending = new AbortController()
  const sent = sendEventStream(response as unknown as ServerResponse, feed, ending.signal)
  await turn()
  await response.take()
  return { response, give, ending, sent }
}

beforeEach(() => {
  vi.useFakeTimers()
  return () => void vi.useRealTimers()
})

test('silence is broken by a comment every 15 s, counted from the last event', async () => {
  const { response, give, ending, sent } = await stream()
  expect(response.taken).toEqual(['retry: 2000\n\n'])
  await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS - 1)
  give('data: 1\n\n')
  await turn()
  await response.take()
  await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS - 1)
  expect(response.taken.slice(1)).toEqual(['data: 1\n\n'])
  await vi.advanceTimersByTimeAsync(1)
  await response.take()
  await vi.advanceTimersByTimeAsync(KEEP_ALIVE_MS)
  await response.take()
  expect(response.taken.slice(2)).toEqual([': still here\n\n', ': still here\n\n'])
  ending.abort()
  await sent
  expect(response.writableEnded).toBe(true)
  expect(vi.getTimerCount()).toBe(0)
})

test('a reader that takes nothing for 60 s is cut off, and gets no comments meanwhile', async () => {
  const { response, give, sent } = await stream()
  give('data: 1\n\n')
  await vi.advanceTimersByTimeAsync(STALL_MS - 1)
  expect(response.destroyed).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  await sent
  expect(response.destroyed).toBe(true)
  expect(response.taken).toEqual(['retry: 2000\n\n', 'data: 1\n\n'])
  expect(vi.getTimerCount()).toBe(0)
})

test('a reader that hung up before its stream began is not waited for', async () => {
  const response = new ReaderResponse()
  response.destroy()
  await turn()
  await sendEventStream(response as unknown as ServerResponse, feedOf().feed, new AbortController().signal)
  expect(vi.getTimerCount()).toBe(0)
})

test('a reader that is slow is waited for', async () => {
  const { response, give, ending, sent } = await stream()
  for (const at of [1, 2, 3]) {
    give(`data: ${at}\n\n`)
    await vi.advanceTimersByTimeAsync(STALL_MS - 1)
    await response.take()
  }
  expect(response.destroyed).toBe(false)
  expect(response.taken.slice(1)).toEqual(['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n'])
  ending.abort()
  await sent
})
