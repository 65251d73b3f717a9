import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import * as graphs from './graphs.ts'
import { TEST_DEPS, TestRun } from './test-run.ts'
import { addModel, QUICK, running, startWorld, type World } from './world.ts'

/** A ComfyUI that can do no more: what a run is told, and when its machine counts as unhealthy. */

const post = (world: World, path: string, body: unknown): Promise<Response> =>
  fetch(world.comfyui.url + path, { method: 'POST', body: JSON.stringify(body) })

describe('memory', () => {
  test('out of it once: models are unloaded, and the prompt runs again', async () => {
    await using world = await startWorld()
    world.comfyui.faults.outOfMemory = 1
    using testRun = new TestRun(graphs.saves(1))
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect([world.asked('POST /free'), world.asked('POST /prompt')]).toEqual([1, 2])
    expect(testRun.notes).toEqual([expect.stringContaining('run once more')])
  })

  test('out of it twice: another machine may have more', async () => {
    await using world = await startWorld()
    world.comfyui.faults.outOfMemory = 2
    using testRun = new TestRun(graphs.saves(1))
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'out_of_memory', fault: 'tool' })
  })

  test('other models are unloaded first when little is free, and not otherwise', async () => {
    for (const [vramFreeBytes, frees] of [
      [2 ** 30, 1],
      [2 ** 34, 0],
    ] as const) {
      await using world = await startWorld({ vramFreeBytes })
      for (const name of ['a.safetensors', 'b.safetensors']) addModel(world, name)
      for (const name of ['a.safetensors', 'a.safetensors', 'b.safetensors']) {
        using testRun = new TestRun(graphs.samples(name, graphs.freshColor(), 1))
        expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
      }
      expect(world.asked('POST /free')).toBe(frees)
    }
  })

  test('a GPU fault makes the machine unhealthy until ComfyUI is started anew', async () => {
    await using world = await startWorld()
    world.comfyui.faults.gpuFault = true
    using testRun = new TestRun(graphs.saves(1))
    expect(await world.run(testRun)).toMatchObject({ kind: 'failed', code: 'gpu_fault', fault: 'infrastructure' })
    const reason = expect.stringContaining('illegal memory access')
    expect(await world.health()).toEqual({ state: 'unhealthy', reason })
    expect(await world.tool.check(testRun.assignment, testRun.signal)).toMatchObject({ reason: 'tool_unhealthy' })
    await world.comfyui.kill()
    world.comfyui.faults.gpuFault = false
    await world.comfyui.start()
    await expect.poll(world.health).toEqual({ state: 'ready' })
  })
})

describe('cancelling', () => {
  test('an interrupt that is noticed late', async () => {
    await using world = await startWorld()
    world.comfyui.faults.slowInterruptMs = 700
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = world.run(testRun)
    await running(world, testRun)
    testRun.cancel()
    expect(await ended).toEqual({ kind: 'cancelled' })
  })

  for (const kind of [{ generation: 'ancient' }, { faults: { interruptHitsNeighbour: true } }] as const) {
    test(`a waiting prompt, where interrupts hit whatever runs, leaves the neighbour alone: ${Object.keys(kind)}`, async () => {
      await using world = await startWorld(kind)
      await post(world, '/prompt', { prompt: graphs.sleeps(2, 60), client_id: 'neighbour' })
      using testRun = new TestRun(graphs.saves(1))
      const ended = world.run(testRun)
      await expect.poll(() => testRun.positions).toEqual([1])
      testRun.cancel()
      expect(await ended).toEqual({ kind: 'cancelled' })
      expect(world.asked('POST /interrupt')).toBe(0)
    })
  }

  test('a node that never ends: given up at the last step, and the machine unhealthy while it holds on', async () => {
    await using world = await startWorld()
    world.comfyui.faults.freezeAt = 'TestSleep'
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = world.run(testRun)
    await running(world, testRun)
    testRun.cancel('kill')
    expect(await ended).toEqual({ kind: 'cancelled' })
    expect(await world.health()).toEqual({ state: 'unhealthy', reason: 'A cancelled prompt does not end.' })
    await world.comfyui.kill()
    world.comfyui.faults.freezeAt = ''
    await world.comfyui.start()
    await expect.poll(world.health).toEqual({ state: 'ready' })
  })

  test('before its turn', async () => {
    await using world = await startWorld()
    using first = new TestRun(graphs.sleeps(1, 60))
    using second = new TestRun(graphs.saves(2))
    const ended = [world.run(first), world.run(second)]
    await running(world, first)
    second.cancel()
    expect(await ended[1]).toEqual({ kind: 'cancelled' })
    first.cancel()
    expect(await ended[0]).toEqual({ kind: 'cancelled' })
    expect(world.asked('POST /prompt')).toBe(1)
  })

  test('when the tool was quicker: cancelled all the same', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(graphs.saves(1))
    testRun.onArtifact = () => testRun.cancel()
    expect(await world.run(testRun)).toEqual({ kind: 'cancelled' })
  })
})

