/** Passes on the latest value, at most one each `everyMs`. */
export interface Latest<T> {
  offer(value: T): void
  /** Passes on at once what waits; at the end, so that the last value is not lost. */
  flush(): void
  /** Forgets what waits. */
  stop(): void
}

/** The first value goes at once; later ones replace each other until their time has come. `now` is monotonic. */
export function latestWins<T>(everyMs: number, pass: (value: T) => void, now: () => number): Latest<T> {
  let waiting: { value: T } | undefined
  let timer: NodeJS.Timeout | undefined
  let passedAt = Number.NEGATIVE_INFINITY

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    const next = waiting
    waiting = undefined
    if (!next) return
    passedAt = now()
    pass(next.value)
  }

  return {
    offer(value) {
      waiting = { value }
      if (timer !== undefined) return
      const waitMs = passedAt + everyMs - now()
      if (waitMs <= 0) flush()
      else timer = setTimeout(flush, waitMs)
    },
    flush,
    stop() {
      clearTimeout(timer)
      timer = undefined
      waiting = undefined
    },
  }
}
