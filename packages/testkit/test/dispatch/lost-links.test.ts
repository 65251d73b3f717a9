import { describe, expect, test } from 'vitest'
import { until } from '../../src/until.ts'
import { dispatchWorld } from './dispatch-world.ts'
import type { ScriptedAttempt } from './scripted-agent.ts'

const ids = (attempt: ScriptedAttempt) => attempt.name

describe('a link that is lost in the middle of a run', () => {
  test('costs nothing: the agent attaches, repeats what is not acknowledged, and nothing is there twice', async () => {
    const world = await dispatchWorld()
    const before = await world.agent()
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await before.next()
    attempt.say({ type: 'accepted' })
    attempt.note(1)
    attempt.note(2)
    await attempt.acknowledged(2)
    await before.lose()
    const after = await world.agent({ running: [ids(attempt)] })
    const attached = after.attach(ids(attempt), 4)
    expect(await attached.hears('attached')).toEqual({ type: 'attached', acknowledged: 2 })
    for (const sequence of [1, 2, 3, 4]) attached.note(sequence)
    attached.finish(5)
    await attached.over()
    expect(await world.reaches(taskId, 'completed')).toMatchObject({ retryCount: 0, fence: 1 })
    const notes = [1, 2, 3, 4].map((number) => `log: note ${number}`)
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', ...notes, 'completed'])
  })

  test('is passed over by make-before-break: the old stream ends without a word', async () => {
    const world = await dispatchWorld()
    const before = await world.agent()
    const { taskId, attempt } = await world.runOn(before, { maxRetries: 0 })
    before.link.goAway('moving', 5_000)
    const after = await world.agent({ running: [ids(attempt)] })
    const attached = after.attach(ids(attempt), 0)
    await attached.hears('attached')
    await attempt.over()
    expect(attempt.heard).toEqual([])
    attached.finish(1)
    await world.reaches(taskId, 'completed')
  })

  test.each([
    ['ends', (attempt: ScriptedAttempt) => attempt.stream.end()],
    ['resets', (attempt: ScriptedAttempt) => attempt.stream.reset('internal')],
  ])('or a stream that the agent %s while the link lives: it attaches, or its lease decides', async (_how, leave) => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const { taskId, attempt } = await world.runOn(agent, { maxRetries: 0 })
    leave(attempt)
    const attached = agent.attach(ids(attempt), 0)
    await attached.hears('attached')
    attached.finish(1)
    await world.reaches(taskId, 'completed')
  })

  test('with the answer to its last word lost: it is told that everything is stored, and is free again', async () => {
    const world = await dispatchWorld()
    const before = await world.agent()
    const taskId = await world.submit()
    const attempt = await before.next()
    attempt.say({ type: 'accepted' })
    attempt.finish(1)
    await world.reaches(taskId, 'completed')
    await before.lose()
    const after = await world.agent({ running: [ids(attempt)] })
    const attached = after.attach(ids(attempt), 1, 'finished')
    expect(await attached.hears('attached')).toEqual({ type: 'attached', acknowledged: 1, over: true })
    await attached.over()
    attached.stream.end()
    const next = await world.submit()
    const other = await after.next()
    expect(other.name.task_id).toBe(next)
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', 'completed'])
  })

  test('for longer than the resume window: another agent gets the task, and the late one is told', async () => {
    const world = await dispatchWorld()
    const before = await world.agent()
    const { taskId, attempt } = await world.runOn(before, { resumeWindowMs: 1_500 })
    await before.lose()
    const other = await world.agent({ id: 'other' })
    const second = await other.next()
    expect(ids(second)).toEqual({ task_id: taskId, fence: 2 })
    second.say({ type: 'accepted' })
    const after = await world.agent({ running: [ids(attempt)] })
    const attached = after.attach(ids(attempt), 9)
    await attached.hears('late')
    await attached.over()
    second.finish(1)
    expect(await world.reaches(taskId, 'completed')).toMatchObject({ agentId: 'other', fence: 2, retryCount: 1 })
    await expect.poll(() => Object.fromEntries(world.dispatch.counts.over)).toMatchObject({ expired: 1, completed: 1 })
  })

  test('is kept for as long as the agent is heard, and says so with leases', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit({ resumeWindowMs: 2_000, maxRetries: 0 })
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    await until(() => attempt.leases.length >= 50)
    expect(Math.max(...attempt.leases)).toBeLessThanOrEqual(2_000)
    expect((await world.task(taskId)).status).toBe('running')
    attempt.finish(1)
    await attempt.over()
  })
})

