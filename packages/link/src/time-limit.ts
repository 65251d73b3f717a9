/** Bounds a wait. Ends with `using`: a timer of `AbortSignal.timeout` would outlive the wait it was made for. */
export interface TimeLimit extends Disposable {
  /** Aborts with a `TimeoutError` when the time is over, or with the reason of the signal that was given. */
  readonly signal: AbortSignal
}

export function timeLimit(ms: number, outer?: AbortSignal): TimeLimit {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(new DOMException(`not done in ${ms} ms`, 'TimeoutError')), ms)
  return {
    signal: outer ? AbortSignal.any([outer, controller.signal]) : controller.signal,
    [Symbol.dispose]: () => clearTimeout(timer),
  }
}
