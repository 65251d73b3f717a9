import type { AgentView } from '@cyberun/api'
import type { Link, LinkStream, PumpSocket, UpgradeHead } from '@cyberun/link'
import type { CloseReason } from '@cyberun/protocol'
import type { Tally } from '../tally.ts'
import type { Asked } from '../visitor-address.ts'
import type { AgentRecord } from './view.ts'

/**
 * `linked`: there is a live link. `between`: the link was lost less than the resume window ago, or this server started
 * less than the resume window ago, so the agent may be back at once. `absent`: nothing is known of it here.
 */
export type Presence = 'linked' | 'between' | 'absent'

/** One agent's link, accepted, with the key it was made with: what ends when the key does. */
export interface AgentConnection {
  readonly teamId: string
  readonly credentialId: string
  /** The machine's public key, base64url. */
  readonly machineKey: string
  /** Fences the agent's older links. */
  readonly generation: number
  /** When it dialled this link: its hello knows what happened before. Milliseconds since 1970. */
  readonly dialledAt: number
  readonly record: AgentRecord
  readonly link: Link
  /** Said go-away: the link finishes what it carries, and the agent's next one does not evict it. */
  isDraining: boolean
}

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
  /** The agents listed here whose owners allow shells: of every team, or of one. */
  withTerminals(teamId?: string): { teamId: string; agentId: string }[]
  /**
   * Marks a tunnel session open on an agent, so that its status is `tunnel`, whether or not it is connected now.
   * The returned function gives the mark back; calling it twice is harmless.
   */
  holdTunnel(teamId: string, agentId: string, sessionId: string): () => void
  /**
   * Names who gives tasks to agents: before the first agent comes. Without it agents carry tunnels only, and streams about
   * tasks are reset as `unsupported`.
   */
  serveTasks(tasks: AgentTasks): void
  /** Whether a tunnel session is open on the agent. */
  hasTunnel(teamId: string, agentId: string): boolean
  readonly counts: AgentCounts
  /**
   * Takes no further agent, tells those here to go elsewhere, lets their streams finish until `signal` aborts, then
   * closes what is left with a hint when to dial again.
   */
  stop(signal: AbortSignal): Promise<void>
}

/** The part above that gives tasks to agents, as agents know it. None of these may throw. */
export interface AgentTasks {
  /** The agent has a new link, which takes streams. */
  linked(agent: AgentConnection): void
  /** A link of the agent is over, or takes no new streams; it may have a newer one already. */
  unlinked(agent: AgentConnection, reason: CloseReason): void
  /** It said something new of itself: how its tools do, or (`inventory`) what it has. */
  reported(agent: AgentConnection, what: 'heartbeat' | 'inventory'): void
  /** The first tunnel session of the agent was opened, or its last one closed. */
  tunnelChanged(teamId: string, agentId: string): void
  /** Owns the stream, which is of kind `task`, `artifact` or `input`. */
  serveStream(stream: LinkStream, agent: AgentConnection): void
  /** Ids of the tasks the agent has. */
  tasksOf(teamId: string, agentId: string): readonly string[]
  /** It does not do what it is given. */
  isStalled(teamId: string, agentId: string): boolean
}

/** For metrics: what there is now is read from the collections, never counted beside them. */
export interface AgentCounts {
  readonly linked: number
  readonly between: number
  readonly streams: number
  readonly queuedBytes: number
  /** Links that are over, by their reason. */
  readonly closed: Tally
}
