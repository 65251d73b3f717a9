import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import { AgentStopping } from '../../../src/tools/tool.ts'
import * as graphs from './graphs.ts'
import { inputPlaceholder, TEST_DEPS, TestRun } from './test-run.ts'
import { QUICK, startWorld, type World } from './world.ts'

/** Everything ComfyUI is known to do wrong, one switch of the simulator after the other. */

/** Resolves when the run's prompt is the one that runs. */
async function running(world: World, testRun: TestRun): Promise<void> {
  await expect
    .poll(async () => {
      const response = await fetch(`${world.comfyui.url}/queue`)
      const queue = (await response.json()) as { queue_running: [number, string][] }
      return queue.queue_running.some(([, id]) => id === testRun.remembered?.['prompt_id'])
    })
    .toBe(true)
}

const post = (world: World, path: string, body: unknown): Promise<Response> =>
  fetch(world.comfyui.url + path, { method: 'POST', body: JSON.stringify(body) })

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
        await expect
          .poll(async () => {
            using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 0.05))
            await world.run(testRun)
            return testRun.reports.length > 0 && testRun.notes.length === 0
          })
          .toBe(true)
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

describe('outputs', () => {
  test('files of any kind, and values beside them', async () => {
    await using world = await startWorld()
    const file = (filename: string, type = 'output') => ({ filename, subfolder: '', type })
    const listing = {
      gifs: [file('a.mp4'), file('b.weird')],
      '3d': ['mesh.glb'],
      animated: [true],
      images: [file('t.png', 'temp')],
    }
    using testRun = new TestRun(graphs.makesFiles(listing, 5_000))
    expect(await world.run(testRun)).toEqual({
      kind: 'completed',
      output: {
        7: {
          gifs: [
            { file_name: 'a.mp4', artifact: '7.gifs.0' },
            { file_name: 'b.weird', artifact: '7.gifs.1' },
          ],
          '3d': [{ file_name: 'mesh.glb', artifact: '7.3d.0' }],
          animated: [true],
        },
      },
    })
    expect(testRun.artifacts.map(({ bytes }) => bytes.length)).toEqual([5_000, 5_000, 5_000])
    expect(testRun.notes).toEqual([expect.stringContaining('--disable-metadata')])
  })

  test('an empty file is a file', async () => {
    await using world = await startWorld()
    using testRun = new TestRun(
      graphs.makesFiles({ files: [{ filename: 'empty.bin', subfolder: '', type: 'output' }] }, 0),
    )
    await world.run(testRun)
    expect(testRun.artifacts).toEqual([expect.objectContaining({ key: '7.files.0', bytes: Buffer.alloc(0) })])
  })

  test('a download that is cut goes on where it ended', async () => {
    await using world = await startWorld()
    Object.assign(world.comfyui.faults, { viewCuts: 4, viewCutBytes: 70_000 })
    using testRun = new TestRun(
      graphs.makesFiles({ files: [{ filename: 'big.bin', subfolder: '', type: 'output' }] }, 1_000_000),
    )
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(testRun.artifacts[0]?.bytes.equals(Buffer.alloc(1_000_000, 'simulated '))).toBe(true)
    expect(world.asked('GET /view')).toBe(5)
  })

  test('a download that brings nothing more is given up', async () => {
    await using world = await startWorld()
    Object.assign(world.comfyui.faults, { viewCuts: 1_000, viewCutBytes: 0 })
    using testRun = new TestRun(graphs.saves(1))
    expect(await world.run(testRun)).toMatchObject({
      kind: 'failed',
      code: 'comfyui_unreachable',
      fault: 'infrastructure',
    })
  })

  test('one that stands still is begun again', async () => {
    await using world = await startWorld({ times: { fileIdleMs: 100 } })
    world.comfyui.faults.viewPauseMs = 60_000
    using testRun = new TestRun(
      graphs.makesFiles({ files: [{ filename: 'slow.bin', subfolder: '', type: 'output' }] }, 150_000),
    )
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect(world.asked('GET /view')).toBeGreaterThan(2)
  })

  test('a file that is gone is made again with an empty cache, once', async () => {
    await using world = await startWorld()
    world.comfyui.faults.losesFiles = 1
    using testRun = new TestRun(graphs.saves(1))
    expect(await world.run(testRun)).toMatchObject({ kind: 'completed' })
    expect([world.asked('POST /free'), world.asked('POST /prompt')]).toEqual([1, 2])
    world.comfyui.faults.losesFiles = 100
    using again = new TestRun(graphs.saves(2))
    expect(await world.run(again)).toMatchObject({ kind: 'failed', code: 'output_missing', fault: 'tool' })
  })

  test('what other prompts left in history is not ours', async () => {
    await using world = await startWorld()
    world.comfyui.faults.foreignOutputs = true
    using testRun = new TestRun(graphs.saves(1))
    await world.run(testRun)
    expect(testRun.artifactKeys).toEqual(['9.images.0'])
  })

  test('nothing of a task stays behind when the folder is known, and everything when files are kept', async () => {
    await using world = await startWorld()
    const run = async (settings: object): Promise<void> => {
      const tool = createComfyuiTool(
        { url: world.comfyui.url, image_metadata: 'strip', keep_files: false, stall_seconds: 20, ...settings },
        TEST_DEPS,
        { times: QUICK },
      )
      using testRun = new TestRun(graphs.saves(graphs.freshColor()))
      await tool.run(testRun, testRun.signal)
      await tool.stop?.()
    }
    const left = (): string[] => readdirSync(join(world.baseDirectory, 'output', 'cyberun'))
    await run({ folder: world.baseDirectory })
    expect(left()).toEqual([])
    await run({ folder: world.baseDirectory, keep_files: true })
    expect(left()).toHaveLength(1)
    expect(Object.keys((await (await fetch(`${world.comfyui.url}/history`)).json()) as object)).toHaveLength(1)
  })
})

