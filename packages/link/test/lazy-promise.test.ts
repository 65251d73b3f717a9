import { expect, test } from 'vitest'
import { LazyPromise } from '../src/lazy-promise.ts'

test('who asks before and who asks after are told the same, which is the first value', async () => {
  const lazy = new LazyPromise<string>()
  const before = lazy.promise
  lazy.resolve('first')
  lazy.resolve('second')
  expect(await Promise.all([before, lazy.promise])).toEqual(['first', 'first'])
})

test('a value that nobody had asked for is kept', async () => {
  const lazy = new LazyPromise<string>()
  lazy.resolve('first')
  lazy.resolve('second')
  expect(await lazy.promise).toBe('first')
})
