/** How often each of a few kinds of things happened since the start, for counters that are read when metrics are scraped. */
export class Tally {
  readonly #counts = new Map<string, number>()

  /** `kind` must be one of a closed set: nothing that a caller chose. */
  add(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
  }

  [Symbol.iterator](): Iterator<[kind: string, count: number]> {
    return this.#counts.entries()
  }
}
