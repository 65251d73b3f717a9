import type { Link, LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { AttemptName, InventoryLine, OfferedTool, ToolHealthReport } from '@cyberun/protocol'
import type { AgentConfig } from '../config.ts'
import type { PortRules } from '../ports.ts'
import type { Env } from '../proxy.ts'
import { killLeftovers, processDir } from '../tools/process-tree.ts'
import { createTools } from '../tools/registry.ts'
import { inventoryLines } from './inventory.ts'
import { RUN_LIMITS } from './limits.ts'
import { createRunner, type Runner } from './runner.ts'
import { takeStateLock } from './state-lock.ts'
import { watchTools } from './tool-watch.ts'

/** The part of an agent that runs tasks, as the rest of it sees it. */
export interface Tasks {
  onStream(stream: LinkStream): void
  /** There is a new link, whose hello said these labels. */
  useLink(link: Link, saidLabels: readonly string[]): void
  labels(): readonly string[]
  offers(): readonly OfferedTool[]
  attempts(): readonly AttemptName[]
  health(): readonly ToolHealthReport[]
  freeSlots(): number
  inventory(): readonly InventoryLine[]
  comfyuiVersion(): string | null
  /** Calls back when health, offers or free slots have changed; the returned function stops that. */
  onChange(tell: () => void): () => void
  /** Ends what runs here, within seconds, and tells the server while there is a link. Twice is harmless. */
  stop(): Promise<void>
}

interface TasksDeps {
  readonly log: Log
  /** The agent's own environment. */
  readonly env: Env
  /** Which ports tunnels may reach now. */
  tunnelPorts(): PortRules
  /** Monotonic milliseconds. */
  now(): number
  /** Ends what watches, at the latest; `stop` ends what runs. */
  readonly signal: AbortSignal
}

type Working = Omit<Tasks, 'onChange' | 'useLink'> & Pick<Runner, 'useLink'>

/** How often it is looked whether the other process is gone. */
const LOCK_MS = 500

/**
 * Starts the tools and takes up what a former process left. While another process of this machine still has the state
 * directory, the agent offers nothing; then it links anew, to say what it has.
 */
export async function startTasks(config: AgentConfig, deps: TasksDeps): Promise<Tasks> {
  const { log, signal } = deps
  const listeners = new Set<() => void>()
  const tellAll = (): void => {
    for (const tell of [...listeners]) tell()
    linkAnewUnlessSaid()
  }
  /** Only a hello can say it: a tool is here that was not, or that other process is gone. */
  const linkAnewUnlessSaid = (): void => {
    if (current && working.labels().join() !== saidOnLink) {
      current.close({ code: 'done', message: 'the agent links anew to say what it offers' })
    }
  }
  let working: Working = IDLE
  let current: Link | undefined
  /** The labels that the current link's hello said. */
  let saidOnLink = ''
  let stopped: Promise<void> | undefined

  async function tryToWork(): Promise<boolean> {
    const unlock = takeStateLock(config.stateDir)
    if (!unlock) return false
    try {
      working = await work(config, deps, unlock, tellAll)
      return true
    } catch (error) {
      unlock()
      throw error
    }
  }

  if (!(await tryToWork())) {
    log.warn(
      { state_dir: config.stateDir, hint: 'another process has it: no tasks until that one is gone' },
      'tasks.wait',
    )
    const timer = setInterval(() => {
      tryToWork()
        .then((isWorking) => {
          if (!isWorking) return
          clearInterval(timer)
          if (signal.aborted) void working.stop()
          else tellAll()
        })
        .catch((error: unknown) => log.error({ error }, 'tasks.not_started'))
    }, LOCK_MS)
    if (signal.aborted) clearInterval(timer)
    signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  }

  return {
    onStream: (stream) => working.onStream(stream),
    useLink(link, saidLabels) {
      current = link
      saidOnLink = saidLabels.join()
      working.useLink(link)
      // What has changed since the hello was written was told to the link before.
      linkAnewUnlessSaid()
    },
    labels: () => working.labels(),
    offers: () => working.offers(),
    attempts: () => working.attempts(),
    health: () => working.health(),
    freeSlots: () => working.freeSlots(),
    inventory: () => working.inventory(),
    comfyuiVersion: () => working.comfyuiVersion(),
    onChange(tell) {
      listeners.add(tell)
      return () => void listeners.delete(tell)
    },
    stop: () => (stopped ??= working.stop()),
  }
}

const IDLE: Working = {
  onStream: (stream) => stream.reset('refused'),
  useLink() {},
  labels: () => [],
  offers: () => [],
  attempts: () => [],
  health: () => [],
  freeSlots: () => 0,
  inventory: () => [],
  comfyuiVersion: () => null,
  stop: () => Promise.resolve(),
}

async function work(
  config: AgentConfig,
  { log, now, env, tunnelPorts, signal }: TasksDeps,
  unlock: () => void,
  onChange: () => void,
): Promise<Working> {
  const { slots } = config.tools
  const leftovers = await killLeftovers(processDir(config.stateDir))
  if (leftovers > 0) log.warn({ count: leftovers }, 'tasks.leftover_processes_ended')
  const tools = createTools(config.tools, { log, stateDir: config.stateDir, env, now })
  const watch = await watchTools(tools, RUN_LIMITS, log, now, onChange, signal)
  const runner = await createRunner({
    tools: new Map(tools.map((tool) => [tool.type, tool])),
    slots,
    stateDir: config.stateDir,
    limits: RUN_LIMITS,
    tunnelPorts,
    log,
    unhealthy: watch.unhealthy,
    now,
    wallMs: () => Date.now(),
    onChange,
  })
  return {
    ...runner,
    ...watch,
    inventory() {
      const inventory = watch.inventory()
      const lines = inventory === undefined ? [] : inventoryLines(inventory)
      if (!lines) log.warn({ hint: 'it is told to have everything' }, 'inventory.too_large')
      return lines ?? []
    },
    async stop() {
      await runner.stop()
      await Promise.all(tools.map((tool) => tool.stop?.()))
      unlock()
    },
  }
}
