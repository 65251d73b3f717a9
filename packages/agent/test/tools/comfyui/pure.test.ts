import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { readActivity } from '../../../src/tools/comfyui/activity.ts'
import { readEnding, readHistory, readQueue, readStats } from '../../../src/tools/comfyui/answers.ts'
import { runCanary } from '../../../src/tools/comfyui/canary.ts'
import { readGraph, rewriteGraph } from '../../../src/tools/comfyui/graph.ts'
import { ComfyuiRefusal } from '../../../src/tools/comfyui/http.ts'
import { stripImageMetadata } from '../../../src/tools/comfyui/image-metadata.ts'
import { readOutputs } from '../../../src/tools/comfyui/outputs.ts'
import { explainNodeErrors, explainRefusal, judgeFailure } from '../../../src/tools/comfyui/refusals.ts'
import { COMFYUI_SETTINGS } from '../../../src/tools/comfyui/settings.ts'
import { readMessage, readPicture } from '../../../src/tools/comfyui/socket-events.ts'
import { Watchdog } from '../../../src/tools/comfyui/watchdog.ts'
import { saves } from './graphs.ts'

const directory = mkdtempSync(join(tmpdir(), 'cyberun-comfyui-pure-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const graphOf = (workflow: Record<string, unknown>) => {
  const graph = readGraph(workflow)
  if (typeof graph === 'string') throw new Error(graph)
  return graph
}

describe('what ComfyUI answers', () => {
  test('waiting prompts are told in the order in which they will run', () => {
    const queue = { queue_running: [[3, 'r', {}]], queue_pending: [[9, 'c'], [4, 'a'], [7, 'b'], 'garbage'] }
    expect(readQueue(queue)).toEqual({ running: ['r'], pending: ['', 'a', 'b', 'c'] })
  })

  test('the last closing message tells how a prompt ended', () => {
    const ending = (messages: unknown[], status_str = 'success') => {
      const entry = readHistory({ id: { outputs: {}, status: { status_str, messages } } }, 'id')
      return entry === undefined ? undefined : readEnding(entry).kind
    }
    const error = ['execution_error', { node_id: '1' }]
    expect(ending([['execution_start', {}], error])).toBe('error')
    expect(ending([error, ['execution_success', {}]])).toBe('success')
    expect(ending([['execution_interrupted', {}]], 'error')).toBe('interrupted')
    expect(ending([], 'error')).toBe('error')
    expect(ending([])).toBe('success')
  })

  test('nothing that it might answer throws', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        readQueue(value)
        readStats(value)
        readHistory({ id: value }, 'id')
        const entry = readHistory({ id: { outputs: value, status: value, meta: value } }, 'id')
        if (entry !== undefined) readOutputs(entry, graphOf(saves(1)))
        explainRefusal(new ComfyuiRefusal('POST /prompt', 400, value))
        explainNodeErrors(value)
        readMessage(JSON.stringify(value))
        readMessage(JSON.stringify({ type: 'progress_state', data: value }))
        readMessage(JSON.stringify({ type: 'logs', data: { entries: value } }))
      }),
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void readPicture(Buffer.from(bytes))))
    fc.assert(fc.property(fc.string(), (text) => void readMessage(text)))
  })

  test('preview frames that are cut short are no pictures', () => {
    const about = Buffer.from('{"image_type":"image/png","node_id":"2"}')
    const frame = Buffer.concat([Buffer.from([0, 0, 0, 4, 0, 0, 0, about.length]), about, Buffer.from('png')])
    expect(readPicture(frame)).toMatchObject({ kind: 'picture', node: '2', bytes: Buffer.from('png') })
    expect(readPicture(frame.subarray(0, 20))).toBeUndefined()
    expect(readPicture(Buffer.from([0, 0, 0, 3, 0, 0, 0, 1, 65]))).toBeUndefined()
  })

  test('a progress bar in the log is its last state', () => {
    const entries = [{ m: ' 0%|  |\r 50%|# |' }, { m: '\r100%|##|\n' }, { m: 'done\n' }]
    expect(readMessage(JSON.stringify({ type: 'logs', data: { entries } }))).toEqual({
      kind: 'log',
      lines: ['100%|##|', 'done'],
    })
  })
})

