import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import * as graphs from './graphs.ts'
import { inputPlaceholder, TEST_DEPS, TestRun } from './test-run.ts'
import { addModel, QUICK, startWorld } from './world.ts'

/** Files on their way out of a ComfyUI and into it, and what goes wrong there. */

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
    await using world = await startWorld({ times: { fileIdleMs: 500 } })
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
