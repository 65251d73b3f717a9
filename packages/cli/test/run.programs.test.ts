import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { formatKey } from '@cyberun/protocol'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { startOnPty } from '../../testkit/src/pty-program.ts'
import { BINARY, execute, type Started, start } from './support/binary.ts'
import { folder } from './support/folder.ts'
import { TEXT_TO_IMAGE } from './workflows/graphs.ts'

const cwd = folder()
const here = { cwd }
let up: Started

beforeAll(async () => {
  up = start(['up'], here)
  await up.line(/^try: .*forward.*$/m)
})
afterAll(() => up.stop('SIGINT'))

const json = async (...args: string[]) => {
  const { code, stdout, stderr } = await execute([...args, '--json'], here)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

/** Width and height of a PNG. */
function sizeOf(path: string): [number, number] {
  const png = readFileSync(path)
  expect(png.subarray(1, 4).toString()).toBe('PNG')
  return [png.readUInt32BE(16), png.readUInt32BE(20)]
}

describe('a run of the demo workflow', () => {
  test('shows what happens and leaves a picture on disk', async () => {
    const ran = await execute(['run', 'demo-fractal', '-p', 'width=1024', '-p', 'iterations=50'], here)
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code: 0, stdout: `${join(cwd, 'fractal.png')}\n` })
    expect(sizeOf(join(cwd, 'fractal.png'))).toEqual([1024, 768])
    for (const line of [/^task [\w-]{36}$/m, /^running$/m, /^file: .*fractal\.png/m, /^completed$/m]) {
      expect(ran.stderr).toMatch(line)
    }
  })

  test('never overwrites, and says with --json what it saved', async () => {
    const ran = await json('run', 'demo-fractal@1', '-p', 'width=64', '-p', 'height=48', '-o', 'pictures')
    expect(ran).toMatchObject({ task_status: 'completed', task_error: null })
    const again = await json('tasks', 'files', ran.task_id, '-o', 'pictures')
    expect(again.file_list).toEqual([{ key: ran.file_list[0].key, path: join(cwd, 'pictures', 'fractal-2.png') }])
    expect(readdirSync(join(cwd, 'pictures')).sort()).toEqual(['fractal-2.png', 'fractal.png'])
    expect(sizeOf(join(cwd, 'pictures', 'fractal-2.png'))).toEqual([64, 48])
  })

  test('can be left, found again, and read from the beginning', async () => {
    const { task_id } = await json('run', 'demo-fractal', '--detach', '-p', 'width=64')
    const { code, stdout } = await execute(['tasks', 'events', task_id, '--json'], here)
    expect(code).toBe(0)
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const ids = events.flatMap(({ id }) => id ?? [])
    expect(ids, 'each stored event once, without a hole').toEqual(ids.map((_, at) => at + 1))
    expect(events.at(-1)).toMatchObject({ event: 'completed' })
    const later = await execute(['tasks', 'events', task_id, '--after', String(ids.length - 1)], here)
    expect(later.stdout).toBe('completed\n')
    expect((await json('tasks', '--limit', '1')).task_list).toMatchObject([{ id: task_id, task_status: 'completed' }])
    expect((await execute(['tasks', 'show', task_id], here)).stdout).toContain('status: completed\n')
  })

  /** Of a run that takes minutes, and does not outlive the test. */
  async function slowRun(iterations: number) {
    const size = ['-p', 'width=4096', '-p', 'height=4096', '-p', `iterations=${iterations}`]
    const running = start(['run', 'demo-fractal', ...size], here)
    onTestFinished(() => running[Symbol.asyncDispose]())
    await expect.poll(() => running.stderr()).toMatch(/^running$/m)
    const id = /^task ([\w-]{36})$/m.exec(running.stderr())?.[1] ?? ''
    onTestFinished(async () => void (await execute(['tasks', 'cancel', id], here)))
    return { running, id }
  }

  test('that is cancelled tells how far it came, and ends with its own exit code', async () => {
    const { running, id } = await slowRun(2_000)
    await expect.poll(() => running.stderr()).toMatch(/^progress: \d+0 %/m)
    expect(await json('tasks', 'cancel', id)).toEqual({ task_id: id, task_status: 'cancelled' })
    expect(await running.ended).toBe(9)
    expect(running.stderr()).toMatch(/^cancelled$/m)
  })

  test('goes on when its watcher is interrupted where nobody can be asked', async () => {
    const { running, id } = await slowRun(10_000)
    expect(await running.stop('SIGINT')).toBe(130)
    expect(running.stderr()).toContain(`cyberun tasks events ${id}`)
    expect(await json('tasks', 'show', id)).toMatchObject({ task_status: 'running' })
  })

  test('is no longer told once nobody reads it', async () => {
    const { id } = await slowRun(2_000)
    const told = start(['tasks', 'events', id, '--json'], here)
    await told.line(/"running"/)
    told.child.stdout?.destroy()
    expect(await told.ended).toBe(130)
  })

  test('that could not be submitted yet is stopped by Ctrl-C', async () => {
    const mute = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void mute.close())
    await once(mute, 'listening')
    const { port } = mute.address() as AddressInfo
    const env = { CYBERUN_URL: `http://127.0.0.1:${port}`, CYBERUN_KEY: formatKey('sk', new Uint8Array(32)) }
    const running = start(['run', 'demo-fractal'], { cwd, env })
    await once(mute, 'connection')
    expect(await running.stop('SIGINT')).toBe(130)
    expect(running.stderr()).toBe('error: stopped\n')
  })

  test.each([
    [['-p', 'widht=3'], 2, 'did you mean width?'],
    [['-p', 'width=wide'], 2, 'must be a number'],
    [['-p', 'width'], 2, 'key=value'],
    [['-f', 'image=nothing.png'], 2, 'nothing.png cannot be read'],
    [['-f', 'width=photo.txt'], 2, '--file width is a number'],
    [['-f', 'image=photo.txt'], 2, '--file image is no parameter of this workflow; it takes no files'],
    [['-o', 'photo.txt'], 2, 'nothing can be saved in'],
    [['-o', '/proc/cyberun/results'], 2, 'nothing can be saved in /proc/cyberun/results: ENOENT'],
    [['--detach', '--follow'], 2, 'cannot be used with'],
  ])('with %j is refused: exit %i, %s', async (args, code, says) => {
    writeFileSync(join(cwd, 'photo.txt'), 'of nobody else')
    const ran = await execute(['run', 'demo-fractal', ...args], here)
    expect(ran).toMatchObject({ code, stdout: '', stderr: expect.stringContaining(says) })
    expect(ran.stderr, 'nothing was sent before that').not.toMatch(/^(uploaded|task)/m)
  })

  test('of a workflow that is not there', async () => {
    expect(await execute(['run', 'nothing-like-it'], here)).toMatchObject({ code: 4 })
  })
})