describe('what a refusal means', () => {
  const refused = (body: unknown, status = 400) => explainRefusal(new ComfyuiRefusal('POST /prompt', status, body))
  const nodeErrors = (type: string, input_name: string, received_value: unknown) => ({
    4: {
      class_type: 'Loader',
      errors: [{ type, message: 'Value not in list', details: '', extra_info: { input_name, received_value } }],
    },
  })

  test.each([
    [
      { error: { type: 'missing_node_type', message: 'x', extra_info: { class_type: 'Fancy' } } },
      'missing_node',
      'missing',
    ],
    [
      { error: { type: 'invalid_prompt', message: 'Cannot execute because node Fancy does not exist.' } },
      'missing_node',
      'missing',
    ],
    [
      { error: {}, node_errors: nodeErrors('value_not_in_list', 'ckpt_name', 'a.safetensors') },
      'missing_model',
      'missing',
    ],
    [
      { error: {}, node_errors: nodeErrors('value_not_in_list', 'sampler_name', 'magic') },
      'invalid_workflow',
      'client',
    ],
    [{ error: { type: 'prompt_no_outputs', message: 'Prompt has no outputs' } }, 'invalid_workflow', 'client'],
    ['Server got itself in trouble', 'comfyui_refused', 'infrastructure'],
  ])('%j', (body, code, fault) => {
    expect(refused(body)).toMatchObject({ kind: 'failed', code, fault })
  })

  test('a failing node: out of memory, a GPU fault, or itself', () => {
    const judge = (exceptionType: string, message: string) =>
      judgeFailure({ nodeId: '', nodeType: '', traceback: [], exceptionType, message })
    expect(judge('torch.OutOfMemoryError', '')).toBe('out_of_memory')
    expect(judge('RuntimeError', 'HIP out of memory. Tried to allocate')).toBe('out_of_memory')
    expect(judge('RuntimeError', 'CUDA error: device-side assert triggered')).toBe('gpu_fault')
    expect(judge('ValueError', 'shape mismatch')).toBe('node')
  })
})

describe('graphs', () => {
  test('no prefix leaves the folder of the attempt, and links stay', () => {
    const prefix = (filename_prefix: unknown): unknown => {
      const graph = rewriteGraph(
        { 1: { class_type: 'Saver', inputs: { filename_prefix } } },
        { folder: 'cyberun/t-1', inputs: new Map() },
      )
      return (graph['1'] as { inputs: { filename_prefix: unknown } }).inputs.filename_prefix
    }
    expect(prefix('ComfyUI')).toBe('cyberun/t-1/ComfyUI')
    expect(prefix('video/%date%/a')).toBe('cyberun/t-1/video/%date%/a')
    expect(prefix('../../etc/passwd')).toBe('cyberun/t-1/etc/passwd')
    expect(prefix('C:\\Windows\\x')).toBe('cyberun/t-1/Windows/x')
    expect(prefix('')).toBe('cyberun/t-1/output')
    expect(prefix(['4', 0])).toEqual(['4', 0])
  })

  test('files are named as ComfyUI named them, however deep', () => {
    const rewriting = { folder: 'f', inputs: new Map([['k', 'cyberun/t/0.png']]) }
    const workflow = {
      1: { class_type: 'Many', inputs: { a: 'cyberun-file:k', b: { c: ['cyberun-file:k', 'cyberun-file:x'] } } },
    }
    expect(rewriteGraph(workflow, rewriting)).toMatchObject({
      1: { inputs: { a: 'cyberun/t/0.png', b: { c: ['cyberun/t/0.png', 'cyberun-file:x'] } } },
    })
  })

  test('outputs of nodes that a node of the graph expanded into are its own', () => {
    const file = { filename: 'a.png', subfolder: '', type: 'output' }
    const entry = {
      messages: [],
      saysError: false,
      outputs: { '1.0.0.3': { images: [file] }, 77: { images: [file] } },
      meta: { '1.0.0.3': { display_node: '1' }, 77: { display_node: '77' } },
    }
    expect(readOutputs(entry, graphOf(saves(1))).map(({ node }) => node)).toEqual(['1.0.0.3'])
  })
})

describe('metadata of pictures', () => {
  const strip = async (bytes: Buffer): Promise<Buffer> => {
    const path = join(directory, 'picture')
    writeFileSync(path, bytes)
    await stripImageMetadata(path)
    return readFileSync(path)
  }
  const riff = (...chunks: [string, Buffer][]): Buffer => {
    const body = Buffer.concat(
      chunks.flatMap(([type, data]) => {
        const length = Buffer.alloc(4)
        length.writeUInt32LE(data.length)
        return [Buffer.from(type), length, data, Buffer.alloc(data.length & 1)]
      }),
    )
    const length = Buffer.alloc(4)
    length.writeUInt32LE(body.length + 4)
    return Buffer.concat([Buffer.from('RIFF'), length, Buffer.from('WEBP'), body])
  }

  test('a WebP loses its EXIF, and says so', async () => {
    const header = (flags: number): Buffer => Buffer.from([flags, 0, 0, 0, 7, 0, 0, 7, 0, 0])
    const pixels = Buffer.from('odd')
    const carrying = riff(
      ['VP8X', header(0x1c)],
      ['VP8L', pixels],
      ['EXIF', Buffer.from('prompt:{"secret":1}')],
      ['XMP ', Buffer.from('x')],
    )
    expect(await strip(carrying)).toEqual(riff(['VP8X', header(0x10)], ['VP8L', pixels]))
  })

  test('what is no picture, or is cut short, stays as it is', async () => {
    const png = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('tEXt'),
      png,
      Buffer.concat([png, Buffer.from([0xff, 0xff])]),
      Buffer.from('RIFF'),
    ]) {
      expect(await strip(bytes)).toEqual(bytes)
    }
  })
})

