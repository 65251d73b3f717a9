/** One run at a time, first come first served: ComfyUI runs one prompt at a time anyway. */
export class Turns {
  #waiting: { begin(): void; tell(position: number): void }[] = []
  #taken = false

  /** Whether somebody has the turn. */
  get taken(): boolean {
    return this.#taken
  }

  /**
   * Waits for one's turn; `tell` learns how many are in front, each time that changes. Resolves with what gives the
   * turn back (twice is harmless), or undefined when `signal` aborts first.
   */
  async take(signal: AbortSignal, tell: (position: number) => void): Promise<(() => void) | undefined> {
    if (signal.aborted) return undefined
    if (this.#taken) {
      const began = await this.#wait(signal, tell)
      if (!began) return undefined
    }
    this.#taken = true
    let mine = true
    return () => {
      if (mine) this.#next()
      mine = false
    }
  }

  #wait(signal: AbortSignal, tell: (position: number) => void): Promise<boolean> {
    return new Promise((resolve) => {
      const place = { begin: () => resolve(true), tell }
      this.#waiting.push(place)
      tell(this.#waiting.length)
      signal.addEventListener(
        'abort',
        () => {
          if (!this.#waiting.includes(place)) return
          this.#waiting = this.#waiting.filter((other) => other !== place)
          this.#tellAll()
          resolve(false)
        },
        { once: true },
      )
    })
  }

  #next(): void {
    const next = this.#waiting.shift()
    // The turn passes from hand to hand: nobody who comes now gets in between.
    this.#taken = next !== undefined
    next?.begin()
    this.#tellAll()
  }

  #tellAll(): void {
    for (const [index, { tell }] of this.#waiting.entries()) tell(index + 1)
  }
}
