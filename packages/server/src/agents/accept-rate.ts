/**
 * How many agents may connect a second. Who comes too early is told when there will be room for it: the refused queue up
 * in a number, without being kept, so that a thousand of them are not all asked to come back at the same moment.
 */
export class AcceptRate {
  readonly #perSecond: number
  readonly #burst: number
  readonly #longestMs: number
  /** Accepts that may happen now. */
  #room: number
  /** Refused ones that were promised a later place. */
  #promised = 0
  #updatedAt: number

  constructor(limits: { acceptsPerSecond: number; acceptBurst: number; longestRetryAfterMs: number }, now: number) {
    this.#perSecond = limits.acceptsPerSecond
    this.#burst = limits.acceptBurst
    this.#longestMs = limits.longestRetryAfterMs
    this.#room = limits.acceptBurst
    this.#updatedAt = now
  }

  /** Undefined: come in. Else milliseconds after which to come back. */
  take(now: number): number | undefined {
    const gained = (Math.max(0, now - this.#updatedAt) / 1000) * this.#perSecond
    this.#room = Math.min(this.#burst, this.#room + gained)
    this.#promised = Math.max(0, this.#promised - gained)
    this.#updatedAt = now
    if (this.#room >= 1) {
      this.#room -= 1
      return undefined
    }
    this.#promised = Math.min(this.#promised + 1, (this.#longestMs / 1000) * this.#perSecond)
    return Math.min(this.#longestMs, Math.ceil((this.#promised / this.#perSecond) * 1000))
  }
}
