import { ClientError, mayMend, transportError } from './client-error.ts'
import { EventReader, type ReadEvent } from './event-reader.ts'
import type { TaskEvent } from './schemas/task-events.ts'

/** One event of a task. Stored ones have a number; live ones have none. */
export type FollowedEvent = TaskEvent & { number: number | undefined }

export interface FollowOptions {
  /** The last event already had; 0, the default, for all of them. */
  after?: number
  /** Told when the stream was cut, before it is asked for again. */
  onCut?(error: ClientError): void
}

const TERMINAL_EVENTS: ReadonlySet<string> = new Set(['completed', 'failed', 'cancelled'])
/** Until the server says otherwise with `retry`. */
const RETRY_MS = 2_000
const MAX_RETRY_MS = 30_000

/**
 * The events of a task until the one that ends it, through cuts and restarts: without a gap that is not announced, and
 * without a repeat. `open` asks for the stream after an event. Throws `ClientError` for a refusal that waiting does not
 * mend, and when `signal` aborts.
 */
export async function* followEvents(
  open: (after: number) => Promise<Response>,
  { after = 0, onCut }: FollowOptions,
  signal?: AbortSignal,
): AsyncGenerator<FollowedEvent, void> {
  let last = after
  let retryMs = RETRY_MS
  for (let cuts = 0; ; cuts++) {
    const reader = new EventReader()
    try {
      const response = await open(last)
      if (response.status === 204) return
      for await (const read of events(response, reader)) {
        const event = followed(read)
        cuts = 0
        last = event.number ?? last
        yield event
        if (TERMINAL_EVENTS.has(event.event)) return
      }
      throw new ClientError('unreachable', 'The stream of events ended before the task did.')
    } catch (error) {
      if (!(error instanceof ClientError) || !mayMend(error)) throw error
      onCut?.(error)
      retryMs = reader.retryMs ?? retryMs
      const asked = (error.retryAfterSeconds ?? 0) * 1000
      await pause(Math.max(asked, Math.min(MAX_RETRY_MS, retryMs * 2 ** Math.min(cuts, 8))), signal)
    }
  }
}

async function* events(response: Response, reader: EventReader): AsyncGenerator<ReadEvent> {
  try {
    // Its type, where the browser's library is not the newest, does not say that it can be read like this.
    for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) yield* reader.push(bytes)
  } catch (error) {
    throw error instanceof ClientError ? error : transportError(new URL(response.url), error)
  }
}

/** What it says is taken as our server said it, like every answer. */
function followed({ id, event, data }: ReadEvent): FollowedEvent {
  try {
    return { event, data: JSON.parse(data), number: id === undefined ? undefined : Number(id) } as FollowedEvent
  } catch (cause) {
    throw new ClientError('bad_answer', `The stream of events has a ${event} that is not JSON.`, { cause })
  }
}

/** Rejects when `signal` aborts. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(new ClientError('aborted', 'The call was cancelled.'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort)
      resolve()
    }, ms)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
}
