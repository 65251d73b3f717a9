/** Passes values on, at most one in `everyMs`: the latest wins, and the last one is always passed on. */
export interface Latest<T> {
  offer(value: T): void
  /** Nothing is passed on from here; what waits is dropped. */
  stop(): void
}

export function createLatest<T>(everyMs: number, now: () => number, pass: (value: T) => void): Latest<T> {
  let passedAt: number | undefined
  let waiting: { value: T; timer: NodeJS.Timeout } | undefined
  let isStopped = false

  function passOn(value: T): void {
    passedAt = now()
    pass(value)
  }

  return {
    offer(value) {
      if (isStopped) return
      if (waiting) {
        waiting.value = value
        return
      }
      const restMs = passedAt === undefined ? 0 : passedAt + everyMs - now()
      if (restMs <= 0) {
        passOn(value)
        return
      }
      const timer = setTimeout(() => {
        const due = waiting
        waiting = undefined
        if (due) passOn(due.value)
      }, restMs)
      waiting = { value, timer }
    },
    stop() {
      isStopped = true
      clearTimeout(waiting?.timer)
      waiting = undefined
    },
  }
}