describe('inputs', () => {
  test('one that is too large for ComfyUI is declined, with what to do', async () => {
    await using world = await startWorld({ maxUploadBytes: 10_000 })
    using testRun = new TestRun(graphs.invertsInput(inputPlaceholder('f')), { inputs: { f: Buffer.alloc(20_000) } })
    const declined = await world.tool.check(testRun.assignment, testRun.signal)
    expect(declined).toMatchObject({ reason: 'not_allowed', message: expect.stringContaining('--max-upload-size') })
  })

  test('or copied, when the input folder is known', async () => {
    await using world = await startWorld({ maxUploadBytes: 3_000 })
    const tool = createComfyuiTool(
      {
        url: world.comfyui.url,
        folder: world.baseDirectory,
        image_metadata: 'strip',
        keep_files: true,
        stall_seconds: 20,
      },
      TEST_DEPS,
      { times: QUICK },
    )
    using testRun = new TestRun(graphs.invertsInput(inputPlaceholder('f')), { inputs: { f: Buffer.alloc(20_000) } })
    expect(await tool.check(testRun.assignment, testRun.signal)).toBeUndefined()
    // It is no picture; but it got as far as the node that reads it.
    expect(await tool.run(testRun, testRun.signal)).toMatchObject({
      code: 'node_failed',
      message: expect.stringContaining('LoadImage'),
    })
    const folder = `cyberun/${testRun.assignment.taskId}-1`
    expect(existsSync(join(world.baseDirectory, 'input', folder, '0.png'))).toBe(true)
    await tool.stop?.()
  })

  test('a model that came after the start is found', async () => {
    await using world = await startWorld()
    await world.tool.detect(AbortSignal.timeout(5_000))
    using testRun = new TestRun(graphs.samples('late.safetensors', 1))
    expect(await world.tool.check(testRun.assignment, testRun.signal)).toMatchObject({ reason: 'missing_model' })
    addModel(world, 'late.safetensors')
    expect(await world.tool.check(testRun.assignment, testRun.signal)).toBeUndefined()
  })
})

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

function addModel(world: World, name: string): void {
  const folder = join(world.baseDirectory, 'models', 'checkpoints')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), 'weights')
}
