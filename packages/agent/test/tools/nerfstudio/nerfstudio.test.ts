import { readFileSync } from 'node:fs'
import { chmod, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createNerfstudioTool } from '../../../src/tools/nerfstudio/nerfstudio.ts'
import { readStageLine } from '../../../src/tools/nerfstudio/stages.ts'
import type { Assignment, InputFile, Tool } from '../../../src/tools/tool.ts'
import { assignment, testRun } from '../test-run.ts'

const NEVER = new AbortController().signal
const PROGRAMS = ['ns-process-data', 'ns-train', 'ns-eval', 'ns-export', 'ns-render']

interface Studio {
  readonly bin: string
  readonly tool: Tool
  calls(): string[]
}

/** An installation whose programs are stand-ins. */
async function studio(programs = PROGRAMS): Promise<Studio> {
  const bin = await mkdtemp(join(tmpdir(), 'cyberun-ns-'))
  onTestFinished(() => rm(bin, { recursive: true, force: true }))
  await writeFile(join(bin, 'package.json'), '{"type":"module"}')
  for (const program of programs) {
    await copyFile(new URL('./ns-stand-in.mjs', import.meta.url), join(bin, program))
    await chmod(join(bin, program), 0o755)
  }
  const tool = createNerfstudioTool(
    { bin },
    {
      log: createLog({ level: 'silent', format: 'json' }),
      stateDir: join(bin, 'state'),
      env: { PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter) },
      now: () => performance.now(),
    },
  )
  return { bin, tool, calls: () => readFileSync(join(bin, 'calls.txt'), 'utf8').trim().split('\n') }
}

const file = (number: number, contentType: string): InputFile => ({
  parameter: `file_${number}`,
  fileKey: `key-${number}`,
  fileName: 'x',
  contentType,
  size: 1,
  sha256: '',
})

const VIDEO: Partial<Assignment> = {
  parameters: { max_iterations: 1_000 },
  files: [file(0, 'video/mp4')],
}

async function inputs(bin: string): Promise<Record<string, string>> {
  await writeFile(join(bin, 'given.mp4'), 'video')
  return { 'key-0': join(bin, 'given.mp4'), 'key-1': join(bin, 'given.mp4') }
}

describe('the nerfstudio tool', () => {
  test('makes a scene of a video in five stages, telling how far it is', async () => {
    const { bin, tool, calls } = await studio()
    const { run, progress, artifacts, lines } = await testRun(VIDEO, await inputs(bin))
    expect(await tool.run(run, NEVER)).toMatchObject({
      kind: 'completed',
      output: { files: [{ path: 'export/point_cloud.ply' }, { path: 'metrics.json' }, { path: 'render.mp4' }] },
    })
    expect(calls()).toEqual([
      'ns-process-data video',
      'ns-train nerfacto',
      'ns-eval --load-config',
      'ns-export pointcloud',
      'ns-render interpolate',
    ])
    expect(artifacts.map(({ fileName }) => fileName)).toEqual(['point_cloud.ply', 'metrics.json', 'render.mp4'])
    const shares = progress.map((one) => one.progress)
    expect(shares).toEqual([...shares].sort((a, b) => a - b))
    expect(progress).toContainEqual({
      progress: expect.closeTo(0.45) as unknown,
      stage: 'train',
      message: 'stage 2 of 5',
      stepCurrent: 500,
    })
    expect(progress.at(-1)).toMatchObject({ progress: 1 })
    expect(lines.map(({ line }) => line)).toContain('Extracting features: 100%|##########|')
  })

  test('takes pictures too, and exports splats as such', async () => {
    const { bin, tool, calls } = await studio()
    const { run } = await testRun(
      { workflow: { method: 'splatfacto' }, files: [file(0, 'image/png'), file(1, 'image/jpeg')] },
      await inputs(bin),
    )
    expect(await tool.run(run, NEVER)).toMatchObject({ kind: 'completed' })
    expect(calls()).toEqual(expect.arrayContaining(['ns-process-data images', 'ns-export gaussian-splat']))
  })

  test.each(PROGRAMS)('stops where %s fails, and says with which words', async (program) => {
    const { bin, tool, calls } = await studio()
    await writeFile(join(bin, `fail-${program}`), '')
    const { run, artifacts } = await testRun(VIDEO, await inputs(bin))
    expect(await tool.run(run, NEVER)).toEqual({
      kind: 'failed',
      code: 'exit_code',
      message: `${program} ended with exit code 1. Its last line: torch.cuda.OutOfMemoryError: CUDA out of memory.`,
      fault: 'tool',
    })
    expect(calls()).toHaveLength(PROGRAMS.indexOf(program) + 1)
    expect(artifacts).toEqual([])
  })

  test('ends in the middle of a stage when it is cancelled', async () => {
    const { bin, tool, calls } = await studio()
    await writeFile(join(bin, 'hang-ns-train'), '')
    const { run, cancel } = await testRun(VIDEO, await inputs(bin))
    const outcome = tool.run(run, cancel.signal)
    await expect.poll(calls).toHaveLength(2)
    cancel.abort(new Error('cancelled'))
    expect(await outcome).toEqual({ kind: 'cancelled' })
  })

  test('is offered only where all its programs are, and says which one is not', async () => {
    const whole = await studio()
    expect(await whole.tool.detect(NEVER)).toEqual({ version: 'installed', labels: [] })
    expect(await whole.tool.health(NEVER)).toEqual({ state: 'ready' })
    const half = await studio(['ns-process-data', 'ns-train'])
    expect(await half.tool.detect(NEVER)).toBeUndefined()
    expect(await half.tool.health(NEVER)).toEqual({
      state: 'unhealthy',
      reason: `ns-eval is not in ${half.bin}: set nerfstudio.bin`,
    })
  })

  test.each([
    [{ files: [] }, /one video, or two pictures/],
    [{ files: [file(0, 'image/png')] }, /one video, or two pictures/],
    [{ ...VIDEO, parameters: { method: 'gaussian' } }, /method: .*"nerfacto"/],
    [{ ...VIDEO, parameters: { max_iterations: 0 } }, /max_iterations: /],
  ])('declines %j, saying why', async (change, message) => {
    const { tool } = await studio([])
    const declined = await tool.check(assignment(change), NEVER)
    expect(declined).toMatchObject({ reason: 'invalid', message: expect.stringMatching(message) as unknown })
  })
})

test.each([
  ['1250 (4.17%)         35.5 ms             10 m, 2 s', { share: 0.0417, step: 1250 }],
  ['\u001b[1m30000 (100.00%)\u001b[0m 35 ms', { share: 1, step: 30_000 }],
  ['Extracting features:  50%|#####     |', { share: 0.5 }],
  ['Rendering  12.5 % 3/24', { share: 0.125 }],
  ['loaded 400% more than before', undefined],
  ['Saving config', undefined],
])('the line %j says %j', (line, read) => {
  expect(readStageLine(line)).toEqual(read)
})
