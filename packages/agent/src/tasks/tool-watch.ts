import type { Log } from '@cyberun/link/log'
import { AGENT_LIMITS, type InventoryLine, type OfferedTool, type ToolHealthReport } from '@cyberun/protocol'
import type { Tool, ToolHealth, ToolOffer, ToolType } from '../tools/tool.ts'
import type { RunLimits } from './limits.ts'

/** What the tools of this machine offer and how they do, asked again and again. */
export interface ToolWatch {
  offers(): OfferedTool[]
  health(): ToolHealthReport[]
  /** Why a tool cannot be used at present; undefined when it can. */
  unhealthy(type: ToolType): string | undefined
  labels(): string[]
  comfyuiVersion(): string | null
  /** Undefined when no tool knows what is here: then the machine is taken to have everything. */
  inventory(): Pick<InventoryLine, 'models' | 'node_classes'> | undefined
}

interface Watched {
  readonly tool: Tool
  offer: ToolOffer | undefined
  health: ToolHealth
  detectedAt: number
  isAsking: boolean
}

/** How long a tool may take to say what it offers, before the agent dials without it. */
const FIRST_DETECT_MS = 8_000

/**
 * Asks all tools once, then watches them until `signal` aborts. `onChange` hears when an offer or a health has changed.
 * `now` is monotonic milliseconds.
 */
export async function watchTools(
  tools: readonly Tool[],
  limits: Pick<RunLimits, 'healthMs' | 'detectAgainMs'>,
  log: Log,
  now: () => number,
  onChange: () => void,
  signal: AbortSignal,
): Promise<ToolWatch> {
  const all: Watched[] = tools.map((tool) => ({
    tool,
    offer: undefined,
    health: { state: 'starting' },
    detectedAt: Number.NEGATIVE_INFINITY,
    isAsking: false,
  }))

  async function look(one: Watched, limitMs: number): Promise<void> {
    if (one.isAsking) return
    one.isAsking = true
    try {
      const before = JSON.stringify([one.offer, one.health])
      const wasReady = one.health.state === 'ready'
      const within = AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
      const health = await orSilent(one.tool.health(within), within)
      if (health.state === 'ready' && (!wasReady || now() - one.detectedAt >= limits.detectAgainMs)) {
        one.offer = await one.tool.detect(within)
        one.detectedAt = now()
      } else one.offer ??= await one.tool.detect(within)
      one.health = health
      if (JSON.stringify([one.offer, one.health]) === before || signal.aborted) return
      tellLog(one)
      onChange()
    } catch (error) {
      if (!signal.aborted) log.warn({ tool: one.tool.type, error }, 'tool.not_detected')
    } finally {
      one.isAsking = false
    }
  }

  function tellLog({ tool, offer, health }: Watched): void {
    const about = { tool: tool.type, tool_version: offer?.version, state: health.state }
    if (health.state === 'unhealthy') log.warn({ ...about, hint: health.reason }, 'tool.unhealthy')
    else log.info(about, 'tool.state')
  }

  await Promise.all(all.map((one) => look(one, FIRST_DETECT_MS)))
  const timer = setInterval(() => {
    for (const one of all) void look(one, limits.healthMs)
  }, limits.healthMs)
  // Told to stop while the tools were asked: nothing would tell again.
  if (signal.aborted) clearInterval(timer)
  signal.addEventListener('abort', () => clearInterval(timer), { once: true })

  const offered = () => all.flatMap(({ tool, offer, health }) => (offer ? [{ type: tool.type, offer, health }] : []))
  return {
    offers: () => offered().map(({ type, offer }) => ({ type, version: versionOf(offer) })),
    health: () =>
      offered().map(({ type, offer, health }) => ({
        type,
        version: versionOf(offer),
        state: health.state,
        ...(health.state === 'unhealthy' && { reason: printable(health.reason) }),
      })),
    unhealthy(type) {
      const one = offered().find((candidate) => candidate.type === type)
      if (!one) return `The agent's ${type} is not there at present.`
      switch (one.health.state) {
        case 'ready':
          return undefined
        case 'starting':
          return `The agent's ${type} is starting.`
        case 'unhealthy':
          return `The agent's ${type} is unhealthy: ${one.health.reason}`
      }
    },
    labels: () => [...new Set(offered().flatMap(({ type, offer }) => [type, ...offer.labels]))],
    comfyuiVersion: () => offered().find(({ type }) => type === 'comfyui')?.offer.version ?? null,
    inventory() {
      const known = offered().filter(({ offer }) => offer.models !== undefined || offer.nodeClasses !== undefined)
      if (known.length === 0) return undefined
      return {
        models: [...new Set(known.flatMap(({ offer }) => offer.models ?? []))],
        node_classes: [...new Set(known.flatMap(({ offer }) => offer.nodeClasses ?? []))],
      }
    },
  }
}

const REASON_CHARACTERS = 500

function printable(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cs}]+/gu, ' ')
    .slice(0, REASON_CHARACTERS)
    .toWellFormed()
}

function versionOf(offer: ToolOffer): string {
  return offer.version.replace(/[^\x20-\x7e]/g, '').slice(0, AGENT_LIMITS.versionCharacters)
}

/** A tool that does not answer in time is not well. */
async function orSilent(asked: Promise<ToolHealth>, signal: AbortSignal): Promise<ToolHealth> {
  const silent = new Promise<ToolHealth>((resolve) => {
    const giveUp = (): void => resolve({ state: 'unhealthy', reason: 'it does not answer' })
    if (signal.aborted) giveUp()
    else signal.addEventListener('abort', giveUp, { once: true })
  })
  return Promise.race([asked.catch(failed), silent])
}

function failed(error: unknown): ToolHealth {
  return { state: 'unhealthy', reason: error instanceof Error ? error.message : String(error) }
}