describe('the watchdog', () => {
  const world = () => {
    let now = 0
    const times = { idleWorkerMs: 5_000, blindStallMs: 180_000 }
    const watchdog = new Watchdog({ times, stallMs: 20_000, now: () => now })
    const after = (seconds: number): Watchdog => {
      now += seconds * 1000
      return watchdog
    }
    return { watchdog, after }
  }
  const busy = { running: ['a'], pending: [] }

  /** A look each second, for so long. */
  const look = ({ after }: ReturnType<typeof world>, seconds: number): void => {
    for (let second = 0; second < seconds; second++) after(1).observeQueue(busy)
  }

  test('silence alone, without a look at the process, needs three minutes', () => {
    const scene = world()
    scene.watchdog.observeQueue(busy)
    look(scene, 179)
    expect(scene.watchdog.stuck).toBeUndefined()
    look(scene, 1)
    expect(scene.watchdog.stuck).toContain('180 s')
  })

  test('time in which nobody looked, as this process was held up, is no silence', () => {
    const scene = world()
    scene.watchdog.observeQueue(busy)
    scene.watchdog.observeActivity({ cpuMs: 0, diskBytes: 0 })
    look(scene, 10)
    scene.after(600).observeQueue(busy)
    expect(scene.watchdog.stuck).toBeUndefined()
    look(scene, 4)
    expect(scene.watchdog.stuck).toBeUndefined()
    look(scene, 1)
    expect(scene.watchdog.stuck).toContain('20 s')
  })

  test.each([
    ['does nothing', 0.01, 0, true],
    ['computes', 0.5, 0, false],
    ['reads a model', 0.01, 50_000_000, false],
  ])('a silent process that %s', (_, cores, bytesPerSecond, isStuck) => {
    const { watchdog, after } = world()
    for (let second = 0; second <= 40; second++) {
      watchdog.observeQueue(busy)
      watchdog.observeActivity({ cpuMs: second * 1000 * cores, diskBytes: second * bytesPerSecond })
      after(1)
    }
    watchdog.observeQueue(busy)
    expect(watchdog.stuck !== undefined).toBe(isStuck)
  })

  test('another prompt, or a message, is a sign of life', () => {
    const { watchdog, after } = world()
    for (let round = 0; round < 10; round++) {
      watchdog.observeQueue({ running: [`prompt-${round}`], pending: [] })
      watchdog.observeActivity({ cpuMs: 0, diskBytes: 0 })
      after(15)
    }
    watchdog.sign()
    after(15).observeQueue({ running: ['prompt-9'], pending: [] })
    expect(watchdog.stuck).toBeUndefined()
  })
})

test('a smallest prompt that is done is fine, though nobody could look until its time was up', async () => {
  const http = {
    async submit() {
      await once(AbortSignal.timeout(20), 'abort')
      return { promptId: undefined, nodeErrors: {} }
    },
    history: async () => ({ messages: [], saysError: false, outputs: {}, meta: {} }),
    forget: async () => {},
    dequeue: () => expect.fail('it is no longer queued'),
  }
  expect(await runCanary(http, { canaryMs: 1 }, new AbortController().signal)).toBeUndefined()
})

test('what a process has done is read from the system', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0
  expect((await readActivity(port))?.cpuMs).toBeGreaterThan(0)
  server.close()
  await new Promise((resolve) => server.once('close', resolve))
  expect(await readActivity(port)).toBeUndefined()
})

describe('settings', () => {
  test('a URL alone is enough', () => {
    expect(COMFYUI_SETTINGS.parse('http://127.0.0.1:8188')).toEqual({
      url: 'http://127.0.0.1:8188',
      image_metadata: 'strip',
      keep_files: false,
      stall_seconds: 20,
    })
  })

  test.each([
    [{}, /set url .* or start/],
    [{ url: 'http://x', start: { command: 'x' } }, /not both/],
    [{ url: 'ftp://x' }, /expected a URL/],
    [{ start: { command: 'x', port: 0 } }, /port/],
    [{ url: 'http://x', stall_seconds: 1 }, /stall_seconds/],
    [{ url: 'http://x', colour: 1 }, /colour/],
  ])('%j is refused', (settings, why) => {
    expect(COMFYUI_SETTINGS.safeParse(settings).error?.message).toMatch(why)
  })
})

test('docs/comfyui.md knows every setting and every code of a failure', () => {
  const root = new URL('../../../../../', import.meta.url)
  const page = readFileSync(new URL('docs/comfyui.md', root), 'utf8')
  const folder = new URL('packages/agent/src/tools/comfyui/', root)
  const sources = readdirSync(folder)
    .map((name) => readFileSync(new URL(name, folder), 'utf8'))
    .join('\n')
  const codes = new Set([...sources.matchAll(/(?:failed\('|code: ')([a-z_]+)'/g)].map(([, code]) => code ?? ''))
  const keys = [
    'url',
    'start',
    'command',
    'args',
    'cwd',
    'port',
    'folder',
    'image_metadata',
    'keep_files',
    'stall_seconds',
  ]
  expect(codes.size).toBeGreaterThan(10)
  for (const name of [...codes, ...keys]) expect(page, name).toContain(name)
})
