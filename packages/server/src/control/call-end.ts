import type { ServerResponse } from 'node:http'

/** When a call is no longer worth working on. */
export interface CallEnd extends Disposable {
  /** Aborts when the caller hangs up, and with a `TimeoutError` when the deadline passes. */
  readonly signal: AbortSignal
  /** Nobody is left to answer. */
  readonly isHungUp: boolean
}

/** Watches a call until the end is disposed of: unlike `AbortSignal.timeout` it leaves no timer behind that waits for its time. */
export function watchCall(response: ServerResponse, deadlineMs: number): CallEnd {
  const ending = new AbortController()
  let isHungUp = response.destroyed
  const hangUp = (): void => {
    isHungUp = true
    ending.abort()
  }
  if (isHungUp) ending.abort()
  response.once('close', hangUp)
  const timer = setTimeout(() => ending.abort(new DOMException('the deadline passed', 'TimeoutError')), deadlineMs)
  return {
    signal: ending.signal,
    get isHungUp() {
      return isHungUp
    },
    [Symbol.dispose]() {
      clearTimeout(timer)
      response.off('close', hangUp)
    },
  }
}
