import type { Log } from '@cyberun/link/log'
import type { Store } from '../store/store.ts'
import { dropOldIdempotencyKeys } from '../store/submissions.ts'
import { dropOldEvents } from '../store/task-events.ts'

const ROUND_MS = 10 * 60_000
/** Keys of submissions that one statement forgets. */
const KEYS_AT_ONCE = 1_000

export interface RetentionOptions {
  store: Store
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  /** How long the events of a task are kept after its end. */
  eventRetentionMs: number
}

/** Forgets what is past its time: events of tasks that ended long ago, and keys of submissions. */
export async function forgetOld({ store, now, eventRetentionMs }: RetentionOptions): Promise<void> {
  const endedBefore = now() - eventRetentionMs
  while ((await dropOldEvents(store, endedBefore)) > 0);
  while ((await dropOldIdempotencyKeys(store, KEYS_AT_ONCE)) > 0);
}

/** Does that every ten minutes. The returned function stops it, once what runs now has ended. */
export function startRetention(options: RetentionOptions): () => Promise<void> {
  let running: Promise<void> | undefined
  const timer = setInterval(() => {
    running ??= forgetOld(options)
      // The next round finds the same again.
      .catch((error: unknown) => options.log.warn({ error }, 'tasks.retention_failed'))
      .finally(() => {
        running = undefined
      })
  }, ROUND_MS)
  return async () => {
    clearInterval(timer)
    await running
  }
}
