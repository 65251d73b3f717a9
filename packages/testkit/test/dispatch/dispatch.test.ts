import { describe, expect, test } from 'vitest'
import { DISPATCH_LIMITS } from '../../../server/src/dispatch/limits.ts'
import { needs } from '../../../server/test/store/task-world.ts'
import { until } from '../../src/until.ts'
import { type DispatchWorld, dispatchWorld } from './dispatch-world.ts'
import type { ScriptedAgent } from './scripted-agent.ts'

const viewOf = (world: DispatchWorld, agentId = 'gpu-1') => world.agents.get(world.teamId, agentId)

describe('a task that runs', () => {
  test('is given to an agent, reported, stored, acknowledged and over', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit({ parameters: { text: 'hello' } })
    const attempt = await agent.next()
    expect(attempt.line).toMatchObject({
      task_id: taskId,
      fence: 1,
      tool_type: 'demo',
      workflow_slug: 'echo',
      workflow_version: 1,
      workflow_json: { program: 'echo' },
      parameters: { text: 'hello' },
      files: [],
      resume_window_ms: 60_000,
    })
    attempt.say({ type: 'accepted' })
    await world.reaches(taskId, 'running')
    attempt.note(1, 'so far')
    await attempt.acknowledged(1)
    attempt.finish(2)
    await attempt.over()
    expect(attempt.heard.at(-1)).toEqual({ type: 'ack', sequence: 2 })
    const task = await world.task(taskId)
    expect(task).toMatchObject({ status: 'completed', output: { answer: 42 }, agentId: 'gpu-1', retryCount: 0 })
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', 'log: so far', 'completed'])
    expect(new Set(world.said.changed)).toEqual(new Set([taskId]))
  })

  test('may say everything at once', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say(
      { type: 'accepted' },
      { type: 'event', sequence: 1, event: { kind: 'note', message: 'one' } },
      { type: 'finished', sequence: 2, outcome: { kind: 'completed', output: {} } },
    )
    await attempt.over()
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'running', 'log: one', 'completed'])
  })

  test('that fails is in the log and the counts with the code of its failure, without its message', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await agent.next()
    const outcome = { kind: 'failed', code: 'node_failed', message: 'of a prompt', fault: 'tool' } as const
    attempt.say({ type: 'accepted' }, { type: 'finished', sequence: 1, outcome })
    await attempt.over()
    await expect.poll(() => Object.fromEntries(world.dispatch.counts.over)).toEqual({ failed: 1 })
    const told = world.lines.find((line) => line.includes('attempt.over')) ?? '{}'
    expect(JSON.parse(told)).toMatchObject({ task_id: taskId, end: 'failed', error_code: 'node_failed' })
    expect(told).not.toContain(outcome.message)
  })

  test('waits for a slot when all are taken, and its agent is shown busy', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent({ slots: 2 })
    const tasks = [await world.submit(), await world.submit(), await world.submit()]
    const [first, second] = [await agent.next(), await agent.next()]
    first.say({ type: 'accepted' })
    second.say({ type: 'accepted' })
    await world.reaches(tasks[2] ?? '', 'waiting')
    const busy = viewOf(world)
    expect(busy).toMatchObject({ agent_status: 'busy', running_count: 2, current_task_id: first.name.task_id })
    expect(busy?.running_tasks).toEqual([first.name.task_id, second.name.task_id])
    first.finish(1)
    const third = await agent.next()
    expect(third.name.task_id).toBe(tasks[2])
    await until(() => viewOf(world)?.tasks_completed === 1)
    for (const attempt of [second, third]) attempt.finish(1)
    third.say({ type: 'accepted' })
  })

  test('is followed live: progress and previews are thinned out, the latest is kept', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const { attempt } = await world.runOn(agent)
    const began = performance.now()
    for (let step = 1; step <= 100; step++) attempt.say({ type: 'progress', progress: step / 100, step_current: step })
    for (let picture = 1; picture <= 20; picture++) {
      attempt.say({ type: 'preview', content_type: 'image/png', data: `${1_000 + picture}` })
    }
    const live = (kind: string) => world.said.live.flatMap(({ event }) => (event.kind === kind ? [event] : []))
    await expect.poll(() => live('progress').at(-1)).toMatchObject({ step_current: 100 })
    await expect.poll(() => live('preview').at(-1)).toMatchObject({ data: '1020' })
    // One at once, and one at the end of each interval that has gone by; timers may be early by a millisecond.
    const elapsedMs = performance.now() - began + 5
    expect(live('progress').length).toBeLessThanOrEqual(1 + Math.floor(elapsedMs / DISPATCH_LIMITS.progressMs))
    expect(live('preview').length).toBeLessThanOrEqual(1 + Math.floor(elapsedMs / DISPATCH_LIMITS.previewMs))
    await until(() => world.lines.every((line) => !line.includes('progress_not_saved')))
    attempt.finish(1)
    await attempt.over()
  })
})

