import { ApiError } from '@cyberun/api'
import { unavailableError } from './dialect.ts'
import type { Sql } from './handle.ts'
import type { Store } from './store.ts'

/** Calls that may wait for their turn at one store; beyond that callers are told to try again. */
const MAX_WAITING = 20_000
/** Calls that share one transaction. */
const MAX_JOINED = 256

/** Does all of `items` in one transaction; answers them in the same order. */
type Work<I, O> = (sql: Sql, items: readonly I[]) => Promise<readonly O[]>

interface Call<I, O> {
  item: I
  resolve: (answer: O) => void
  reject: (error: unknown) => void
}

/**
 * Makes a function of one item out of work on many: calls that come while a transaction is under way share the next one.
 * They are done in the order in which they were made. A busy store then commits once for a hundred callers, an idle one
 * at once for each. Work that `isOneStatement` needs no transaction around it. When the work fails for several, each is tried alone, so that a bad item harms only its own caller.
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
  #waiting: Call<I, O>[] = []
  #isRunning = false

  constructor(store: Store, work: Work<I, O>, isOneStatement: (store: Store, items: readonly I[]) => boolean) {
    this.#store = store
    this.#work = work
    this.#isOneStatement = isOneStatement
  }

  add(item: I): Promise<O> {
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.reject(unavailableError(new Error(`${this.#waiting.length} writes wait for the database`)))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      if (!this.#isRunning) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    // What is asked for in this turn of the loop belongs together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const calls = this.#waiting.slice(0, MAX_JOINED)
      this.#waiting = this.#waiting.slice(MAX_JOINED)
      await this.#settle(calls)
    }
    this.#isRunning = false
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
