import { ApiError } from '@cyberun/api'
import { unavailableError } from './dialect.ts'
import type { Sql } from './handle.ts'
import type { Store } from './store.ts'

/** Calls, and characters of their items as JSON, that may wait for one store; beyond that callers are to try again. */
const MAX_WAITING = 20_000
const MAX_WAITING_CHARACTERS = 64 * 1024 * 1024
/** Calls, and characters, that share one transaction; a larger item goes alone. */
const MAX_JOINED = 256
const MAX_JOINED_CHARACTERS = 4 * 1024 * 1024

/** Does all of `items` in one transaction; answers them in the same order. */
type Work<I, O> = (sql: Sql, items: readonly I[]) => Promise<readonly O[]>

interface Call<I, O> {
  item: I
  characters: number
  resolve: (answer: O) => void
  reject: (error: unknown) => void
}

/**
 * Makes a function of one item out of work on many: calls that come while a transaction is under way share the next one.
 * They are done in the order in which they were made. A busy store then commits once for a hundred callers, an idle one
 * at once for each. Work that `isOneStatement` needs no transaction around it. When the work fails for several, each is
 * tried alone, so that a bad item harms only its own caller.
 */
export function together<I, O>(
  work: Work<I, O>,
  isOneStatement: (store: Store, items: readonly I[]) => boolean = () => false,
): (store: Store, item: I) => Promise<O> {
  // A queue belongs to its store and goes with it; the map only finds it.
  const queues = new WeakMap<Store, CallQueue<I, O>>()
  return (store, item) => {
    const queue = queues.get(store) ?? new CallQueue(store, work, isOneStatement)
    queues.set(store, queue)
    return queue.add(item)
  }
}

class CallQueue<I, O> {
  readonly #store: Store
  readonly #work: Work<I, O>
  readonly #isOneStatement: (store: Store, items: readonly I[]) => boolean
  readonly #waiting: Call<I, O>[] = []
  #waitingCharacters = 0
  #isRunning = false

  constructor(store: Store, work: Work<I, O>, isOneStatement: (store: Store, items: readonly I[]) => boolean) {
    this.#store = store
    this.#work = work
    this.#isOneStatement = isOneStatement
  }

  add(item: I): Promise<O> {
    const characters = JSON.stringify(item).length
    if (this.#waiting.length >= MAX_WAITING || this.#waitingCharacters + characters > MAX_WAITING_CHARACTERS) {
      return Promise.reject(unavailableError(new Error(`${this.#waiting.length} writes wait for the database`)))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, characters, resolve, reject })
      this.#waitingCharacters += characters
      if (!this.#isRunning) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    // What is asked for in this turn of the loop belongs together.
    await Promise.resolve()
    while (this.#waiting.length > 0) await this.#settle(this.#takeNext())
    this.#isRunning = false
  }

  #takeNext(): Call<I, O>[] {
    let characters = 0
    const end = this.#waiting.findIndex((call, at) => {
      characters += call.characters
      return at === MAX_JOINED || (at > 0 && characters > MAX_JOINED_CHARACTERS)
    })
    const calls = this.#waiting.splice(0, end === -1 ? this.#waiting.length : end)
    for (const call of calls) this.#waitingCharacters -= call.characters
    return calls
  }

  async #settle(calls: readonly Call<I, O>[]): Promise<void> {
    try {
      const items = calls.map(({ item }) => item)
      const answers = await (this.#isOneStatement(this.#store, items)
        ? this.#work(this.#store, items)
        : this.#store.transaction((sql) => this.#work(sql, items)))
      for (const [at, { resolve, reject }] of calls.entries()) {
        const answer = answers[at]
        if (answer === undefined) reject(new Error('work on the store left a call without an answer'))
        else resolve(answer)
      }
    } catch (error) {
      if (calls.length === 1 || isUnavailable(error)) for (const { reject } of calls) reject(error)
      else for (const call of calls) await this.#settle([call])
    }
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'unavailable'
}