describe('an agent that does not take a task', () => {
  test('for want of a model: another one gets it, and it is not asked again until its inventory changes', async () => {
    const world = await dispatchWorld()
    const poor = await world.agent({ id: 'poor' })
    const taskId = await world.submit()
    const declined = await poor.next()
    declined.say({ type: 'declined', reason: 'missing_model', message: 'no such model', detail: 'x.safetensors' })
    await declined.over()
    await world.reaches(taskId, 'waiting')
    const rich = await world.agent({ id: 'rich' })
    const attempt = await rich.next()
    expect(attempt.name).toEqual({ task_id: taskId, fence: 2 })
    expect(poor.attempts).toHaveLength(1)
    attempt.say({ type: 'declined', reason: 'missing_node', message: 'no such node', detail: 'X' })
    await attempt.over()
    poor.tell({ type: 'inventory', part: 1, parts: 1, models: ['x.safetensors'], node_classes: [] })
    expect((await poor.next()).name).toEqual({ task_id: taskId, fence: 3 })
  })

  test('because nobody can run it: the task fails', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'declined', reason: 'invalid', message: 'width must be a number' })
    expect((await world.reaches(taskId, 'failed')).error).toContain('width must be a number')
  })

  test('for want of a slot: it is asked again when it says that it has one', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const taskId = await world.submit()
    const attempt = await agent.next()
    attempt.say({ type: 'declined', reason: 'no_slot', message: 'busy with something else' })
    await attempt.over()
    await world.reaches(taskId, 'waiting')
    expect(world.dispatch.situations(world.teamId)).toMatchObject([{ agentId: 'gpu-1', state: 'busy' }])
    const stats = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
    agent.tell({ type: 'heartbeat', sequence: 1, system_stats: stats, free_slots: 1 })
    expect((await agent.next()).name).toEqual({ task_id: taskId, fence: 2 })
  })

  test('in silence: another one gets it, and it counts as unhealthy', async () => {
    const world = await dispatchWorld({ limits: { ackMs: 1_000 } })
    const silent = await world.agent({ id: 'silent' })
    const taskId = await world.submit({ maxRetries: 0 })
    const attempt = await silent.next()
    await attempt.hears('late')
    expect(viewOf(world, 'silent')?.agent_status).toBe('unhealthy')
    const other = await world.agent({ id: 'other' })
    const next = await other.next()
    next.say({ type: 'accepted' })
    next.finish(1)
    expect(await world.reaches(taskId, 'completed')).toMatchObject({ agentId: 'other', retryCount: 0 })
    attempt.say({ type: 'accepted' })
  })

  test('that takes no stream: another one gets it', async () => {
    const world = await dispatchWorld()
    await world.agent({ id: 'old', onTask: (stream) => stream.reset('unsupported') })
    const taskId = await world.submit({ maxRetries: 0 })
    await until(() => viewOf(world, 'old')?.agent_status === 'unhealthy')
    const other = await world.agent({ id: 'other' })
    expect((await other.next()).name.task_id).toBe(taskId)
  })
})

