import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type {
  AgentView,
  ApiError,
  ExtendedTunnel,
  ExtendTunnelBody,
  InspectedDetail,
  InspectorAnswer,
  InspectorBody,
  InspectorQuery,
  InspectorState,
  OpenedTunnel,
  OpenTunnelBody,
  ReplayAnswer,
  TunnelListAnswer,
} from '@cyberun/api'

/**
 * What the API needs of the parts it does not build itself. They are written in the API's own types, so that
 * `agents` and `tunnels` fit them without importing this folder; `main` joins them.
 */

/** Who makes a call, as far as tunnels care: whose it is, and what it ends with. */
export interface TunnelOpener {
  userId: string
  /** The key that called; its revocation ends the tunnel. Absent for a signed-in user. */
  credentialId?: string
  /** The sign-in that called; its end ends the tunnel. Absent for a key. */
  familyId?: string
}

export interface AgentsPort {
  /** Every agent of the team that is listed now. */
  list(teamId: string): AgentView[]
  /** Undefined for an agent that is unknown, gone, or another team's: callers cannot tell which. */
  get(teamId: string, agentId: string): AgentView | undefined
}

/** Names one tunnel. */
export interface TunnelName {
  teamId: string
  agentId: string
  sessionId: string
}

export interface InspectorsPort {
  /** Turns a tunnel's inspector on or off. Throws `ApiError`: `not_found`, and `conflict` when too many are on. */
  set(caller: TunnelOpener, name: TunnelName, wanted: InspectorBody): Promise<InspectorState>
  /** Throws `ApiError('not_found')` for an unknown tunnel. */
  list(name: TunnelName, query: InspectorQuery): InspectorAnswer
  /** Throws `ApiError('not_found')`, also for a request that is not kept. */
  show(name: TunnelName, number: number): InspectedDetail
  /**
   * Sends a request again. Throws `ApiError`: `not_found`, `conflict` for one that was not kept whole, `unavailable`, or
   * the reason of `signal`.
   */
  replay(caller: TunnelOpener, name: TunnelName, number: number, signal: AbortSignal): Promise<ReplayAnswer>
}

export interface TunnelsPort {
  /**
   * Opens a session after asking the agent whether something listens on the port. Throws `ApiError`: `not_found`,
   * `agent_offline`, `target_refused`, `port_not_allowed`, `unavailable`, `timeout`, or the reason of `signal`.
   */
  open(
    opener: TunnelOpener,
    teamId: string,
    agentId: string,
    request: OpenTunnelBody,
    signal: AbortSignal,
  ): Promise<OpenedTunnel>
  /** Throws `ApiError('not_found')` for an agent the team never had. */
  list(teamId: string, agentId: string): Promise<TunnelListAnswer>
  /**
   * Closes one session, or all to this agent when none is named. Throws `ApiError('not_found')` for an unknown or
   * foreign session or agent. Closing all of none is fine.
   */
  close(opener: TunnelOpener, teamId: string, agentId: string, sessionId?: string): Promise<void>
  /** Changes how long a session may go unused. Throws `ApiError('not_found')` for an unknown or foreign one. */
  extend(
    opener: TunnelOpener,
    teamId: string,
    agentId: string,
    sessionId: string,
    change: ExtendTunnelBody,
  ): Promise<ExtendedTunnel>
  /** Gives a session new addresses and secrets and cuts off whoever has the old ones. Throws `not_found`, `conflict`. */
  revoke(opener: TunnelOpener, teamId: string, agentId: string, sessionId: string): Promise<OpenedTunnel>
}

/** Terminals: their page, and the one kind of upgrade that this listener takes. */
export interface TerminalsPort {
  takesUpgrade(request: IncomingMessage): boolean
  /** Owns the socket, unless it calls `refuse`. The `Host` of the request has been checked. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, refuse: (error: ApiError) => void): void
  /** A file below `/terminal/`. */
  page(name: string): Response | undefined
}
