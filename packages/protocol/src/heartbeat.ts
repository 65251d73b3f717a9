/** Without a byte from the peer for this long, ask for one. */
const QUIET_MS = 2_000
/** Without a byte from the peer for this long, it is gone. */
const DEAD_MS = 4_500
/** While data arrives, its end of the path is measured this often, and the peer hears from us as often. */
const MEASURE_MS = 1_000
/** A tick this late means that we slept: what the peer said meanwhile has not been read yet. */
const LATE_MS = 500
/** How many round trips the shortest is taken of. */
const SAMPLES = 8
/** So many pings follow each other at once in the beginning: the first alone measures how busy an end is that just began. */
const FIRST_PINGS = 8

export type Pulse = 'ping' | 'dead' | undefined

/**
 * Knows when to ping, when the peer is dead, and how long a round trip takes. `patienceMs` is added to the quiet time
 * of one end, so that only the other one pings an idle link.
 */
export class Heartbeat {
  readonly #quietMs: number
  #heardAt: number
  #pingAt: number
  /** The ping on its way, if any. */
  #asked: { token: number; at: number } | undefined
  #nextToken = 1
  #dataSincePing = false
  #smoothedMs: number | undefined
  readonly #samples: number[] = []

  constructor(now: number, patienceMs: number) {
    this.#quietMs = QUIET_MS + patienceMs
    this.#heardAt = now
    this.#pingAt = now
  }

  /** Exponentially smoothed round trip, for people. */
  get roundTripMs(): number | undefined {
    return this.#smoothedMs
  }

  /** The shortest recent round trip: what the path takes when nothing queues on it. */
  get shortestMs(): number {
    return this.#samples.length === 0 ? 0 : Math.min(...this.#samples)
  }

  heard(now: number): void {
    this.#heardAt = now
  }

  dataArrived(): void {
    this.#dataSincePing = true
  }

  /** The token for a ping that is sent now. */
  ping(now: number): number {
    const token = this.#nextToken
    this.#nextToken = (this.#nextToken + 1) >>> 0
    this.#asked = { token, at: now }
    this.#pingAt = now
    this.#dataSincePing = false
    return token
  }

  pong(token: number, now: number): void {
    if (this.#asked?.token !== token) return
    const sample = now - this.#asked.at
    const isQuiet = !this.#dataSincePing
    this.#asked = undefined
    this.#smoothedMs = this.#smoothedMs === undefined ? sample : this.#smoothedMs * 0.875 + sample * 0.125
    // A ping beside bulk data measures our own queues too. Were that taken for the path's, windows would grow by what they queue.
    if (!isQuiet && this.#samples.length > 0 && sample >= this.shortestMs) return
    this.#samples.push(sample)
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  /** True while each pong is to be answered with the next ping. */
  get isBeginning(): boolean {
    return this.#nextToken <= FIRST_PINGS
  }

  nextDeadline(): number {
    return Math.min(this.#pingDue(), this.#heardAt + DEAD_MS)
  }

  tick(now: number): Pulse {
    const due = this.nextDeadline()
    if (now < due) return undefined
    if (now - due > LATE_MS) {
      this.#heardAt = Math.max(this.#heardAt, now - QUIET_MS)
      return 'ping'
    }
    return now >= this.#heardAt + DEAD_MS ? 'dead' : 'ping'
  }

  #pingDue(): number {
    if (this.#dataSincePing) return this.#pingAt + MEASURE_MS
    return Math.max(this.#heardAt, this.#pingAt) + this.#quietMs
  }
}
