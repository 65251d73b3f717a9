import type { Sql } from './handle.ts'
import { Store } from './store.ts'

/** A read under way, and the one that those wait for who came meanwhile. */
interface Reading<T> {
  now: Promise<T>
  next: Promise<T> | undefined
}

/**
 * Lets callers who ask for the same share a read: those who come while one is under way wait for the next, so that what
 * each gets was read after it asked. A busy server then reads a key that makes all of its calls a few hundred times a
 * second, and not once for each. What is shared must not be changed. In a transaction nothing is shared.
 */
export function sharedRead<A extends readonly (string | number | undefined)[], T>(
  read: (sql: Sql, ...about: A) => Promise<T>,
): (sql: Sql, ...about: A) => Promise<T> {
  // What is under way goes with its store; the map only finds it.
  const stores = new WeakMap<Store, Map<string, Reading<T>>>()

  function begin(store: Store, readings: Map<string, Reading<T>>, key: string, about: A): Promise<T> {
    const reading: Reading<T> = { now: read(store, ...about), next: undefined }
    readings.set(key, reading)
    const forget = (): void => {
      if (reading.next === undefined) readings.delete(key)
    }
    reading.now.then(forget, forget)
    return reading.now
  }

  return (sql, ...about) => {
    if (!(sql instanceof Store)) return read(sql, ...about)
    const readings = stores.get(sql) ?? new Map<string, Reading<T>>()
    stores.set(sql, readings)
    const key = JSON.stringify(about)
    const reading = readings.get(key)
    if (reading === undefined) return begin(sql, readings, key, about)
    const again = (): Promise<T> => begin(sql, readings, key, about)
    reading.next ??= reading.now.then(again, again)
    return reading.next
  }
}
