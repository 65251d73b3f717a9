import { vi } from 'vitest'
import { unavailableError } from '../../src/store/dialect.ts'
import { Sql } from '../../src/store/handle.ts'
import type { Store } from '../../src/store/store.ts'

/** A real store that is away, or slow, at exactly one point. */

/** Fails the next statement outside of transactions that has `parameter`. */
export function failStatement(store: Store, parameter: string): void {
  const executor = Sql.db(store).getExecutor()
  const execute = executor.executeQuery.bind(executor)
  const spy = vi.spyOn(executor, 'executeQuery').mockImplementation((query) => {
    if (!query.parameters.includes(parameter)) return execute(query)
    spy.mockRestore()
    return Promise.reject(unavailableError(new Error('away for a moment')))
  })
}

/** Lets the next statement outside of transactions that has `parameter` wait: see `holdTransaction`. */
export function holdStatement(store: Store, parameter: string): { begun: Promise<void>; goOn(): void } {
  const begun = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const executor = Sql.db(store).getExecutor()
  const execute = executor.executeQuery.bind(executor)
  const spy = vi.spyOn(executor, 'executeQuery').mockImplementation(async (query) => {
    if (!query.parameters.includes(parameter)) return execute(query)
    spy.mockRestore()
    begun.resolve()
    await released.promise
    return execute(query)
  })
  return { begun: begun.promise, goOn: () => released.resolve() }
}

/** Fails the next transaction. */
export function failTransaction(store: Store): void {
  vi.spyOn(store, 'transaction').mockRejectedValueOnce(unavailableError(new Error('away for a moment')))
}

/** Lets the next transaction wait: `begun` resolves when it is asked for, and `goOn` lets it and all others run. */
export function holdTransaction(store: Store): { begun: Promise<void>; goOn(): void } {
  const begun = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const run = store.transaction.bind(store)
  vi.spyOn(store, 'transaction').mockImplementationOnce(async (work) => {
    begun.resolve()
    await released.promise
    return run(work)
  })
  return { begun: begun.promise, goOn: () => released.resolve() }
}
