/** Sweeps, one at a time, of which whoever asks gets one that begins after the asking; all who ask during one share the next. */
export class Sweeps {
  readonly #sweep: () => Promise<void>
  #underWay: Promise<void> | undefined
  #isAsked = false

  constructor(sweep: () => Promise<void>) {
    this.#sweep = sweep
  }

  /** What is being swept now and was asked for meanwhile; undefined when nothing is. */
  get underWay(): Promise<void> | undefined {
    return this.#underWay
  }

  /** Rejects with what the sweep throws. */
  ask(): Promise<void> {
    this.#isAsked = true
    this.#underWay ??= this.#sweepWhileAsked()
    return this.#underWay
  }

  async #sweepWhileAsked(): Promise<void> {
    try {
      while (this.#isAsked) {
        this.#isAsked = false
        await this.#sweep()
      }
    } finally {
      // In the turn in which it was last looked whether somebody asks: who asks later gets a sweep of their own.
      this.#underWay = undefined
    }
  }
}
