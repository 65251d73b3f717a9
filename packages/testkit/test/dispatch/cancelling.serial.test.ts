import { expect, test } from 'vitest'
import { dispatchWorld } from './dispatch-world.ts'

const ROUNDS = 9
const AT_MOST_MS = 100

test('a cancellation is on disk and has reached a connected agent within 100 ms', async () => {
  const world = await dispatchWorld()
  const agent = await world.agent()
  const delaysMs: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const { taskId, attempt } = await world.runOn(agent)
    const asked = performance.now()
    await world.cancel(taskId)
    await attempt.hears('cancel')
    delaysMs.push(performance.now() - asked)
    attempt.say({ type: 'cancelling' })
    attempt.finish(1)
    await attempt.over()
  }
  const median = delaysMs.toSorted((a, b) => a - b)[ROUNDS >> 1] ?? Number.NaN
  console.log(`from cancelling to its agent: ${median.toFixed(1)} ms`)
  expect(median).toBeLessThanOrEqual(AT_MOST_MS)
})
