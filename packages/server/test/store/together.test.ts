import { ApiError } from '@cyberun/api'
import { expect, test } from 'vitest'
import type { Store } from '../../src/store/store.ts'
import { together } from '../../src/store/together.ts'
import { onBothEngines } from './engines.ts'

const LARGE = 'x'.repeat(3 * 1024 * 1024)

/** Work that notes which items came together, and fails for `bad` ones. */
function noting(batches: string[][]) {
  return together((_sql: unknown, items: readonly string[]) => {
    batches.push(items.map((item) => item.slice(0, 8)))
    if (items.includes('bad')) return Promise.reject(new Error('bad'))
    return Promise.resolve(items.map((item) => item.length))
  })
}

onBothEngines('calls made together', ({ emptyStore }) => {
  test('share transactions in their order, and each gets its own answer', async () => {
    const store: Store = await emptyStore()
    const batches: string[][] = []
    const measure = noting(batches)
    const items = Array.from({ length: 600 }, (_, at) => `item-${at}`)
    expect(await Promise.all(items.map((item) => measure(store, item)))).toEqual(items.map((item) => item.length))
    expect(batches.map((batch) => batch.length)).toEqual([256, 256, 88])
    expect(batches.flat()).toEqual(items.map((item) => item.slice(0, 8)))
  })

  test('are tried alone when they fail together, so that one harms no other', async () => {
    const store = await emptyStore()
    const batches: string[][] = []
    const measure = noting(batches)
    const settled = await Promise.allSettled(['a', 'bad', 'c'].map((item) => measure(store, item)))
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(batches).toEqual([['a', 'bad', 'c'], ['a'], ['bad'], ['c']])
  })

  test('are bounded in size, joined and waiting', async () => {
    const store = await emptyStore()
    const batches: string[][] = []
    const measure = noting(batches)
    const settled = await Promise.allSettled(Array.from({ length: 30 }, () => measure(store, LARGE)))
    const refused = settled.flatMap((call) => (call.status === 'rejected' ? [call.reason] : []))
    expect(refused.length).toBeGreaterThan(0)
    expect(refused.every((error) => error instanceof ApiError && error.code === 'unavailable')).toBe(true)
    expect(batches.every((batch) => batch.length === 1)).toBe(true)
    expect(await measure(store, 'again')).toBe(5)
  })
})
