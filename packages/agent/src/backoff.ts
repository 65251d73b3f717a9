/** How long to wait before dialling again (decision "Redial eagerly while nobody answers"). */

export const FIRST_WAIT_MS = 250
export const LONGEST_WAIT_MS = 30_000
/**
 * While nothing answers at all, a dial costs nobody anything, and the sooner we notice the network's return the better:
 * for the first minutes waits stay below this. A server that answers, if only with a refusal, gets the full back-off.
 */
export const EAGER_WAIT_MS = 800
export const EAGER_FOR_MS = 120_000

export interface RetryCase {
  /** Failures in a row, from 0. */
  attempt: number
  /** The server answered and said no: its load is worth sparing. */
  answered: boolean
  /** Since there was last a link, in milliseconds. */
  downForMs: number
  /** The server's wish, which is a least wait. */
  retryAfterMs?: number | undefined
}

/** Milliseconds until the next dial: doubling, full jitter (`random` is from [0, 1)), never before the server's wish. */
export function retryWait(retry: RetryCase, random: number): number {
  const eager = !retry.answered && retry.downForMs < EAGER_FOR_MS
  const ceiling = Math.min(FIRST_WAIT_MS * 2 ** Math.min(retry.attempt, 20), eager ? EAGER_WAIT_MS : LONGEST_WAIT_MS)
  if (retry.retryAfterMs === undefined) return Math.round(random * ceiling)
  // Everyone refused at once may have been told the same, so jitter spreads them; but the server's word weighs more than
  // our own count of failures.
  const spread = Math.min(Math.max(ceiling, 1_000), Math.max(retry.retryAfterMs, 1_000))
  return Math.round(retry.retryAfterMs + random * spread)
}