describe('Ctrl-C in a terminal asks what becomes of the task', () => {
  async function interrupted() {
    const slow = ['-p', 'width=4096', '-p', 'height=4096', '-p', 'iterations=10000', '-o', cwd]
    const words = [process.execPath, BINARY, 'run', 'demo-fractal', ...slow]
    const env = { HOME: cwd, CYBERUN_DATA_DIR: join(cwd, '.cyberun') }
    const program = startOnPty(words, env, { cols: 100, rows: 40 })
    onTestFinished(() => program[Symbol.asyncDispose]())
    const text = () => program.screen().join('\n')
    const shows = (what: RegExp) => expect.poll(text).toMatch(what)
    await shows(/^running$/m)
    const id = /^task ([\w-]{36})$/m.exec(text())?.[1] ?? ''
    program.type('\x03')
    await shows(/Cancel it[\s\S]*Leave it running/)
    return { program, text, shows, id, statusOf: async () => (await json('tasks', 'show', id)).task_status }
  }

  test('to cancel it is the first answer', async () => {
    const { program, text, statusOf } = await interrupted()
    program.type('\r')
    expect(await program.ended).toBe(9)
    expect(text()).toMatch(/^cancelled$/m)
    expect(await statusOf()).toBe('cancelled')
  })

  test('to leave it running is the second, and another Ctrl-C', async () => {
    const { program, text, shows, id, statusOf } = await interrupted()
    program.type('\x1b[B')
    await shows(/[●>] Leave it running/)
    program.type('\r')
    expect(await program.ended).toBe(0)
    expect(text()).toContain(`cyberun tasks events ${id}`)
    expect(await statusOf()).toBe('running')
    expect((await json('tasks', 'cancel', id)).task_status).toBe('cancelled')

    const again = await interrupted()
    again.program.type('\x03')
    expect(await again.program.ended).toBe(0)
    expect((await json('tasks', 'cancel', again.id)).task_status).toBe('cancelled')
  })
})

