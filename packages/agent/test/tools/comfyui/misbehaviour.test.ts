import { until } from '@cyberun/testkit/until'
import { describe, expect, test } from 'vitest'
import { AgentStopping } from '../../../src/tools/tool.ts'
import * as graphs from './graphs.ts'
import { TestRun } from './test-run.ts'
import { addModel, running, startWorld } from './world.ts'

/** What ComfyUI is known to do wrong from a prompt to its end, one switch of the simulator after the other. */

describe('submitting', () => {
  test('a prompt whose answer is lost is looked for, and not submitted again', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    world.comfyui.faults.losesReplies = 1
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(world.asked('POST /prompt')).toBe(1)
  })

  test('a prompt that ComfyUI has not is submitted again under the same id', async () => {
    await using world = await startWorld({ generation: 'modern' })
    using testRun = new TestRun(graphs.saves(1))
    world.comfyui.faults.failsSubmits = 2
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(world.asked('POST /prompt')).toBe(3)
    expect(new Set(testRun.facts.map((fact) => fact['prompt_id'])).size).toBe(1)
  })

  test('one that never succeeds is no fault of the caller', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    world.comfyui.faults.failsSubmits = 100
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'comfyui_refused', fault: 'infrastructure' })
  })

  test('the id is on disk before ComfyUI hears of it', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    let asked = 0
    testRun.onRemember = () => {
      asked += world.asked('POST /prompt')
    }
    await world.run(testRun)
    expect(testRun.facts.length).toBeGreaterThan(0)
    expect(asked - (testRun.facts.length - 1)).toBe(0)
  })
})

describe('the socket', () => {
  for (const generation of ['classic', 'modern'] as const) {
    test(`a new one is not deaf (${generation})`, async () => {
      await using world = await startWorld({ generation })
      world.comfyui.cutSockets()
      await expect.poll(world.health).toEqual({ state: 'ready' })
      for (const _ of Array(3)) {
        await until(async () => {
          using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 0.05))
          await world.run(testRun)
          return testRun.reports.length > 0 && testRun.notes.length === 0
        })
      }
    })
  }

  test('cut in the middle of a run: the run goes on, and one note says that progress does not', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 0.3))
    world.comfyui.faults.cutSocketsAt = 'TestSleep'
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(testRun.notes).toEqual([expect.stringContaining('Progress is not available')])
  })

  test('cut when pictures come over it: the run is lost, not short of pictures', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sendsToSocket(1))
    world.comfyui.faults.cutSocketsAt = 'SaveImageWebsocket'
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'output_lost', fault: 'infrastructure' })
  })

  test('behind history when pictures come over it: they are waited for', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sendsToSocket(1))
    world.comfyui.faults.socketDelayMs = 500
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(testRun.artifactKeys).toEqual(['3.images.0', '3.images.1'])
  })

  test('silent when pictures come over it: the run is lost after a while', async () => {
    await using world = await startWorld({ times: { unreachableMs: 300 } })
    using testRun = new TestRun(graphs.sendsToSocket(1))
    world.comfyui.faults.socketDelayMs = 60_000
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'output_lost', fault: 'infrastructure' })
  })

  for (const generation of ['ancient', 'classic'] as const) {
    test(`previews arrive in the form of a ${generation} server`, async () => {
      await using world = await startWorld({ generation })
      addModel(world, 'a.safetensors')
      using testRun = new TestRun(graphs.samples('a.safetensors', 1))
      expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
      expect(testRun.previews[0]).toMatchObject({ contentType: 'image/png' })
      expect(
        Buffer.from(testRun.previews[0]?.bytes ?? [])
          .subarray(1, 4)
          .toString(),
      ).toBe('PNG')
      expect(testRun.reports).toContainEqual(
        expect.objectContaining({ currentNode: '2', message: 'KSampler', stepTotal: 5 }),
      )
    })
  }

  test('a flood of huge progress states is read now and then', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 0.3))
    world.comfyui.faults.progressFlood = { messages: 20, nodes: 500 }
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(testRun.reports.length).toBeGreaterThan(0)
  })
})

describe('how a run ended', () => {
  test('history that comes later than its announcement is waited for', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    world.comfyui.faults.historyDelayMs = 400
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
  })

  test('a success with an error among its messages is a failure', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.fails(1))
    world.comfyui.faults.liesAboutSuccess = true
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'node_failed' })
  })

  test('history that is never written is a lost run', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    world.comfyui.faults.losesHistory = true
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'engine_lost', fault: 'infrastructure' })
  })

  test('a ComfyUI started anew in the middle has lost the run', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = world.run(testRun)
    await running(world, testRun)
    await world.comfyui.kill()
    await world.comfyui.start()
    expect(await ended).toMatchObject({ kind: 'failed', code: 'engine_lost', fault: 'infrastructure' })
  })

  test('a ComfyUI that stays away has lost the run', async () => {
    await using world = await startWorld({ times: { unreachableMs: 300 } })
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = world.run(testRun)
    await running(world, testRun)
    await world.comfyui.kill()
    expect(await ended).toMatchObject({
      kind: 'failed',
      code: 'engine_lost',
      message: expect.stringContaining('ECONN'),
    })
    expect(await world.health()).toMatchObject({ state: 'unhealthy' })
  })

  test('a run that is left by a stopping agent goes on, and the next one takes it up', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 3))
    const ended = world.run(testRun)
    await running(world, testRun)
    testRun.cancel('asked', new AgentStopping('the agent stops'))
    await ended
    using next = new TestRun(testRun.assignment.workflow)
    await next.remember(testRun.remembered ?? {})
    expect(await world.tool.resume?.(next, next.signal)).toMatchObject({ kind: 'completed' })
    expect(next.artifactKeys).toEqual(['9.images.0'])
  })
})
