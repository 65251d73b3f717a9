import type { RunLimits } from './limits.ts'

type LadderLimits = Pick<RunLimits, 'againMs' | 'killMs' | 'giveUpMs'>

/**
 * How a run is ended: asked, asked again, killed, given up. Each step is a signal for the tool, but the last, which is
 * for us: a run that outlives its kill is answered for without it.
 */
export class CancelLadder {
  readonly #limits: LadderLimits
  readonly #asked = new AbortController()
  readonly #again = new AbortController()
  readonly #kill = new AbortController()
  readonly #gaveUp = Promise.withResolvers<void>()
  #timers: NodeJS.Timeout[] = []
  #isOver = false

  constructor(limits: LadderLimits) {
    this.#limits = limits
  }

  get asked(): AbortSignal {
    return this.#asked.signal
  }

  get again(): AbortSignal {
    return this.#again.signal
  }

  get kill(): AbortSignal {
    return this.#kill.signal
  }

  /** Resolves when the run has outlived its kill. */
  get gaveUp(): Promise<void> {
    return this.#gaveUp.promise
  }

  /** Takes the first step, the others follow in time unless the run is over. A second call changes nothing. */
  climb(reason: Error): void {
    if (this.#asked.signal.aborted) return
    if (!this.#isOver) this.#setTimers(reason)
    this.#asked.abort(reason)
  }

  /** Takes all steps at once, but the last. */
  leap(reason: Error): void {
    this.climb(reason)
    this.#again.abort(reason)
    this.#kill.abort(reason)
  }

  /** The run is over: no further step is taken in time, so that no timer keeps the process. */
  stop(): void {
    this.#isOver = true
    for (const timer of this.#timers) clearTimeout(timer)
  }

  #setTimers(reason: Error): void {
    const { againMs, killMs, giveUpMs } = this.#limits
    this.#timers = [
      setTimeout(() => this.#again.abort(reason), againMs),
      setTimeout(() => this.#kill.abort(reason), killMs),
      setTimeout(() => this.#gaveUp.resolve(), giveUpMs),
    ]
  }
}
