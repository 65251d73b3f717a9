import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { onTestFinished } from 'vitest'
import type { PortRules } from '../../src/ports.ts'
import { RUN_LIMITS, type RunLimits } from '../../src/tasks/limits.ts'
import { createRunner, type Runner } from '../../src/tasks/runner.ts'
import type { Decline, Outcome, Run, Tool } from '../../src/tools/tool.ts'
import { type ScriptedServer, scriptedServer } from './scripted-server.ts'

/** A run whose end, and whose every word, are up to the test. */
export interface HandRun {
  readonly run: Run
  readonly signal: AbortSignal
  readonly isResumed: boolean
  end(outcome: Outcome | undefined): void
  fail(error: Error): void
}

/** A tool that does as told. */
export interface HandTool extends Tool {
  readonly runs: HandRun[]
  decline: Decline | undefined
}

export function handTool(options: { canResume?: boolean } = {}): HandTool {
  const runs: HandRun[] = []
  const begin = (run: Run, signal: AbortSignal, isResumed: boolean): Promise<Outcome | undefined> => {
    const ending = Promise.withResolvers<Outcome | undefined>()
    runs.push({ run, signal, isResumed, end: ending.resolve, fail: ending.reject })
    return ending.promise
  }
  return {
    type: 'demo',
    runs,
    decline: undefined,
    detect: () => Promise.resolve({ version: '1', labels: [] }),
    health: () => Promise.resolve({ state: 'ready' }),
    check() {
      return Promise.resolve(this.decline)
    },
    async run(run, signal) {
      const outcome = await begin(run, signal, false)
      if (!outcome) throw new Error('a new run is never lost')
      return outcome
    },
    ...(options.canResume && { resume: (run: Run, signal: AbortSignal) => begin(run, signal, true) }),
  }
}

export interface RunnerWorld {
  readonly server: ScriptedServer
  readonly stateDir: string
  readonly logLines: string[]
  readonly tool: HandTool
  runner: Runner
  /** How often free slots changed in a way the server could not know. */
  changes: number
  unhealthy: string | undefined
  tunnelPorts: PortRules
  /** A new link for the runner. */
  relink(): Promise<void>
  /** What a new process of the agent does with what this one left; this one is forgotten as by kill -9. */
  restart(tool?: HandTool): Promise<void>
}

export const COMPLETED: Outcome = { kind: 'completed', output: { answer: 42 } }

export async function runnerWorld(
  options: { slots?: number; limits?: Partial<RunLimits>; tool?: HandTool; stateDir?: string } = {},
): Promise<RunnerWorld> {
  const stateDir = options.stateDir ?? (await mkdtemp(join(tmpdir(), 'cyberun-runner-')))
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }))
  const logLines: string[] = []
  const log = createLog({ level: 'debug', format: 'json', write: (line) => void logLines.push(line) })
  const tool = options.tool ?? handTool()
  const make = (): Promise<Runner> =>
    createRunner({
      tools: new Map([[world.tool.type, world.tool]]),
      slots: options.slots ?? 1,
      stateDir,
      limits: { ...RUN_LIMITS, batchMs: 5, progressMs: 20, previewMs: 20, retryMs: 5, ...options.limits },
      tunnelPorts: () => world.tunnelPorts,
      log,
      unhealthy: () => world.unhealthy,
      now: () => performance.now(),
      wallMs: () => 1_750_000_000_000,
      onChange: () => void world.changes++,
    })
  const server = await scriptedServer((stream) => world.runner.onStream(stream))
  const world = {
    server,
    stateDir,
    logLines,
    tool,
    changes: 0,
    unhealthy: undefined as string | undefined,
    tunnelPorts: 'all' as PortRules,
    runner: undefined as unknown as Runner,
    async relink() {
      world.runner.useLink(await server.link())
    },
    async restart(next: HandTool = handTool()) {
      world.tool = next
      world.runner = await make()
    },
  }
  world.runner = await make()
  await world.relink()
  return world
}
