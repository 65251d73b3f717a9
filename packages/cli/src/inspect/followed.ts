import type { InspectedRequest } from '@cyberun/api'

/** Which requests of a tunnel were printed already: each is printed once, when it is over. */
export class Followed {
  /** All up to this one are printed or forgotten: where the next look begins. */
  after = 0
  /** Printed, and behind one that is still under way. */
  #printed = new Set<number>()

  /** What is to be printed now of all entries behind `after`. `newest`: the last number the server has given. */
  take(entries: readonly InspectedRequest[], newest: number): InspectedRequest[] {
    if (newest < this.after) {
      // The inspector was turned off and on: its numbers begin anew, and so does the next look.
      this.after = 0
      this.#printed.clear()
      return []
    }
    const fresh = entries.filter(({ number, ended_at }) => ended_at !== null && !this.#printed.has(number))
    for (const { number } of fresh) this.#printed.add(number)
    const oldestOpen = entries.find(({ ended_at }) => ended_at === null)
    this.after = oldestOpen ? oldestOpen.number - 1 : (entries.at(-1)?.number ?? this.after)
    this.#printed = new Set([...this.#printed].filter((number) => number > this.after))
    return fresh
  }
}
