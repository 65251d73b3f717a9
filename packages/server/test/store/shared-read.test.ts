import { expect, test } from 'vitest'
import type { Sql } from '../../src/store/handle.ts'
import { sharedRead } from '../../src/store/shared-read.ts'
import { onBothEngines } from './engines.ts'

onBothEngines('reads that callers share', ({ emptyStore }) => {
  test('those who come while one is under way share the next, and see what was written before they asked', async () => {
    const store = await emptyStore()
    let written = 'old'
    let reads = 0
    let go = Promise.withResolvers<void>()
    const read = sharedRead(async (_sql: Sql, key: string) => {
      reads++
      const found = `${key} ${written}`
      await go.promise
      return found
    })
    const first = read(store, 'a')
    written = 'new'
    const later = [read(store, 'a'), read(store, 'a'), read(store, 'a')]
    const other = read(store, 'b')
    go.resolve()
    go = Promise.withResolvers()
    go.resolve()
    expect(await first).toBe('a old')
    expect(await Promise.all(later)).toEqual(['a new', 'a new', 'a new'])
    expect(await other).toBe('b new')
    expect(reads).toBe(3)
    await read(store, 'a')
    expect(reads).toBe(4)
  })

  test('one that fails is nobody else’s: who waits reads again', async () => {
    const store = await emptyStore()
    let reads = 0
    const read = sharedRead(async (_sql: Sql, key: string) => {
      if (++reads === 1) throw new Error('away')
      return key
    })
    const [first, second] = await Promise.allSettled([read(store, 'a'), read(store, 'a')])
    expect(first.status).toBe('rejected')
    expect(second).toEqual({ status: 'fulfilled', value: 'a' })
  })

  test('a transaction reads for itself', async () => {
    const store = await emptyStore()
    let reads = 0
    const read = sharedRead(async (_sql: Sql, key: string) => `${key} ${++reads}`)
    await store.transaction(async (sql) => {
      expect(await Promise.all([read(sql, 'a'), read(sql, 'a'), read(sql, 'a')])).toEqual(['a 1', 'a 2', 'a 3'])
    })
  })
})