describe('a ComfyUI that answers and does not work', () => {
  const idle = { cpuMs: 0, diskBytes: 0 }
  const impatient = {
    settings: { stall_seconds: 1 },
    activity: () => idle,
    times: { idleWorkerMs: 300, canaryMs: 500 },
  }

  test('a worker that died holding a prompt', async () => {
    await using world = await startWorld(impatient)
    world.comfyui.faults.deadWorker = 'holding'
    using testRun = new TestRun(graphs.saves(1))
    const ended = world.run(testRun)
    await expect.poll(world.health).toMatchObject({
      state: 'unhealthy',
      reason: expect.stringMatching(/dead worker or a frozen node/),
    })
    expect(await ended).toMatchObject({ kind: 'failed', code: 'engine_stuck', fault: 'infrastructure' })
    await world.comfyui.kill()
    world.comfyui.faults.deadWorker = 'no'
    await world.comfyui.start()
    await expect.poll(world.health).toEqual({ state: 'ready' })
  })

  test('a worker that died between two prompts', async () => {
    await using world = await startWorld(impatient)
    world.comfyui.faults.deadWorker = 'idle'
    // It looks at the switch when it is done with this one.
    using last = new TestRun(graphs.saves(1))
    await world.run(last)
    using testRun = new TestRun(graphs.saves(2))
    expect(await world.run(testRun)).toMatchObject({
      kind: 'failed',
      code: 'engine_stuck',
      message: expect.stringContaining('worker is dead'),
    })
    expect(await world.health()).toMatchObject({ state: 'unhealthy' })
  })

  test('a frozen node', async () => {
    await using world = await startWorld(impatient)
    world.comfyui.faults.freezeAt = 'TestSleep'
    using testRun = new TestRun(graphs.sleeps(1, 1))
    const ended = world.run(testRun)
    await expect.poll(world.health).toMatchObject({ state: 'unhealthy' })
    expect(await ended).toMatchObject({ kind: 'failed', code: 'engine_stuck' })
  })

  test('a long silent node that uses the machine is none', async () => {
    let cpuMs = 0
    const activity = () => {
      cpuMs += 1_000
      return { cpuMs, diskBytes: 0 }
    }
    await using world = await startWorld({ ...impatient, activity })
    using testRun = new TestRun(graphs.blocks(1, 2.5))
    const ended = world.run(testRun)
    const states = new Set<string>()
    let isOver = false
    void ended.finally(() => {
      isOver = true
    })
    while (!isOver) states.add((await world.health()).state)
    expect(await ended).toMatchObject({ kind: 'completed' })
    expect([...states]).toEqual(['ready'])
  })

  test('one that does not finish the smallest prompt is not ready', async () => {
    await using world = await startWorld(impatient)
    await world.comfyui.kill()
    world.comfyui.faults.freezeAt = 'EmptyImage'
    await world.comfyui.start()
    await expect.poll(world.health).toMatchObject({
      state: 'unhealthy',
      reason: expect.stringContaining('smallest prompt'),
    })
  })

  test('one that does not answer', async () => {
    await using world = await startWorld({ times: { callMs: 300 } })
    world.comfyui.faults.mute = true
    expect(await world.health()).toMatchObject({
      state: 'unhealthy',
      reason: expect.stringContaining('GET /system_stats'),
    })
  })

  test('something else that listens on the port', async () => {
    const server = createServer((_, response) => response.end('<html>')).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const tool = createComfyuiTool({ url, image_metadata: 'strip', keep_files: false, stall_seconds: 20 }, TEST_DEPS, {
      times: QUICK,
    })
    expect(await tool.detect(AbortSignal.timeout(5_000))).toBeUndefined()
    expect(await tool.health(AbortSignal.timeout(5_000))).toMatchObject({
      state: 'unhealthy',
      reason: expect.stringContaining('no ComfyUI'),
    })
    await tool.stop?.()
    server.close()
    server.closeAllConnections()
  })
})
