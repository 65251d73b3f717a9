import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ComfyuiOptions, type SimulatedComfyui, startComfyui } from '@cyberun/testkit'
import { until } from '@cyberun/testkit/until'
import { expect } from 'vitest'
import type { Activity } from '../../../src/tools/comfyui/activity.ts'
import { createComfyuiTool } from '../../../src/tools/comfyui/comfyui.ts'
import type { ComfyuiSettings, ComfyuiTimes } from '../../../src/tools/comfyui/settings.ts'
import type { Outcome, Tool, ToolHealth } from '../../../src/tools/tool.ts'
import { TEST_DEPS, type TestRun } from './test-run.ts'

/** A ComfyUI on this machine answers in a millisecond: no test needs to wait as long as a user would. */
export const QUICK: Partial<ComfyuiTimes> = {
  pollMs: 50,
  lostMs: 300,
  interruptAgainMs: 300,
  redialMs: 100,
  killGraceMs: 300,
}

export interface WorldOptions extends Partial<Omit<ComfyuiOptions, 'baseDirectory'>> {
  settings?: Partial<ComfyuiSettings>
  times?: Partial<ComfyuiTimes>
  /** What the process seems to do; nothing is known of it without. */
  activity?: () => Activity | undefined
}

/** A simulated ComfyUI in this process, and a tool that found it ready. */
export interface World extends AsyncDisposable {
  readonly comfyui: SimulatedComfyui
  readonly tool: Tool
  readonly baseDirectory: string
  run(testRun: TestRun): Promise<Outcome>
  health(): Promise<ToolHealth>
  /** How often something was asked over HTTP: `POST /prompt`. */
  asked(request: string): number
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const { settings, times, activity, ...simulated } = options
  const baseDirectory = mkdtempSync(join(tmpdir(), 'cyberun-comfyui-'))
  const comfyui = await startComfyui({ baseDirectory, ...simulated })
  const tool = createComfyuiTool(
    { url: comfyui.url, image_metadata: 'strip', keep_files: false, stall_seconds: 20, ...settings },
    TEST_DEPS,
    { times: { ...QUICK, ...times }, readActivity: async () => activity?.() },
  )
  const health = () => tool.health(AbortSignal.timeout(5_000))
  await expect.poll(health).toEqual({ state: 'ready' })
  comfyui.requests.length = 0
  return {
    comfyui,
    tool,
    baseDirectory,
    run: (testRun) => tool.run(testRun, testRun.signal),
    health,
    asked: (request) => comfyui.requests.filter((made) => made === request).length,
    async [Symbol.asyncDispose]() {
      await tool.stop?.()
      await comfyui[Symbol.asyncDispose]()
      rmSync(baseDirectory, { recursive: true, force: true })
    },
  }
}

/** Resolves when the run's prompt is the one that runs. */
export async function running({ comfyui }: World, testRun: TestRun): Promise<void> {
  await until(async () => {
    const response = await fetch(`${comfyui.url}/queue`)
    const queue = (await response.json()) as { queue_running: [number, string][] }
    return queue.queue_running.some(([, id]) => id === testRun.remembered?.['prompt_id'])
  })
}

/** Puts a model where this ComfyUI looks for them. */
export function addModel(world: World, name: string): void {
  const folder = join(world.baseDirectory, 'models', 'checkpoints')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), 'weights')
}