describe('who may be given a task', () => {
  test('nobody with an open tunnel', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    await until(() => viewOf(world) !== undefined)
    const release = world.agents.holdTunnel(world.teamId, 'gpu-1', 'session-1')
    const taskId = await world.submit()
    await world.reaches(taskId, 'waiting')
    expect(world.dispatch.situations(world.teamId)).toMatchObject([{ state: 'tunnel' }])
    expect(agent.attempts).toEqual([])
    release()
    expect((await agent.next()).name.task_id).toBe(taskId)
  })

  test('nobody to whom a tunnel is opened while the task is being claimed', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    await until(() => world.dispatch.situations(world.teamId)[0]?.state === 'free')
    // The store has one writer: what is submitted waits for this.
    const held = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const writing = world.store.transaction(() => {
      begun.resolve()
      return held.promise
    })
    await begun.promise
    const submitting = world.submit({ maxRetries: 0 })
    await new Promise((resolve) => setImmediate(resolve))
    const release = world.agents.holdTunnel(world.teamId, 'gpu-1', 'session-1')
    held.resolve()
    await writing
    const taskId = await submitting
    await world.reaches(taskId, 'waiting')
    expect(await world.story(taskId)).toEqual(['pending', 'queued', 'waiting'])
    expect(agent.attempts).toEqual([])
    release()
    expect((await agent.next()).name).toEqual({ task_id: taskId, fence: 2 })
    expect(await world.task(taskId)).toMatchObject({ retryCount: 0 })
  })

  test('nobody whose tool is unhealthy', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent()
    const stats = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
    const beat = (sequence: number, state: 'ready' | 'unhealthy') =>
      agent.tell({
        ...{ type: 'heartbeat', sequence, system_stats: stats, free_slots: 1 },
        tools: [{ type: 'demo', version: '1', state, ...(state === 'unhealthy' && { reason: 'the queue stands' }) }],
      })
    beat(1, 'unhealthy')
    await until(() => viewOf(world)?.agent_status === 'unhealthy')
    const taskId = await world.submit()
    await world.reaches(taskId, 'waiting')
    beat(2, 'ready')
    expect((await agent.next()).name.task_id).toBe(taskId)
    expect(viewOf(world)?.agent_status).not.toBe('unhealthy')
  })

  test('first whoever has run its models before', async () => {
    const world = await dispatchWorld()
    const agents = [await world.agent({ id: 'gpu-1' }), await world.agent({ id: 'gpu-2' })] as const
    await until(() => world.dispatch.situations(world.teamId).filter(({ state }) => state === 'free').length === 2)
    const runOn = async (agent: ScriptedAgent, requirements = needs({ models: ['xl'] })) => {
      const taskId = await world.submit({ requirements })
      const attempt = await agent.next()
      expect(attempt.name.task_id).toBe(taskId)
      attempt.say({ type: 'accepted' })
      attempt.finish(1)
      await attempt.over()
      await world.reaches(taskId, 'completed')
    }
    const release = world.agents.holdTunnel(world.teamId, 'gpu-1', 'session-1')
    await runOn(agents[1])
    release()
    await runOn(agents[0], needs())
    await runOn(agents[1])
    // One that had to wait, and so was claimed from the queue.
    const both = agents.map(({ id }) => world.agents.holdTunnel(world.teamId, id, 'session-2'))
    const taskId = await world.submit({ requirements: needs({ models: ['xl'] }) })
    await world.reaches(taskId, 'waiting')
    for (const letGo of both) letGo()
    expect((await agents[1].next()).name.task_id).toBe(taskId)
  })

  test('only who has labels, models, node classes and memory enough', async () => {
    const world = await dispatchWorld()
    const requirements = needs({ labels: ['studio'], models: ['xl'], nodes: ['KSampler'], minVramGb: 20 })
    const gpus = [{ device_name: 'NVIDIA L4', vram_total: 24e9 }]
    const small = [{ device_name: 'NVIDIA T4', vram_total: 16e9 }]
    const whole = { type: 'inventory', part: 1, parts: 1, models: ['xl'], node_classes: ['KSampler'] } as const
    const unfit = [
      await world.agent({ id: 'a', labels: [], gpus }),
      await world.agent({ id: 'b', labels: ['studio'], gpus: small }),
      await world.agent({ id: 'c', labels: ['studio'], gpus }),
      await world.agent({ id: 'd', labels: ['studio'], gpus }),
      await world.agent({ id: 'e', labels: ['studio'], gpus, tools: ['comfyui'] }),
    ]
    unfit[2]?.tell({ ...whole, models: ['other'] })
    unfit[3]?.tell({ ...whole, node_classes: [] })
    await until(() => world.dispatch.situations(world.teamId).filter(({ models }) => models !== 'any').length === 2)
    const taskId = await world.submit({ requirements })
    await world.reaches(taskId, 'waiting')
    const fit = await world.agent({ id: 'fit', labels: ['studio', 'more'], gpus })
    fit.tell(whole)
    expect((await fit.next()).name.task_id).toBe(taskId)
    expect(unfit.flatMap(({ attempts }) => attempts)).toEqual([])
  })

  test('no agent of before tasks', async () => {
    const world = await dispatchWorld()
    const agent = await world.agent({ tools: [] })
    const taskId = await world.submit()
    expect(await world.reaches(taskId, 'waiting')).toBeDefined()
    expect(agent.attempts).toEqual([])
  })
})
