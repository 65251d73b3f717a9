/** One holder a name at a time; a newcomer asks the holder to leave and waits until it has. */
export class Turns {
  readonly #holders = new Map<string, { leave(): void; left: Promise<void> }>()

  /** Runs `work` once it is alone with `name`. `leave` is called when another wants the turn; `work` then ends soon. */
  async take<T>(name: string, leave: () => void, work: () => Promise<T>): Promise<T> {
    for (let holder = this.#holders.get(name); holder; holder = this.#holders.get(name)) {
      holder.leave()
      await holder.left
    }
    const { promise: left, resolve } = Promise.withResolvers<void>()
    this.#holders.set(name, { leave, left })
    try {
      return await work()
    } finally {
      this.#holders.delete(name)
      resolve()
    }
  }
}
