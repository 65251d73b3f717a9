import { expect, test } from 'vitest'
import { failTransaction, holdTransaction } from '../../../server/test/store/away.ts'
import { until } from '../../src/until.ts'
import { STATS } from '../agents/agents-world.ts'
import { dispatchWorld } from './dispatch-world.ts'

test('an attempt that could not be attached still takes its slot: it will be, later', async () => {
  const world = await dispatchWorld()
  const before = await world.agent()
  const { taskId, attempt } = await world.runOn(before, { maxRetries: 0 })
  await before.lose()
  await world.restart()
  const after = await world.agent({ running: [attempt.name] })
  failTransaction(world.store)
  await after.attach(attempt.name, 0).over()
  expect(world.dispatch.situations(world.teamId)).toMatchObject([{ agentId: 'gpu-1', state: 'busy' }])
  const attached = after.attach(attempt.name, 0)
  await attached.hears('attached')
  attached.finish(1)
  await world.reaches(taskId, 'completed')
})

test('a cancellation that is stored just before the end of the run leaves its agent free at once', async () => {
  const world = await dispatchWorld()
  const agent = await world.agent()
  const { taskId, attempt } = await world.runOn(agent)
  const held = holdTransaction(world.store)
  const cancelled = world.cancel(taskId)
  await held.begun
  attempt.finish(1)
  await until(() => world.dispatch.counts.unstored > 0)
  held.goOn()
  await cancelled
  await attempt.acknowledged(1)
  await attempt.over()
  const next = await world.submit()
  expect((await agent.next()).name.task_id).toBe(next)
  expect((await world.task(taskId)).status).toBe('cancelled')
})

test('a slot that comes free while it is being stored that there was none is given a task', async () => {
  const world = await dispatchWorld({ limits: { declinePauseMs: 3_600_000 } })
  const agent = await world.agent()
  const taskId = await world.submit()
  const attempt = await agent.next()
  const held = holdTransaction(world.store)
  attempt.say({ type: 'declined', reason: 'no_slot', message: 'busy with something else' })
  await held.begun
  agent.tell({ type: 'heartbeat', sequence: 1, system_stats: { ...STATS, os_type: 'told' }, free_slots: 1 })
  await until(() => world.agents.get(world.teamId, agent.id)?.system_stats?.os_type === 'told')
  held.goOn()
  expect((await agent.next()).name).toEqual({ task_id: taskId, fence: 2 })
})