describe('an agent that is started anew', () => {
  test('and comes back without its attempt: the task goes on at once', async () => {
    const world = await dispatchWorld()
    const before = await world.agent()
    const { taskId } = await world.runOn(before)
    await before.lose()
    const after = await world.agent()
    const again = await after.next()
    expect(ids(again)).toEqual({ task_id: taskId, fence: 2 })
    expect(await world.task(taskId)).toMatchObject({ retryCount: 1 })
    expect(await world.story(taskId)).toContain('waiting')
  })

  test('with a new link from before it accepted: that says nothing about the attempt', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await agent.next()
    // Its hello of this link does not name the attempt, because it has not accepted it yet.
    const next = await world.agent()
    expect(next.attempts).toEqual([])
    const attached = next.attach(ids(attempt), 0)
    await attached.hears('attached')
    attached.finish(1)
    await world.reaches(taskId, 'completed')
  })

  test('holds its slots until what it named is attached or late', async () => {
    const world = await dispatchWorld()
    const ghost = { task_id: '019a0000-0000-7000-8000-00000000dead', fence: 7 }
    const agent = await world.agent({ running: [ghost] })
    const taskId = await world.submit()
    await world.reaches(taskId, 'waiting')
    const attached = agent.attach(ghost, 3)
    await attached.hears('late')
    expect((await agent.next()).name.task_id).toBe(taskId)
  })
})

describe('a server that is started anew', () => {
  test('takes up what its agents attach, and gives the rest away when their windows are over', async () => {
    const world = await dispatchWorld()
    const staying = await world.agent({ id: 'staying' })
    const first = await world.submit({ maxRetries: 0 })
    const attempt = await staying.next()
    attempt.say({ type: 'accepted' })
    attempt.note(1)
    await attempt.acknowledged(1)
    const leaving = await world.agent({ id: 'leaving' })
    const second = await world.submit({ resumeWindowMs: 1_500 })
    const lost = await leaving.next()
    lost.say({ type: 'accepted' })
    await world.reaches(second, 'running')
    await world.restart()
    // Its stream ended without a word, which means: attach again.
    await attempt.over()
    expect(attempt.heard.map(({ type }) => type)).toEqual(['ack'])
    await leaving.lose()
    await staying.lose()
    const after = await world.agent({ id: 'staying', running: [ids(attempt)] })
    const attached = after.attach(ids(attempt), 1)
    await attached.hears('attached')
    attached.finish(2)
    await world.reaches(first, 'completed')
    expect((await after.next()).name).toEqual({ task_id: second, fence: 2 })
  })

  test('stores what was reported before it stops', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'accepted' })
    for (let sequence = 1; sequence <= 50; sequence++) attempt.note(sequence)
    await attempt.acknowledged(1)
    await world.restart()
    await attempt.over()
    const acknowledged = Math.max(...attempt.heard.map((said) => (said.type === 'ack' ? said.sequence : 0)))
    const stored = (await world.story(taskId)).filter((line) => line.startsWith('log'))
    expect(stored.length).toBeGreaterThanOrEqual(acknowledged)
  })
})

test('an agent of another team with the same name can neither attach an attempt nor end it', async () => {
  const world = await dispatchWorld()
  const agent = await world.agent()
  const taskId = await world.submit({ maxRetries: 0 })
  const attempt = await agent.next()
  attempt.say({ type: 'accepted' })
  await world.reaches(taskId, 'running')
  const stranger = await world.strangerAgent(agent.id)
  const stolen = stranger.attach(ids(attempt), 0)
  await stolen.hears('late')
  stolen.finish(1)
  attempt.note(1)
  await attempt.acknowledged(1)
  attempt.finish(2)
  await world.reaches(taskId, 'completed')
})

test('a stream that an agent opens and ends without a line, or before it is answered, is over at both ends', async () => {
  const world = await dispatchWorld()
  const agent = await world.agent()
  const before = agent.link.stats.streams
  agent.open({ kind: 'task' }).end()
  agent.attach({ task_id: 'a', fence: 1 }, 0).stream.end()
  await until(() => agent.link.stats.streams === before)
})

test('a stream that an agent opens and does not begin with attach is reset', async () => {
  const world = await dispatchWorld()
  const agent = await world.agent()
  const name = { task_id: 'a', fence: 1 }
  for (const said of ['{"type":"accepted"}\n', 'garbage\n', `{"type":"attach"}\n`]) {
    const stream = agent.attach(name, 0)
    stream.write(said)
    await stream.over()
  }
  const artifact = agent.open({ kind: 'artifact' })
  const input = agent.open({ kind: 'input' })
  await until(() => world.fileStreams.length === 2)
  expect(world.fileStreams).toEqual(['artifact gpu-1', 'input gpu-1'])
  artifact.reset('cancelled')
  input.reset('cancelled')
})