describe('workflows', () => {
  test('a graph is imported with its parameters, and again as the next version', async () => {
    // With the byte order mark that some editors begin with.
    writeFileSync(join(cwd, 'My Graph.json'), `\uFEFF${JSON.stringify(TEXT_TO_IMAGE)}`)
    const first = await json('workflows', 'import', 'My Graph.json', '--label', 'gpu')
    expect(first).toMatchObject({ workflow_slug: 'my-graph', version: 1 })
    const shown = await json('workflows', 'show', 'my-graph')
    expect(shown).toMatchObject({
      required_models: ['v1-5-pruned-emaonly-fp16.safetensors'],
      required_labels: ['gpu'],
      tool_type: 'comfyui',
    })
    expect(shown.parameters.map(({ key }: { key: string }) => key).slice(0, 3)).toEqual(['prompt', 'negative', 'seed'])
    const again = await execute(['workflows', 'import', 'My Graph.json', '--yes'], here)
    expect(again.stdout).toBe('Imported my-graph, version 2. Run it: cyberun run my-graph\n')
    expect((await execute(['workflows'], here)).stdout).toMatch(/^my-graph +my-graph +comfyui +2 +active/m)
    expect((await execute(['workflows', 'show', 'my-graph'], here)).stdout).toMatch(/^steps +number +20 +1 to 10000/m)
    expect(await execute(['workflows', 'delete', 'my-graph', '--yes'], here)).toMatchObject({ code: 0 })
    expect(await execute(['workflows', 'show', 'my-graph'], here)).toMatchObject({ code: 4 })
  })

  test('a file goes up with a run, and its key is the parameter', async () => {
    const workflow = {
      ...{ workflow_slug: 'with-file', workflow_json: { program: 'echo' }, tool_type: 'demo' },
      parameters: [{ key: 'image', type: 'file', required: true, target_path: 'image' }],
    }
    writeFileSync(join(cwd, 'workflow.json'), JSON.stringify(workflow))
    writeFileSync(join(cwd, 'photo.png'), Buffer.alloc(2_000_000, 'p'))
    await json('workflows', 'import', 'workflow.json')
    const ran = await execute(['run', 'with-file', '-f', 'image=photo.png'], here)
    expect(ran.stderr).toContain('uploaded: photo.png, 1.9 MiB')
    expect(ran.code).toBe(0)
    expect(await execute(['run', 'with-file'], here)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('image'),
    })
  })

  test.each([
    ['{"nodes":[],"links":[]}', 'Export (API)'],
    ['{"1":', 'is not JSON'],
  ])('%s is refused: %s', async (text, says) => {
    writeFileSync(join(cwd, 'bad.json'), text)
    const { code, stderr } = await execute(['workflows', 'import', 'bad.json'], here)
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(says) })
  })
})
