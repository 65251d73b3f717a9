import { decodePng, pngChunks } from '@cyberun/testkit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import { COMFYUI_SETTINGS } from '../../../src/tools/comfyui/settings.ts'
import type { Outcome, Tool } from '../../../src/tools/tool.ts'
import * as graphs from './graphs.ts'
import { inputPlaceholder, TEST_DEPS, TestRun } from './test-run.ts'
import { QUICK } from './world.ts'

/** A ComfyUI to hold the adapter against. */
export interface ComfyuiFactory {
  readonly name: string
  start(): Promise<{ url: string } & AsyncDisposable>
  /** Whether ComfyUI's own test pack (TestSleep, TestSyncError) is among its nodes. */
  readonly hasTestPack: boolean
}

/**
 * What the adapter promises, asked of any ComfyUI: the simulated ones always, a real one when there is one. Every graph
 * needs neither a model nor a GPU.
 */
export function runComfyuiSuite(factory: ComfyuiFactory): void {
  describe(`the comfyui tool on ${factory.name}`, () => {
    let comfyui: Awaited<ReturnType<ComfyuiFactory['start']>>
    let tool: Tool

    beforeAll(async () => {
      comfyui = await factory.start()
      tool = createComfyuiTool(COMFYUI_SETTINGS.parse({ url: comfyui.url }), TEST_DEPS, { times: QUICK })
    })
    afterAll(async () => {
      await tool.stop?.()
      await comfyui[Symbol.asyncDispose]()
    })

    const post = async (path: string, body: unknown): Promise<{ prompt_id?: string }> => {
      const response = await fetch(comfyui.url + path, { method: 'POST', body: JSON.stringify(body) })
      const text = await response.text()
      return text === '' ? {} : JSON.parse(text)
    }
    const get = async (path: string): Promise<unknown> => (await fetch(comfyui.url + path)).json()
    const run = (testRun: TestRun): Promise<Outcome> => tool.run(testRun, testRun.signal)
    const isRunning = (testRun: TestRun) => async () => {
      const queue = (await get('/queue')) as { queue_running: [number, string][] }
      return queue.queue_running.some(([, id]) => id === testRun.remembered?.['prompt_id'])
    }

    test('is ready once the smallest prompt ran', async () => {
      await expect.poll(() => tool.health(AbortSignal.timeout(5_000))).toEqual({ state: 'ready' })
    })

    test('offers its version, models and node classes', async () => {
      const offer = await tool.detect(AbortSignal.timeout(20_000))
      expect(offer?.version).toMatch(/^\d+\.\d+\.\d+/)
      expect(offer?.nodeClasses).toEqual(expect.arrayContaining(['EmptyImage', 'SaveImage', 'CheckpointLoaderSimple']))
      expect(offer?.models).toBeDefined()
    })

    test('a saved picture arrives whole, without the graph among its metadata', async () => {
      using testRun = new TestRun(graphs.saves(0x0a141e))
      expect(await tool.check(testRun.assignment, testRun.signal)).toBeUndefined()
      const outcome = await run(testRun)
      expect(outcome).toEqual({
        kind: 'completed',
        output: { 9: { images: [{ file_name: 'ComfyUI_00001_.png', artifact: '9.images.0' }] } },
      })
      const [artifact] = testRun.artifacts
      expect(artifact).toMatchObject({ key: '9.images.0', contentType: 'image/png' })
      const raster = decodePng(artifact?.bytes ?? Buffer.alloc(0))
      expect([raster?.width, raster?.height, ...(raster?.pixels.subarray(0, 3) ?? [])]).toEqual([
        16, 16, 0x0a, 0x14, 0x1e,
      ])
      expect([...pngChunks(artifact?.bytes ?? Buffer.alloc(0))].map(({ type }) => type)).not.toContain('tEXt')
    })

    test('keeps the graph in pictures when it is told to', async () => {
      const keeping = createComfyuiTool(
        COMFYUI_SETTINGS.parse({ url: comfyui.url, image_metadata: 'keep' }),
        TEST_DEPS,
        { times: QUICK },
      )
      using testRun = new TestRun(graphs.saves(graphs.freshColor()))
      await keeping.run(testRun, testRun.signal)
      await keeping.stop?.()
      expect([...pngChunks(testRun.artifacts[0]?.bytes ?? Buffer.alloc(0))].map(({ type }) => type)).toContain('tEXt')
    })

    test('every picture of a batch has a key', async () => {
      using testRun = new TestRun(graphs.saves(graphs.freshColor(), 3))
      await run(testRun)
      expect(testRun.artifactKeys).toEqual(['9.images.0', '9.images.1', '9.images.2'])
    })

    test('an equal run makes its own file, though all but the saver is cached', async () => {
      const graph = graphs.saves(graphs.freshColor())
      for (const _ of ['first', 'second']) {
        using testRun = new TestRun(graph)
        expect(await run(testRun)).toMatchObject({ kind: 'completed' })
        expect(testRun.artifactKeys).toEqual(['9.images.0'])
      }
    })

    test('previews count when nothing was saved', async () => {
      using testRun = new TestRun(graphs.previews(graphs.freshColor()))
      expect(await run(testRun)).toMatchObject({ kind: 'completed' })
      expect(testRun.artifactKeys).toEqual(['3.images.0'])
    })

    test('pictures that come over the socket', async () => {
      using testRun = new TestRun(graphs.sendsToSocket(0x640000))
      expect(await run(testRun)).toMatchObject({ kind: 'completed' })
      expect(testRun.artifactKeys).toEqual(['3.images.0', '3.images.1'])
      for (const { bytes } of testRun.artifacts) expect(decodePng(bytes)?.pixels[0]).toBe(0x64)
      expect(testRun.previews).toEqual([])
    })

    test('text is output as it is, and a long one is a file', async () => {
      using short = new TestRun(graphs.tellsText(`hello ${graphs.freshColor()}`))
      expect(await run(short)).toMatchObject({ output: { 2: { text: [expect.stringContaining('hello')] } } })
      using long = new TestRun(graphs.tellsText('x'.repeat(20_000)))
      expect(await run(long)).toMatchObject({
        output: { 2: { text: [{ file_name: 'text.txt', artifact: '2.text.0' }] } },
      })
      expect(long.artifacts[0]?.bytes.length).toBe(20_000)
    })

    test('an input file is read, whatever its name', async () => {
      using source = new TestRun(graphs.saves(0x102030))
      await run(source)
      const picture = source.artifacts[0]?.bytes ?? Buffer.alloc(0)
      using testRun = new TestRun(graphs.invertsInput(inputPlaceholder('file-1')), { inputs: { 'file-1': picture } })
      expect(await run(testRun)).toMatchObject({ kind: 'completed' })
      expect([...(decodePng(testRun.artifacts[0]?.bytes ?? picture)?.pixels.subarray(0, 3) ?? [])]).toEqual([
        0xef, 0xdf, 0xcf,
      ])
    })

    test('a prefix that would leave the folder does not', async () => {
      using testRun = new TestRun(graphs.masks())
      expect(await run(testRun)).toMatchObject({ output: { 9: { images: [{ file_name: 'mask_00001_.png' }] } } })
    })

    test('a missing model is known before the task is taken', async () => {
      using testRun = new TestRun(graphs.needsModel('no-such-model.safetensors'))
      const declined = { reason: 'missing_model', detail: 'no-such-model.safetensors' }
      expect(await tool.check(testRun.assignment, testRun.signal)).toMatchObject(declined)
      expect(await run(testRun)).toMatchObject({ kind: 'failed', code: 'missing_model', fault: 'missing' })
      using asked = new TestRun(graphs.saves(1), { requiredModels: ['sdxl/none.safetensors'] })
      expect(await tool.check(asked.assignment, asked.signal)).toMatchObject({
        reason: 'missing_model',
        detail: 'sdxl/none.safetensors',
      })
    })

    test('a missing node class is known before the task is taken', async () => {
      using testRun = new TestRun(graphs.needsNode('NoSuchNode'))
      expect(await tool.check(testRun.assignment, testRun.signal)).toMatchObject({
        reason: 'missing_node',
        detail: 'NoSuchNode',
      })
      expect(await run(testRun)).toMatchObject({ kind: 'failed', code: 'missing_node', fault: 'missing' })
    })

    for (const [what, graph, said] of [
      ['a value out of bounds', graphs.badValues(), /node 1 \(EmptyImage\): Value -4 smaller than min of 1: width/],
      ['a graph without outputs', { 1: graphs.saves(1)['1'] }, /no outputs/],
      ['a cycle', graphs.cycle(), /ComfyUI refuses the workflow/],
      ['the format of the page', { nodes: [], links: [] }, /Export \(API\)/],
      ['no graph', { prompt: 'a cat' }, /no class_type/],
    ] as const) {
      test(`${what} is the caller's mistake`, async () => {
        using testRun = new TestRun(graph)
        const outcome = await run(testRun)
        expect(outcome).toMatchObject({
          kind: 'failed',
          code: 'invalid_workflow',
          fault: 'client',
          message: expect.stringMatching(said),
        })
      })
    }

    test('a prompt that ComfyUI would run in part is withdrawn and failed', async () => {
      using testRun = new TestRun(graphs.halfValid(graphs.freshColor()))
      const outcome = await run(testRun)
      expect(outcome).toMatchObject({
        kind: 'failed',
        fault: 'client',
        message: expect.stringContaining('node 10 (ImageScale)'),
      })
      expect(testRun.artifacts).toEqual([])
    })

    test('leaves no history entry', async () => {
      using testRun = new TestRun(graphs.saves(graphs.freshColor()))
      await run(testRun)
      expect(await get(`/history/${testRun.facts[0]?.['prompt_id']}`)).toEqual({})
    })

    test('a run that a former process began is taken up where ComfyUI has it, and lost where not', async () => {
      const promptId = crypto.randomUUID()
      const { prompt_id } = await post('/prompt', {
        prompt: graphs.saves(graphs.freshColor()),
        prompt_id: promptId,
        client_id: 'former',
      })
      using known = new TestRun(graphs.saves(1))
      await known.remember({ prompt_id })
      expect(await tool.resume?.(known, known.signal)).toMatchObject({ kind: 'completed' })
      expect(known.artifactKeys).toEqual(['9.images.0'])
      // What it delivered is remembered: the next life need not ask ComfyUI, which has forgotten it.
      expect(await tool.resume?.(known, known.signal)).toMatchObject({ kind: 'completed' })
      using unknown = new TestRun(graphs.saves(1))
      await unknown.remember({ prompt_id: crypto.randomUUID() })
      expect(await tool.resume?.(unknown, unknown.signal)).toBeUndefined()
      using never = new TestRun(graphs.saves(1))
      expect(await tool.resume?.(never, never.signal)).toBeUndefined()
    })

    describe.skipIf(!factory.hasTestPack)('with slow and failing nodes', () => {
      test('progress grows to its end and names the node', async () => {
        using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 0.3))
        expect(await run(testRun)).toMatchObject({ kind: 'completed' })
        const shares = testRun.reports.map(({ progress }) => progress)
        expect(shares).toEqual(shares.toSorted((a, b) => a - b))
        expect(shares.at(-1)).toBeGreaterThan(0.6)
        expect(testRun.reports.map(({ currentNode, message }) => `${currentNode} ${message}`)).toContain('2 TestSleep')
      })

      test('a failing node is told by name, and its traceback logged', async () => {
        using testRun = new TestRun(graphs.fails(graphs.freshColor()))
        const message = expect.stringMatching(/^Node 2 \(TestSyncError\) failed: .*Intentional/s)
        expect(await run(testRun)).toMatchObject({ kind: 'failed', code: 'node_failed', fault: 'tool', message })
        expect(testRun.logs.join('\n')).toContain('stderr ')
      })

      test('a running prompt is cancelled', async () => {
        using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 60))
        const ended = run(testRun)
        await expect.poll(isRunning(testRun)).toBe(true)
        testRun.cancel()
        expect(await ended).toEqual({ kind: 'cancelled' })
        expect(await get('/queue')).toEqual({ queue_running: [], queue_pending: [] })
      })

      test('waits behind somebody else, says so, and is cancelled there without a trace', async () => {
        const id = crypto.randomUUID()
        const foreign = await post('/prompt', {
          prompt: graphs.sleeps(graphs.freshColor(), 60),
          prompt_id: id,
          client_id: 'foreign',
        })
        using testRun = new TestRun(graphs.saves(graphs.freshColor()))
        const ended = run(testRun)
        await expect.poll(() => testRun.positions).toEqual([1])
        testRun.cancel()
        expect(await ended).toEqual({ kind: 'cancelled' })
        const queue = (await get('/queue')) as { queue_running: [number, string][] }
        expect(queue.queue_running.map(([, running]) => running)).toEqual([foreign.prompt_id])
        await post('/interrupt', {})
        await expect.poll(() => get('/queue')).toEqual({ queue_running: [], queue_pending: [] })
      })

      test('a run that somebody else interrupts is not cancelled, but lost', async () => {
        using testRun = new TestRun(graphs.sleeps(graphs.freshColor(), 60))
        const ended = run(testRun)
        await expect.poll(isRunning(testRun)).toBe(true)
        await post('/interrupt', {})
        expect(await ended).toMatchObject({ kind: 'failed', code: 'comfyui_interrupted', fault: 'infrastructure' })
      })

      test('a run that somebody else clears from the queue is lost', async () => {
        await post('/prompt', {
          prompt: graphs.sleeps(graphs.freshColor(), 60),
          prompt_id: crypto.randomUUID(),
          client_id: 'foreign',
        })
        using testRun = new TestRun(graphs.saves(graphs.freshColor()))
        const ended = run(testRun)
        await expect.poll(() => testRun.positions).toEqual([1])
        await post('/queue', { clear: true })
        expect(await ended).toMatchObject({ kind: 'failed', code: 'engine_lost', fault: 'infrastructure' })
        await post('/interrupt', {})
        await expect.poll(() => get('/queue')).toEqual({ queue_running: [], queue_pending: [] })
      })

      test('two runs at once take turns', async () => {
        using first = new TestRun(graphs.sleeps(graphs.freshColor(), 0.3))
        using second = new TestRun(graphs.saves(graphs.freshColor()))
        const outcomes = await Promise.all([run(first), run(second)])
        expect(outcomes.map(({ kind }) => kind)).toEqual(['completed', 'completed'])
        expect(second.positions[0]).toBe(1)
      })
    })
  })
}
