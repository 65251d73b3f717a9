import { expect, test } from 'vitest'
import { Turns } from '../../src/tasks/transfers.ts'

test('whoever does not want its turn any more leaves, and the next one has it', async () => {
  const turns = new Turns(1)
  const { signal } = new AbortController()
  const first = Promise.withResolvers<void>()
  const held = turns.take(() => first.promise, signal)
  const leaving = new AbortController()
  const left = turns.take(() => Promise.resolve('never'), leaving.signal)
  const next = turns.take(() => Promise.resolve('next'), signal)
  leaving.abort(new Error('cancelled'))
  await expect(left).rejects.toThrow('cancelled')
  first.resolve()
  await held
  expect([await next, await turns.take(() => Promise.resolve('later'), signal)]).toEqual(['next', 'later'])
})
