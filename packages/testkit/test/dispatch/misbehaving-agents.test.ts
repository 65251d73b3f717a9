import { describe, expect, test } from 'vitest'
import { until } from '../../src/until.ts'
import { dispatchWorld } from './dispatch-world.ts'
import type { ScriptedAttempt } from './scripted-agent.ts'

describe('cancelling', () => {
  test('reaches the agent, is final, and frees the slot when the agent is done', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    attempt.note(1)
    await attempt.acknowledged(1)
    await world.cancel(taskId)
    await attempt.hears('cancel')
    attempt.say({ type: 'cancelling' })
    const next = await world.submit()
    attempt.note(2, 'the tool stops')
    await attempt.acknowledged(2)
    expect(agent.attempts).toHaveLength(1)
    attempt.finish(3)
    await attempt.over()
    expect(attempt.heard.at(-1)).toEqual({ type: 'ack', sequence: 3 })
    expect((await agent.next()).name.task_id).toBe(next)
    expect(await world.task(taskId)).toMatchObject({ status: 'cancelled', output: null })
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', 'log: note 1', 'cancelled'])
  })

  test('before the agent has said anything', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    await world.cancel(taskId)
    await attempt.hears('cancel')
    attempt.say({ type: 'accepted' }, { type: 'finished', sequence: 1, outcome: { kind: 'cancelled' } })
    await attempt.over()
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'cancelled'])
  })

  test('of a run whose link is lost: it is late when it comes back', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const { taskId, attempt } = await world.runOn(agent)
    await agent.lose()
    await world.cancel(taskId)
    const after = await world.agent({ running: [attempt.name] })
    const attached = after.attach(attempt.name, 1)
    await attached.hears('late')
    expect((await world.task(taskId)).status).toBe('cancelled')
  })

  test('that an agent ignores: it is told that it is late, and gets nothing more for a while', async () => {
    const world = await dispatchWorld({ limits: { cancelMs: 100 } })
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    await world.cancel(taskId)
    await attempt.hears('late')
    expect(world.agents.get(world.teamId, 'gpu-1')?.agent_status).toBe('unhealthy')
  })
})

describe('an agent that answers garbage: the attempt is over for it, and the task goes on elsewhere', () => {
  const note = (sequence: number) => ({ type: 'event', sequence, event: { kind: 'note', message: '' } }) as const
  const garbage: readonly [name: string, misbehave: (attempt: ScriptedAttempt) => void][] = [
    ['no JSON', (attempt) => attempt.write('what?\n')],
    ['a wrong member', (attempt) => attempt.write('{"type":"event","sequence":1,"event":{"kind":"wish"}}\n')],
    ['a line too long', (attempt) => attempt.write('x'.repeat(300_000))],
    ['a number left out', (attempt) => attempt.say(note(1), note(3))],
    ['accepted twice', (attempt) => attempt.say({ type: 'accepted' })],
    ['declined while it runs', (attempt) => attempt.say({ type: 'declined', reason: 'no_slot', message: '' })],
    ['cancelling what nobody cancelled', (attempt) => attempt.say({ type: 'cancelling' })],
  ]
  test.each(garbage)('%s', async (_name, misbehave) => {
    const world = await dispatchWorld()
    const bad = await world.agent({ id: 'bad' })
    const { taskId, attempt } = await world.runOn(bad)
    misbehave(attempt)
    const good = await world.agent({ id: 'good' })
    const next = await good.next()
    expect(next.name).toEqual({ task_id: taskId, fence: 2 })
    expect(world.agents.get(world.teamId, 'bad')?.agent_status).toBe('unhealthy')
    next.say({ type: 'accepted' })
    next.finish(1)
    expect(await world.reaches(taskId, 'completed')).toMatchObject({ retryCount: 1 })
  })

  test('also before it accepted, and a line of a later version does not matter', async () => {
    const world = await dispatchWorld()
    const bad = await world.agent({ id: 'bad' })
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await bad.next()
    attempt.write('{"type":"weather","rain":true}\n')
    attempt.finish(1)
    await attempt.hears('late')
    expect((await world.reaches(taskId, 'failed')).error).toContain('has no place')
  })
})

describe('what comes to its end while an agent has an attempt', () => {
  test('the key of the agent: the task goes on elsewhere at once', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const { taskId } = await world.runOn(agent)
    await world.revokeAgents()
    await agent.link.closed
    await world.reaches(taskId, 'waiting')
  })
})

describe('memory', () => {
  test('while the store takes nothing, an agent is granted little, and nothing is lost', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const { attempt } = await world.runOn(agent)
    const gate = Promise.withResolvers<void>()
    const stuck = world.store.transaction(async () => gate.promise)
    const line = 'x'.repeat(16_000)
    const timestamp = '2026-11-21T20:00:00.000Z'
    const count = 400
    for (let sequence = 1; sequence <= count; sequence++) {
      const lines = Array.from({ length: 10 }, () => ({ stream: 'stdout', line, timestamp }) as const)
      attempt.say({ type: 'event', sequence, event: { kind: 'log', lines } })
    }
    await until(() => world.dispatch.counts.unstored > 512 * 1024)
    // Twice, because what had credit already may still come.
    let before = -1
    await until(() => {
      const is = world.dispatch.counts.unstored
      const isSteady = is === before
      before = is
      return isSteady
    })
    expect(world.dispatch.counts.unstored).toBeLessThan(4 * 1024 * 1024)
    expect(attempt.stream.queuedBytes).toBeGreaterThan(16 * 1024 * 1024)
    gate.resolve()
    await stuck
    await attempt.acknowledged(count)
    attempt.finish(count + 1)
    await attempt.over()
    expect(world.dispatch.counts).toMatchObject({ attempts: 0, unstored: 0 })
  })

  test('the log of a run has an end, and says so', async () => {
    const world = await dispatchWorld({ limits: { logLines: 3 } })
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    for (let sequence = 1; sequence <= 9; sequence++) attempt.note(sequence)
    attempt.finish(10)
    await attempt.over()
    const said = await world.story(taskId)
    expect(said.slice(3, 6)).toEqual(['log: note 1', 'log: note 2', 'log: note 3'])
    expect(said.slice(6)).toEqual([expect.stringContaining('more than 3 lines'), 'completed'])
  })
})
