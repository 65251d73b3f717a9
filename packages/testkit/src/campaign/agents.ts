import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { agentHello, openMachineKey } from '@cyberun/agent'
import { dialLink } from '@cyberun/link'
import type { AttemptName } from '@cyberun/protocol'
import type { Child } from '../child.ts'
import { type FaultRelay, startFaultRelay } from '../fault-relay.ts'
import type { AgentVerbs } from '../processes/agent.ts'
import { startAgentProcess } from '../processes.ts'
import type { AgentRun, KeptAttempt } from './history.ts'
import { writeStale } from './stale-writes.ts'

const SLOTS = 4
const AGAIN_MS = 500
const DIAL_MS = 10_000

/** Writes what it was given into the log and a file, and takes its time. */
const NAP = {
  name: 'nap',
  program: '/bin/sh',
  args: ['-c', 'echo "$1"; echo "$1" > text.txt; exec sleep "$0"', '{seconds}', '{text}'],
}

/** Writes it into the log alone, as its last word: with nothing to deliver, it ends also while its agent has no link. */
const MURMUR = {
  name: 'murmur',
  program: '/bin/sh',
  args: ['-c', 'sleep "$0"; echo "$1"', '{seconds}', '{text}'],
}

export interface AgentPlace {
  agentId: string
  directory: string
  agentKey: string
  edgePort: number
}

/**
 * An agent that is started again whenever it ended, as its machine's supervisor would do. Its log is its journal: written
 * line by line by the kernel, so no kill takes a line back.
 */
export class CampaignAgent implements AsyncDisposable {
  readonly agentId: string
  readonly relay: FaultRelay
  /** False while a fault lasts that another one would undo. */
  isBusy = false
  readonly #place: AgentPlace
  #child: Child<AgentVerbs> | undefined
  #isOver = false

  private constructor(place: AgentPlace, relay: FaultRelay) {
    this.agentId = place.agentId
    this.#place = place
    this.relay = relay
  }

  static async start(place: AgentPlace): Promise<CampaignAgent> {
    const agent = new CampaignAgent(place, await startFaultRelay({ port: place.edgePort }))
    void agent.#keepRunning()
    return agent
  }

  get #journal(): string {
    return join(this.#place.directory, `${this.agentId}.log`)
  }

  get #gatewayUrl(): string {
    return `ws://127.0.0.1:${this.relay.port}`
  }

  get #stateDir(): string {
    return join(this.#place.directory, this.agentId)
  }

  async #keepRunning(): Promise<void> {
    for (; !this.#isOver; await delay(AGAIN_MS)) {
      const child = startAgentProcess(this.#journal, compileCache(this.#place.directory))
      this.#child = child
      const order = {
        gatewayUrl: this.#gatewayUrl,
        agentKey: this.#place.agentKey,
        agentId: this.agentId,
        stateDir: this.#stateDir,
        logLevel: 'info' as const,
        tools: { slots: SLOTS, demo: true, commands: [NAP, MURMUR] },
      }
      // Resolves when the agent has stopped by itself; rejects when it was killed.
      await child.call('runToEnd', order).catch(() => {})
      await child[Symbol.asyncDispose]()
    }
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    try {
      if (this.#child !== undefined) process.kill(this.#child.pid, signal)
    } catch {
      // It is between two lives.
    }
  }

  /**
   * Dials a second link as the same machine, which evicts the first, claims to have no attempt, and reports the ends of
   * `stale` ones. Resolves with how many of those reports were refused.
   */
  async dialTwice(stale: readonly AttemptName[]): Promise<number> {
    const machine = await openMachineKey(this.#stateDir)
    const stats = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
    const facts = { agentId: this.agentId, labels: [], systemStats: stats }
    const link = await dialLink({
      url: new URL(`${this.#gatewayUrl}/agent`),
      headers: { authorization: `Bearer ${this.#place.agentKey}` },
      hello: (challenge) => agentHello(machine, facts, challenge),
      onStream: (stream) => {
        stream.reset('unsupported')
        return undefined
      },
      signal: AbortSignal.timeout(DIAL_MS),
    })
    try {
      return await writeStale(link, stale)
    } finally {
      link.close({ code: 'done', message: 'the second link has done its work' })
    }
  }

  /** For good: nothing starts it again. Its relay goes on. */
  async retire(): Promise<void> {
    this.#isOver = true
    await this.#child?.[Symbol.asyncDispose]()
  }

  /** What the agent wrote down, over all its lives. */
  runs(): AgentRun[] {
    return readFileSync(this.#journal, 'utf8')
      .split('\n')
      .flatMap((line) => runOf(this.agentId, line))
  }

  /** The attempts of which it has folders. */
  kept(): KeptAttempt[] {
    const folders = join(this.#stateDir, 'tasks')
    if (!existsSync(folders)) return []
    return readdirSync(folders).map((folder) => {
      const [taskId = '', fence] = folder.split('.')
      return { agentId: this.agentId, taskId, fence: Number(fence) }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.retire()
    await this.relay[Symbol.asyncDispose]()
  }
}

/** Most of the time of a start goes into our own modules: the first process keeps them for the others. */
export function compileCache(directory: string): Record<string, string> {
  return { NODE_COMPILE_CACHE: join(directory, 'compile-cache') }
}

interface JournalLine {
  msg?: string
  task_id?: string
  fence?: number
  outcome?: AgentRun['what']
}

function runOf(agentId: string, text: string): AgentRun[] {
  if (!text.startsWith('{') || !text.endsWith('}')) return []
  const { msg, task_id: taskId, fence, outcome } = JSON.parse(text) as JournalLine
  if (taskId === undefined || fence === undefined) return []
  if (msg === 'attempt.accepted') return [{ agentId, taskId, fence, what: 'accepted' }]
  return msg === 'attempt.finished' && outcome !== undefined ? [{ agentId, taskId, fence, what: outcome }] : []
}
