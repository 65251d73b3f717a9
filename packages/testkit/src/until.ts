import { setTimeout as delay } from 'node:timers/promises'

export interface Patience {
  /** What is waited for, as an error tells it; the source of `look` when absent. */
  what?: string | (() => string)
  /** Far longer than it takes, so that only what never comes is missed. */
  withinMs?: number
  /** From one look to the next. */
  everyMs?: number
}

/**
 * Waits for a condition where there is nothing to compare (else `expect.poll` tells more): looks until there is anything
 * but false and undefined, and resolves with it. Rejects with what did not come in time, or with what `look` throws.
 */
export async function until<T>(
  look: () => T | Promise<T>,
  { what = String(look), withinMs = 20_000, everyMs = 5 }: Patience = {},
): Promise<Exclude<T, false | undefined>> {
  for (const end = performance.now() + withinMs; ; await delay(everyMs)) {
    const seen = await look()
    if (seen !== false && seen !== undefined) return seen as Exclude<T, false | undefined>
    if (performance.now() > end) {
      throw new Error(`not within ${withinMs / 1000} s, but ${seen}: ${typeof what === 'string' ? what : what()}`)
    }
  }
}
