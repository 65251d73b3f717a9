import type { AgentConnection } from '../agents/types.ts'
import { isUnhealthy } from '../agents/view.ts'
import type { FreeAgent } from '../model/fairness.ts'
import type { AgentOffer } from '../model/requirements.ts'
import type { AgentSituation } from '../model/waiting-reason.ts'
import type { AttemptStream } from './attempt-stream.ts'

const BYTES_OF_GB = 1_000_000_000

/**
 * One agent as dispatch sees it, over all its links: what it has, and what it may be given. Its slots are counted from the
 * attempts it has, those that were claimed for it and are not sent yet, and those that its hello named.
 */
export class AgentSeat {
  readonly teamId: string
  readonly agentId: string
  /** By the name of the attempt (`attemptKey`). */
  readonly attempts = new Map<string, AttemptStream>()
  /** Claimed and not yet sent. Made with the first claim: most of thousands of agents never have one. */
  #reserved: Set<string> | undefined
  /** Slots that a claim under way is about to fill. */
  promisedSlots = 0
  /** Attempts that the hello named and the agent has not attached yet, if there were any. */
  #expected: { attempts: Set<string>; until: NodeJS.Timeout | undefined } | undefined
  /** False until it is known which attempts the agent came back with. */
  isReconciled = false
  /** What it offers has changed, and it was not yet offered again what it declined. */
  offersNews = false
  /** It does not do what it is given: nothing more until then. Milliseconds since 1970, like all times here. */
  stalledUntil = 0
  /** It declined: nothing more until it says that things have changed, or until then. */
  pausedUntil = 0
  #connection: AgentConnection | undefined
  #free: FreeAgent | undefined
  #offer: { of: AgentConnection; tools: unknown; inventory: unknown; stats: unknown; made: AgentOffer } | undefined

  constructor(teamId: string, agentId: string) {
    this.teamId = teamId
    this.agentId = agentId
  }

  /** The link that takes new streams. */
  get connection(): AgentConnection | undefined {
    return this.#connection
  }

  /** The agent has a new link. */
  seated(connection: AgentConnection): void {
    this.#connection = connection
    this.isReconciled = false
    this.offersNews = true
    this.#expectNothing()
    const { running_tasks: running } = connection.record.hello
    if (running.length === 0) return
    const attempts = running.map(({ task_id: taskId, fence }) => attemptKey({ taskId, fence }))
    this.#expected = { attempts: new Set(attempts), until: undefined }
  }

  /** Whatever its hello named and it has not attached after `ms` is expected no more, and `onOver` is told. */
  expectFor(ms: number, onOver: () => void): void {
    if (this.#expected === undefined) return
    clearTimeout(this.#expected.until)
    this.#expected.until = setTimeout(() => {
      this.#expected = undefined
      onOver()
    }, ms)
  }

  /** An attempt was attached, or cannot be. */
  expectNoMore(key: string): void {
    this.#expected?.attempts.delete(key)
  }

  #expectNothing(): void {
    clearTimeout(this.#expected?.until)
    this.#expected = undefined
  }

  /** An attempt was claimed for it and will be sent. The returned function says that it was, or never will be. */
  reserve(key: string): () => void {
    this.#reserved ??= new Set()
    const reserved = this.#reserved.add(key)
    return () => reserved.delete(key)
  }

  /** A link takes no more streams; the agent may have another one already. */
  left(connection: AgentConnection): void {
    if (this.#connection !== connection) return
    this.#connection = undefined
    this.#expectNothing()
  }

  /** There is something to ask the store about it before it may take all that it could. */
  get isBehind(): boolean {
    return this.connection !== undefined && (!this.isReconciled || this.offersNews)
  }

  /** Nobody misses it when it is forgotten. */
  get isEmpty(): boolean {
    const isIdle = this.attempts.size === 0 && !this.#reserved?.size && this.promisedSlots === 0
    return this.connection === undefined && isIdle
  }

  /** What it could take now, did it have no tunnel; undefined when it must not be given anything. */
  free(now: number): FreeAgent | undefined {
    if (this.connection === undefined || !this.isReconciled) return undefined
    if (now < this.stalledUntil || now < this.pausedUntil) return undefined
    // Before the offer is made: an agent that is there for tunnels alone needs none.
    if (!this.connection.record.tools.some(({ state }) => state === 'ready')) return undefined
    const freeSlots = this.#freeSlots(this.connection)
    if (freeSlots <= 0) return undefined
    const offer = this.#offerOf(this.connection)
    // Kept while it is the same, like the offer.
    if (this.#free?.freeSlots !== freeSlots || this.#free.labels !== offer.labels) this.#free = { ...offer, freeSlots }
    return this.#free
  }

  /** Undefined while it has no link. */
  situation(now: number, hasTunnel: boolean): AgentSituation | undefined {
    if (this.connection === undefined) return undefined
    return { ...this.#offerOf(this.connection), state: this.#stateOf(this.connection, now, hasTunnel) }
  }

  #stateOf(connection: AgentConnection, now: number, hasTunnel: boolean): AgentSituation['state'] {
    if (hasTunnel) return 'tunnel'
    if (now < this.stalledUntil || isUnhealthy(connection.record)) return 'unhealthy'
    return now < this.pausedUntil || this.#freeSlots(connection) <= 0 ? 'busy' : 'free'
  }

  #freeSlots({ record }: AgentConnection): number {
    const reserved = this.#reserved
    const expected = this.#expected?.attempts
    const isQuiet = !reserved?.size && !expected?.size
    const taken = isQuiet ? this.attempts : new Set([...this.attempts.keys(), ...(reserved ?? []), ...(expected ?? [])])
    return record.hello.gpu_capacity - taken.size - this.promisedSlots
  }

  /** Made anew only when the agent said something new: claims ask for it hundreds of times a second. */
  #offerOf(connection: AgentConnection): AgentOffer {
    const { tools, inventory, systemStats: stats } = connection.record
    const known = this.#offer
    if (known?.of === connection && known.tools === tools && known.inventory === inventory && known.stats === stats) {
      return known.made
    }
    const made = offerOf(connection)
    this.#offer = { of: connection, tools, inventory, stats, made }
    return made
  }
}

/** Names an attempt; neither part can hold a space. */
export function attemptKey(attempt: { taskId: string; fence: number }): string {
  return `${attempt.taskId} ${attempt.fence}`
}

function offerOf({ record }: AgentConnection): AgentOffer {
  const { hello, tools, inventory, systemStats } = record
  const working = tools.filter(({ state }) => state === 'ready').map(({ type }) => type)
  const devices = systemStats.gpu_devices.toSorted((a, b) => b.vram_total - a.vram_total)
  const [largest] = devices
  return {
    agentId: hello.agent_id,
    labels: new Set([...hello.labels, ...tools.map(({ type }) => type)]),
    tools: new Set(working),
    models: inventory?.models ?? 'any',
    nodeClasses: inventory?.nodeClasses ?? 'any',
    vramGb: (largest?.vram_total ?? 0) / BYTES_OF_GB,
    gpuName: largest?.device_name ?? null,
  }
}
