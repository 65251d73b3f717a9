import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ComfyuiFaults, childrenOf, freePort } from '@cyberun/testkit'
import { describe, expect, test } from 'vitest'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import type { ComfyuiTimes } from '../../../src/tools/comfyui/settings.ts'
import { comfyuiArguments, comfyuiEnvironment, Supervisor } from '../../../src/tools/comfyui/supervisor.ts'
import type { Tool, ToolHealth } from '../../../src/tools/tool.ts'
import * as graphs from './graphs.ts'
import { TEST_DEPS, TestRun } from './test-run.ts'

/** A ComfyUI that the agent starts itself: the simulator as a process, watched with the times that users have. */

const SIMULATOR = join(dirname(fileURLToPath(import.meta.resolve('@cyberun/testkit'))), 'processes', 'comfyui.ts')
/** As often as the runner asks. */
const HEALTH_MS = 5_000
const NOTICED_MS = 30_000

interface Supervised extends AsyncDisposable {
  readonly tool: Tool
  readonly url: string
  health(): Promise<ToolHealth>
  setFaults(faults: Partial<ComfyuiFaults>): Promise<void>
  /** Of the ComfyUI that listens now. */
  pid(): number
}

async function supervise(command = process.execPath, times: Partial<ComfyuiTimes> = {}): Promise<Supervised> {
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-supervised-'))
  const port = await freePort()
  const start = { command, args: [SIMULATOR, '--base-directory', directory], port }
  const tool = createComfyuiTool(
    { start, image_metadata: 'strip', keep_files: false, stall_seconds: 20 },
    { ...TEST_DEPS, stateDir: directory, env: { PATH: process.env['PATH'], CYBERUN_AGENT_KEY: 'secret' } },
    { times },
  )
  const url = `http://127.0.0.1:${port}`
  return {
    tool,
    url,
    health: () => tool.health(AbortSignal.timeout(5_000)),
    async setFaults(faults) {
      await fetch(`${url}/simulator/faults`, { method: 'PUT', body: JSON.stringify(faults) })
    },
    pid: () => processOn(port),
    async [Symbol.asyncDispose]() {
      await tool.stop?.()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function processOn(port: number): number {
  const pid = childrenOf(process.pid).find((child) =>
    readFileSync(`/proc/${child}/cmdline`, 'utf8').includes(`\0${port}\0`),
  )
  if (pid === undefined) throw new Error(`no process on port ${port}`)
  return pid
}

async function ready(supervised: Supervised): Promise<void> {
  await expect.poll(supervised.health).toEqual({ state: 'ready' })
}

describe('a supervised ComfyUI', () => {
  test('is started, works, and is gone with the agent', async () => {
    await using supervised = await supervise()
    expect(await supervised.health()).toEqual({ state: 'starting' })
    await ready(supervised)
    expect(await supervised.tool.detect(AbortSignal.timeout(5_000))).toMatchObject({ version: '0.3.64' })
    expect(readFileSync(`/proc/${supervised.pid()}/environ`, 'utf8')).not.toContain('secret')
    using testRun = new TestRun(graphs.saves(1))
    expect(await supervised.tool.run(testRun, testRun.signal)).toMatchObject({ kind: 'completed' })
    await supervised.tool.stop?.()
    await expect(fetch(supervised.url)).rejects.toThrow()
  })

  test('killed in the middle of a run: the run is lost at once, and the next one finds it working', async () => {
    await using supervised = await supervise()
    await ready(supervised)
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = supervised.tool.run(testRun, testRun.signal)
    await expect.poll(() => testRun.reports.length).toBeGreaterThan(0)
    const before = performance.now()
    process.kill(supervised.pid(), 'SIGKILL')
    expect(await ended).toMatchObject({
      kind: 'failed',
      code: 'engine_lost',
      message: expect.stringContaining('SIGKILL'),
    })
    expect(performance.now() - before).toBeLessThan(5_000)
    await ready(supervised)
    using next = new TestRun(graphs.saves(1))
    expect(await supervised.tool.run(next, next.signal)).toMatchObject({ kind: 'completed' })
  })

  test('killed and started anew before anybody looks: the run is lost for the same reason', async () => {
    await using supervised = await supervise(process.execPath, { pollMs: 4_000 })
    await ready(supervised)
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = supervised.tool.run(testRun, testRun.signal)
    await expect.poll(() => testRun.reports.length).toBeGreaterThan(0)
    process.kill(supervised.pid(), 'SIGKILL')
    await ready(supervised)
    expect(await ended).toMatchObject({ code: 'engine_lost', message: expect.stringContaining('SIGKILL') })
  })

  test('a stubborn node is gone with its ComfyUI, when the last step of the ladder comes', async () => {
    await using supervised = await supervise()
    await ready(supervised)
    await supervised.setFaults({ freezeAt: 'TestSleep' })
    using testRun = new TestRun(graphs.sleeps(1, 60))
    const ended = supervised.tool.run(testRun, testRun.signal)
    await expect.poll(() => testRun.reports.length).toBeGreaterThan(0)
    const frozen = supervised.pid()
    const before = performance.now()
    testRun.cancel('kill')
    expect(await ended).toEqual({ kind: 'cancelled' })
    expect(performance.now() - before).toBeLessThan(15_000)
    expect(() => process.kill(frozen, 0)).toThrow('ESRCH')
    await ready(supervised)
  })

  test('a program that does not exist, or ends at once, is told', async () => {
    await using absent = await supervise('/no/such/program')
    await expect.poll(absent.health).toMatchObject({ state: 'unhealthy', reason: expect.stringContaining('ENOENT') })
    await using failing = await supervise('/bin/false')
    await expect.poll(failing.health).toMatchObject({
      state: 'unhealthy',
      reason: expect.stringContaining('exit code 1'),
    })
  })

  test('a dead worker and a frozen node are noticed within 30 s, a silent node that works is left alone', async () => {
    await using dead = await supervise()
    await using frozen = await supervise()
    await using busy = await supervise()
    await Promise.all([dead, frozen, busy].map(ready))
    await dead.setFaults({ deadWorker: 'holding' })
    await frozen.setFaults({ freezeAt: 'TestSleep' })
    using stuck = new TestRun(graphs.saves(1))
    using sleeping = new TestRun(graphs.sleeps(1, 1))
    using working = new TestRun(graphs.works(1, 35))
    const began = performance.now()
    const asking = [dead, frozen, busy].map((each) => setInterval(() => void each.health(), HEALTH_MS))
    const noticed = async (supervised: Supervised, testRun: TestRun): Promise<number> => {
      expect(await supervised.tool.run(testRun, testRun.signal)).toMatchObject({ kind: 'failed', code: 'engine_stuck' })
      return performance.now() - began
    }
    const [afterDead, afterFrozen, finished] = await Promise.all([
      noticed(dead, stuck),
      noticed(frozen, sleeping),
      busy.tool.run(working, working.signal),
    ])
    for (const timer of asking) clearInterval(timer)
    expect(Math.max(afterDead, afterFrozen)).toBeLessThan(NOTICED_MS)
    expect(finished).toMatchObject({ kind: 'completed' })
    // It was started anew, and works again without anybody's help.
    await dead.setFaults({ deadWorker: 'no' }).catch(() => {})
    await Promise.all([dead, frozen].map(ready))
  }, 120_000)

  test('a process that is stopped does not answer, and is unhealthy', async () => {
    await using supervised = await supervise()
    await ready(supervised)
    const pid = supervised.pid()
    process.kill(pid, 'SIGSTOP')
    expect(await supervised.health()).toMatchObject({ state: expect.stringMatching(/unhealthy|starting/) })
    process.kill(pid, 'SIGCONT')
    await ready(supervised)
  })
})

test('where to listen is added to the arguments, unless they say so', () => {
  expect(comfyuiArguments({ command: 'python', args: ['main.py'], port: 8190 })).toEqual([
    'main.py',
    '--listen',
    '127.0.0.1',
    '--port',
    '8190',
  ])
  expect(comfyuiArguments({ command: 'python', args: ['main.py', '--port=1'], port: 1 })).toEqual([
    'main.py',
    '--port=1',
  ])
})

test('the environment is the agent’s, without its own settings', () => {
  const env = { HF_HOME: '/cache', CYBERUN_AGENT_KEY: 'ak-secret', NOTHING: undefined }
  expect(comfyuiEnvironment(env)).toEqual({ HF_HOME: '/cache', PYTHONUNBUFFERED: '1' })
})

test('a program that the system throws at starting is tried again, and its reason told', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-supervised-'))
  const deps = { ...TEST_DEPS, stateDir: directory }
  // Below something that is no folder: told by a throw, not by an event.
  const supervisor = new Supervisor({ command: '/etc/passwd/comfyui', args: [], port: 1 }, deps)
  supervisor.begin()
  await expect.poll(() => supervisor.lastEnd).toMatch(/^ComfyUI cannot be started: .*ENOTDIR/)
  await supervisor.stop()
  rmSync(directory, { recursive: true, force: true })
})
