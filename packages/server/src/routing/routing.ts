import type { Link, LinkStream, StreamEvents } from '@cyberun/link'
import { LinkClosedError, type OpenInit } from '@cyberun/protocol'
import type { AgentLinks } from '../agents/types.ts'

/** How this server reaches one agent: over a link held here, or (with a cluster) through a peer. Callers never ask which. */
export interface AgentPath {
  /**
   * Opens a stream to the agent. While the agent is between two links this waits, up to `PARKING_MS` and until `signal`
   * aborts. The stream may be written at once; `stream.accepted` tells whether the agent took it. Without `events` it
   * keeps what arrives until `stream.listen`.
   * Throws `AgentUnreachableError` when no link came in time, the signal's reason when it aborted, and
   * `StreamResetError` when the link can carry no further stream.
   */
  open(init: OpenInit, events: StreamEvents | undefined, signal: AbortSignal): Promise<LinkStream>
}

export interface Routing {
  /** The path to an agent that is connected or may be back within seconds, else undefined. */
  pathTo(teamId: string, agentId: string): AgentPath | undefined
}

/** No link to the agent appeared while a caller was willing to wait. */
export class AgentUnreachableError extends Error {
  constructor(agentId: string) {
    super(`agent ${agentId} is not connected: it reconnects by itself once its machine and network are up`)
    this.name = 'AgentUnreachableError'
  }
}

/** How long a caller waits for an agent between two links. */
export const PARKING_MS = 5_000

export function createRouting(agents: AgentLinks): Routing {
  return {
    pathTo(teamId, agentId) {
      if (agents.presence(teamId, agentId) === 'absent') return undefined
      return { open: (init, events, signal) => openHere(agents, teamId, agentId, init, events, signal) }
    },
  }
}

async function openHere(
  agents: AgentLinks,
  teamId: string,
  agentId: string,
  init: OpenInit,
  events: StreamEvents | undefined,
  signal: AbortSignal,
): Promise<LinkStream> {
  const link = agents.linkOf(teamId, agentId)
  if (link) {
    try {
      return link.open(init, events)
    } catch (error) {
      // It has just been lost, or only finishes what it carries: the agent is dialling its next one.
      if (!(error instanceof LinkClosedError)) throw error
    }
  }
  return (await park(agents, teamId, agentId, signal)).open(init, events)
}

async function park(agents: AgentLinks, teamId: string, agentId: string, signal: AbortSignal): Promise<Link> {
  const patience = new AbortController()
  const timer = setTimeout(() => patience.abort(), PARKING_MS)
  const link = await agents.nextLink(teamId, agentId, AbortSignal.any([signal, patience.signal]))
  clearTimeout(timer)
  signal.throwIfAborted()
  if (!link) throw new AgentUnreachableError(agentId)
  return link
}
