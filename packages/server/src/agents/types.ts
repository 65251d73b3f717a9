import type { AgentView } from '@cyberun/api'
import type { Link, PumpSocket, UpgradeHead } from '@cyberun/link'
import type { Asked } from '../visitor-address.ts'

/**
 * `linked`: there is a live link. `between`: the link was lost less than the resume window ago, or this server started
 * less than the resume window ago, so the agent may be back at once. `absent`: nothing is known of it here.
 */
export type Presence = 'linked' | 'between' | 'absent'

/** What routing needs: links by name, and waiting for the next one. */
export interface AgentLinks {
  presence(teamId: string, agentId: string): Presence
  /** The link that takes new streams, if there is one now. */
  linkOf(teamId: string, agentId: string): Link | undefined
  /**
   * Resolves with the agent's next link, or with undefined when `signal` aborts, the agent's resume window passes, or
   * too many callers wait already. Never rejects.
   */
  nextLink(teamId: string, agentId: string, signal: AbortSignal): Promise<Link | undefined>
}

/** An agent's request for a link. */
export type AgentRequest = UpgradeHead & Asked

/** The agents connected to this server. */
export interface Agents extends AgentLinks {
  /** Answers the upgrade of `/agent`, with a link or with a refusal. Owns the resting socket from here on; never throws. */
  handleUpgrade(request: AgentRequest, socket: PumpSocket): void
  list(teamId: string): AgentView[]
  get(teamId: string, agentId: string): AgentView | undefined
  /**
   * Marks a tunnel session open on an agent, so that its status is `tunnel`, whether or not it is connected now.
   * The returned function gives the mark back; calling it twice is harmless.
   */
  holdTunnel(teamId: string, agentId: string, sessionId: string): () => void
  readonly counts: AgentCounts
  /**
   * Takes no further agent, tells those here to go elsewhere, lets their streams finish until `signal` aborts, then
   * closes what is left with a hint when to dial again.
   */
  stop(signal: AbortSignal): Promise<void>
}

/** For gauges: read from the collections, never counted beside them. */
export interface AgentCounts {
  readonly linked: number
  readonly between: number
  readonly streams: number
  readonly queuedBytes: number
}
