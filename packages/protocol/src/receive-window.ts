import type { Limits } from './limits.ts'

/** Growth that all windows of a link share, in bytes. */
export class GrowthBudget {
  #left: number

  constructor(total: number) {
    this.#left = total
  }

  /** Takes up to `bytes` of what is left; returns what was taken. */
  take(bytes: number): number {
    const taken = Math.min(this.#left, bytes)
    this.#left -= taken
    return taken
  }

  give(bytes: number): void {
    this.#left += bytes
  }
}

/** After this long without data a grown window goes back to where it began. */
const IDLE_MS = 5_000
/** No round trip is taken for shorter than this: below it the clock and the event loop say more than the network. */
const SHORTEST_ROUND_TRIP_MS = 0.5
/**
 * A rate is taken over at least this long. A process that slept for a while reads a burst afterwards, and by the rate of
 * bursts every window grew to its largest: a byte beside a download on loopback then waited 60 ms instead of 12.
 */
const SHORTEST_SPAN_MS = 50
/**
 * So far a window need not be justified by the network: a quarter of it is a read, a frame and a credit, and each of them
 * costs a wake-up of somebody. 16 downloads with windows of 256 KiB cost twice the CPU, and one with 1 MiB a third more
 * than with 4; while 16 with 4 MiB each cost a sixth more than with 1, as nothing stays in the cache. One alone with 4
 * leaves cores idle while the other end waits for its turn; 16 bring no more than 8. So 8 MiB are shared by the windows
 * that grew, but each may have 1 (docs/decisions/0038).
 */
const EASY_BYTES = { least: 1024 * 1024, shared: 8 * 1024 * 1024 } as const
const EASY_ROUND_TRIP_MS = 20

/**
 * While something light is alive on the link, a bulk stream is granted this, or what its path needs when that is more:
 * what it has under way, in the kernels too, is what the light one waits behind.
 */
const BESIDE_LIGHT_BYTES = 256 * 1024

/**
 * How much the peer may send on one stream. What is granted and not yet sent, plus what is held here and not yet
 * consumed, stays within `size`; the difference is given back in quarters. When two thirds of the window or more are
 * consumed within one round trip, the window is what limits the sender, and it doubles.
 */
export class ReceiveWindow {
  readonly #limits: Limits
  readonly #budget: GrowthBudget
  /** Growth taken from the budget. */
  #growth = 0
  readonly #base: number
  /** What the peer may still send. */
  #granted: number
  /** What arrived and is not yet consumed. */
  #held = 0
  #measuredSince = 0
  #measuredBytes = 0
  /** What the path holds at the rate of late, and half as much again. */
  #neededBytes = 0
  #lastDataAt = 0

  constructor(limits: Limits, budget: GrowthBudget, base: number, granted: number) {
    this.#limits = limits
    this.#budget = budget
    this.#base = base
    this.#granted = granted
  }

  get size(): number {
    return this.#base + this.#growth
  }

  get held(): number {
    return this.#held
  }

  /** False when the peer sent more than it was granted. */
  arrived(bytes: number, now: number): boolean {
    if (bytes > this.#granted) return false
    this.#granted -= bytes
    this.#held += bytes
    this.#lastDataAt = now
    return true
  }

  /** Bytes of a stream that is over were released, or given up. */
  letGo(bytes: number): void {
    this.#held -= bytes
  }

  /** `grown`: how many windows of this link have grown. */
  consumed(bytes: number, now: number, roundTripMs: number, grown: number): void {
    this.letGo(bytes)
    this.#measuredBytes += bytes
    const elapsed = now - this.#measuredSince
    const isEasy = this.size < Math.max(EASY_BYTES.least, EASY_BYTES.shared / Math.max(1, grown))
    const shortest = isEasy ? EASY_ROUND_TRIP_MS : SHORTEST_ROUND_TRIP_MS
    const roundTrip = Math.max(roundTripMs, shortest)
    if (elapsed < Math.max(roundTrip, SHORTEST_SPAN_MS)) return
    const bytesPerMs = this.#measuredBytes / elapsed
    this.#neededBytes = bytesPerMs * Math.max(roundTripMs, SHORTEST_ROUND_TRIP_MS) * 1.5
    if (bytesPerMs * roundTrip * 1.5 >= this.size) this.#grow()
    this.#measuredSince = now
    this.#measuredBytes = 0
  }

  /** Credit to send now: 0, or at least a quarter of the window, which is smaller beside something light. */
  takeCredit(isBesideLight = false): number {
    const beside = Math.max(BESIDE_LIGHT_BYTES, this.#neededBytes)
    const size = isBesideLight ? Math.min(this.size, beside) : this.size
    const due = Math.floor(size) - this.#granted - this.#held
    if (due <= 0 || due < size / 4) return 0
    this.#granted += due
    return due
  }

  get isGrown(): boolean {
    return this.#growth > 0
  }

  /** Shrinks a window that has been idle; true when nothing is grown any more. */
  rest(now: number): boolean {
    if (now - this.#lastDataAt >= IDLE_MS) this.release()
    return !this.isGrown
  }

  /** Gives the growth back to the link. Harmless when there is none. */
  release(): void {
    this.#budget.give(this.#growth)
    this.#growth = 0
  }

  #grow(): void {
    this.#growth += this.#budget.take(Math.min(this.size, this.#limits.maxWindowBytes - this.size))
  }
}
