import { describe, expect, test } from 'vitest'
import { createDemoTool } from '../../../src/tools/demo/demo.ts'
import { assignment, testRun } from '../test-run.ts'

const NEVER = new AbortController().signal

describe('the demo tool', () => {
  test('echoes its parameters', async () => {
    const { run } = await testRun({ workflow: { program: 'echo' }, parameters: { words: ['a', 1] } })
    expect(await createDemoTool().run(run, NEVER)).toEqual({ kind: 'completed', output: { words: ['a', 1] } })
  })

  test('draws a fractal in steps, with previews, and keeps it as a PNG', async () => {
    const parameters = { width: 700, height: 500, iterations: 1_000, zoom: 3 }
    const { run, artifacts, progress, previews } = await testRun({ workflow: { program: 'fractal' }, parameters })
    expect(await createDemoTool().run(run, NEVER)).toEqual({
      kind: 'completed',
      output: { fractal: { images: [{ file_name: 'fractal.png', artifact: 'fractal.images.0' }] } },
    })
    expect(artifacts).toMatchObject([{ key: 'fractal.images.0', fileName: 'fractal.png', contentType: 'image/png' }])
    const [png] = artifacts
    expect([png?.bytes.readUInt32BE(16), png?.bytes.readUInt32BE(20)]).toEqual([700, 500])
    expect(progress.at(-1)).toEqual({ progress: 1, currentNode: 'fractal' })
    expect(previews.length).toBeGreaterThan(0)
    expect(Math.max(...previews.map(({ length }) => length))).toBeLessThan(192 * 1024)
  })

  test('ends at once when it is cancelled', async () => {
    const parameters = { width: 4_096, height: 4_096, iterations: 10_000, zoom: 1 }
    const { run, cancel, artifacts } = await testRun({ workflow: { program: 'fractal' }, parameters })
    const outcome = createDemoTool().run(run, cancel.signal)
    cancel.abort(new Error('enough'))
    expect(await outcome).toEqual({ kind: 'cancelled' })
    expect(artifacts).toEqual([])
  })

  test.each([
    [{ program: 'mandelbulb' }, {}, /programs fractal and echo/],
    [{}, {}, /programs fractal and echo/],
    [{ program: 'fractal' }, { width: 1e9 }, /width: .*4096/],
    [{ program: 'fractal' }, { palette: 'plaid' }, /palette: .*"fire"/],
    [{ program: 'fractal', zoom: 'far' }, {}, /zoom: .*number/],
  ])('declines %j with %j, saying why', async (workflow, parameters, message) => {
    const tool = createDemoTool()
    expect(await tool.check(assignment({ workflow, parameters }), NEVER)).toEqual({
      reason: 'invalid',
      message: expect.stringMatching(message) as unknown,
    })
    const { run } = await testRun({ workflow, parameters })
    expect(await tool.run(run, NEVER)).toMatchObject({ kind: 'failed', fault: 'client' })
  })
})
