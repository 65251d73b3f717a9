/** A promise that is made when somebody asks for it: of thousands of idle links, hardly any is asked for all it has. */
export class LazyPromise<T> {
  #told: { value: T } | undefined
  #promise: Promise<T> | undefined
  #resolve: ((value: T) => void) | undefined

  get promise(): Promise<T> {
    this.#promise ??= new Promise((resolve) => {
      if (this.#told) resolve(this.#told.value)
      else this.#resolve = resolve
    })
    return this.#promise
  }

  /** The first value counts. */
  resolve(value: T): void {
    if (this.#told) return
    this.#told = { value }
    this.#resolve?.(value)
    this.#resolve = undefined
  }
}
