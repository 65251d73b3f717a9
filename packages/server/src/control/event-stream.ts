import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { EventFeed } from '../tasks/task-feed.ts'

/** One reader of a stream of events (WHATWG HTML, section 9.2). */

/** Proxies and load balancers cut what is silent for longer than this many times over (contract, section 5). */
const KEEP_ALIVE_MS = 15_000
/** A reader that takes nothing for so long is gone, or hopeless; it comes back with `Last-Event-ID`. */
const STALL_MS = 60_000
const KEEP_ALIVE = Buffer.from(': still here\n\n')
/** How long a client waits before it connects again, in milliseconds. */
const RETRY = Buffer.from('retry: 2000\n\n')

/** Heads an answer that is a stream of events. */
export const EVENT_STREAM_HEADERS = {
  'content-type': 'text/event-stream',
  // For nginx, which would else collect what is small.
  'x-accel-buffering': 'no',
  // So that a server that stops has not to wait for the client to let go of the connection.
  connection: 'close',
} as const

/** Sends `feed` until it ends, `signal` aborts or the reader is gone. Owns the response; never throws. */
export async function sendEventStream(response: ServerResponse, feed: EventFeed, signal: AbortSignal): Promise<void> {
  const gone = new AbortController()
  // It may have hung up while it was let in: that is said once.
  if (response.destroyed) gone.abort()
  else response.once('close', () => gone.abort())
  const over = AbortSignal.any([signal, gone.signal])
  const keepAlive = setInterval(() => {
    if (!response.writableNeedDrain) response.write(KEEP_ALIVE)
  }, KEEP_ALIVE_MS)
  try {
    response.writeHead(200, EVENT_STREAM_HEADERS)
    await send(response, RETRY, over)
    for (let events = await feed.next(over); events !== undefined; events = await feed.next(over)) {
      keepAlive.refresh()
      await send(response, events, over)
    }
  } catch {
    response.destroy() // It stalled, or the feed failed: whoever reads connects again, and meets the error at the head.
  } finally {
    clearInterval(keepAlive)
    response.end()
  }
}

/** Resolves when the socket takes more. Rejects when it took nothing for `STALL_MS`. */
async function send(response: ServerResponse, bytes: Uint8Array, over: AbortSignal): Promise<void> {
  if (over.aborted || response.write(bytes)) return
  const stalled = new AbortController()
  const timer = setTimeout(() => stalled.abort(), STALL_MS)
  try {
    await once(response, 'drain', { signal: AbortSignal.any([over, stalled.signal]) })
  } catch (error) {
    if (!over.aborted) throw error
  } finally {
    clearTimeout(timer)
  }
}
