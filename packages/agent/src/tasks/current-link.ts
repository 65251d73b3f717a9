import type { Link } from '@cyberun/link'

/** The link that new streams go over, as links come and go. */
export class CurrentLink {
  #link: Link | undefined
  readonly #waiting = new Set<() => void>()

  /** From now on this one, until it leaves or the next one comes. */
  use(link: Link): void {
    this.#link = link
    void link.goingAway.then(() => {
      if (this.#link === link) this.#link = undefined
    })
    for (const wake of [...this.#waiting]) wake()
  }

  get now(): Link | undefined {
    return this.#link
  }

  /** The link, as soon as there is one other than `not`. Rejects with the signal's reason. */
  async wait(signal: AbortSignal, not?: Link): Promise<Link> {
    signal.throwIfAborted()
    while (!this.#link || this.#link === not) await this.#next(signal)
    return this.#link
  }

  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        this.#waiting.delete(finish)
        signal.removeEventListener('abort', finish)
        if (signal.aborted) reject(signal.reason)
        else resolve()
      }
      this.#waiting.add(finish)
      signal.addEventListener('abort', finish, { once: true })
    })
  }
}
