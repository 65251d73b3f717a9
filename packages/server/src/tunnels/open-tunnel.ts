import type { HostPolicy, PathMode, TunnelProfile } from '@cyberun/api'
import { Activity } from './activity.ts'
import type { LocalTarget } from './http/door.ts'
import { localTarget } from './http/door.ts'
import type { Refusal } from './http/refusal.ts'
import type { Inspector } from './inspector/inspector.ts'
import { Presence, type Viewer } from './presence.ts'
import { OpenVisits, TunnelConnections } from './visitor-limits.ts'

/** One visitor's use of a tunnel: a request being answered, a WebSocket, a TCP connection. */
export interface Visit {
  readonly address: string
  /** As the visitor sent it; empty when it sent none. */
  readonly userAgent: string
  /** The tunnel is over: end at once. Called at most once. Relays listen to `closed` of the tunnel instead. */
  tunnelClosed?(): void
}

export interface TunnelFacts {
  sessionId: string
  teamId: string
  agentId: string
  targetPort: number
  protocol: 'http' | 'tcp'
  /** The access token; in memory only, for `tunnel_url`. */
  token: string
  /** What the visit cookie holds: proves knowledge of the token, and is not the token. */
  visitSecret: string
  /** SHA-256 of the admin token, hex. */
  adminTokenHash: string
  /** The host door's first label: 32 hex digits, random, never given again. Not a secret. */
  label: string
  openedAt: number
  openedByUserId: string
  taskId: string | null
  /** How long it may go unused; may be changed while it is open. */
  idleTimeoutMs: number
  profile: TunnelProfile
  hostPolicy: HostPolicy
  pathMode: PathMode
  /** The port door's port, when the tunnel has one. */
  edgePort: number | null
}

/** A tunnel that visitors can use now: facts, who uses it, how much went through. */
export class OpenTunnel {
  readonly facts: TunnelFacts
  readonly target: LocalTarget
  /** What paths start with at the path door. */
  readonly pathPrefix: string
  /** Bytes from visitors to the service, and back. */
  bytesIn: number
  bytesOut: number
  /** What keeps it open. */
  readonly activity: Activity
  /** Present while somebody inspects the tunnel's requests. */
  inspector: Inspector | undefined
  readonly presence = new Presence()
  readonly #visits = new Map<Visit, Viewer>()
  readonly #open = new OpenVisits()
  readonly #connections = new TunnelConnections()
  readonly #onClose = new Set<() => void>()
  /** One for all relays of the tunnel: each of their own would be a tenth of what an idle one costs. */
  readonly #closing = new AbortController()

  constructor(facts: TunnelFacts, past: { bytesIn: number; bytesOut: number; lastActivityAt: number }) {
    this.facts = facts
    this.target = localTarget(facts.targetPort)
    this.pathPrefix = `/tunnel/${facts.token}`
    this.bytesIn = past.bytesIn
    this.bytesOut = past.bytesOut
    this.activity = new Activity(past.lastActivityAt)
  }

  /** Aborts when the tunnel is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /** A refusal when one more visit, or one more new connection, is too many. Counts the connection, not the visit. */
  admit(address: string, isNewConnection: boolean, now: number): Refusal | undefined {
    return this.#open.admit(address) ?? (isNewConnection ? this.#connections.admit(now) : undefined)
  }

  /** Notes a visit that begins; the tunnel's end will end it. */
  begin(visit: Visit, now: number): void {
    this.#open.begin(visit.address)
    this.#visits.set(visit, this.presence.enter(visit.address, visit.userAgent, now))
  }

  /** Notes that a visit is over; telling it twice is harmless. */
  end(visit: Visit, now: number): void {
    const viewer = this.#visits.get(visit)
    if (!viewer) return
    this.#visits.delete(visit)
    this.#open.end(visit.address)
    this.presence.leave(viewer, now)
  }

  /** Calls `end` when the tunnel is closed; the returned function stops that. For what outlives a visit. */
  onClose(end: () => void): () => void {
    this.#onClose.add(end)
    return () => void this.#onClose.delete(end)
  }

  /** When anybody was last here, at work or not: now, while a request or a connection is under way. */
  seenAt(now: number): number {
    return this.#visits.size > 0 ? now : this.presence.lastSeenAt
  }

  /** When it will be closed unless it is used. */
  expiresAt(now: number): number {
    return this.activity.lastUsedAt(now) + this.facts.idleTimeoutMs
  }

  /** Visits under way. */
  get openCount(): number {
    return this.#visits.size
  }

  /** Ends every visit. Only who took the tunnel out of the collection of open ones calls this. */
  close(): void {
    const ends = [...this.#onClose]
    const visits = [...this.#visits.keys()]
    this.#onClose.clear()
    this.#visits.clear()
    this.#closing.abort()
    for (const end of ends) end()
    for (const visit of visits) visit.tunnelClosed?.()
  }
}
