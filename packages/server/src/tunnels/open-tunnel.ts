import type { Door, LocalTarget } from './door.ts'
import { localTarget } from './door.ts'
import type { Inspector } from './inspector.ts'

/** One visitor's use of a tunnel: a request being answered, a WebSocket, a TCP connection. */
export interface Visit {
  readonly address: string
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
  openedAt: number
  openedByUserId: string
  taskId: string | null
  idleTimeoutMs: number
}

/** How long somebody counts as a viewer after their last request. */
const VIEWER_MS = 60_000
/** How precisely that is kept: not every request of a busy viewer is noted. */
const VIEWER_STEP_MS = 1_000
/** Addresses remembered for counting viewers. Beyond them the oldest is forgotten, so the count is a lower bound. */
const MAX_VIEWERS = 1_000

/** A tunnel that visitors can use now: facts, who uses it, how much went through. */
export class OpenTunnel {
  readonly facts: TunnelFacts
  readonly target: LocalTarget
  /** The host door's first label: the session's id without dashes, which DNS takes as one label. Not a secret. */
  readonly label: string
  /** What paths start with at the path door. */
  readonly pathPrefix: string
  /** Bytes from visitors to the service, and back. */
  bytesIn: number
  bytesOut: number
  lastActivityAt: number
  /** Present while somebody inspects the tunnel's requests. */
  inspector: Inspector | undefined
  readonly #visits = new Set<Visit>()
  readonly #onClose = new Set<() => void>()
  /** One for all relays of the tunnel: each of their own would be a tenth of what an idle one costs. */
  readonly #closing = new AbortController()
  /** Address to the time of its last request; in the order of that time. */
  readonly #viewers = new Map<string, number>()

  constructor(facts: TunnelFacts, past: { bytesIn: number; bytesOut: number; lastActivityAt: number }) {
    this.facts = facts
    this.target = localTarget(facts.targetPort)
    this.label = tunnelLabel(facts.sessionId)
    this.pathPrefix = `/tunnel/${facts.token}`
    this.bytesIn = past.bytesIn
    this.bytesOut = past.bytesOut
    this.lastActivityAt = past.lastActivityAt
  }

  /** Aborts when the tunnel is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /** Notes a visit that begins; the tunnel's end will end it. */
  begin(visit: Visit, now: number): void {
    this.#visits.add(visit)
    this.#seen(visit.address, now)
  }

  /** Notes that a visit is over; telling it twice is harmless. */
  end(visit: Visit, now: number): void {
    if (this.#visits.delete(visit)) this.lastActivityAt = now
  }

  /** Calls `end` when the tunnel is closed; the returned function stops that. For what outlives a visit. */
  onClose(end: () => void): () => void {
    this.#onClose.add(end)
    return () => void this.#onClose.delete(end)
  }

  /** When the tunnel was last in use: now, while anybody uses it. */
  activeAt(now: number): number {
    return this.#visits.size > 0 ? now : this.lastActivityAt
  }

  viewerCount(now: number): number {
    const addresses = new Set<string>()
    for (const visit of this.#visits) addresses.add(visit.address)
    for (const [address, at] of this.#viewers) if (now - at < VIEWER_MS) addresses.add(address)
    return addresses.size
  }

  /** Ends every visit. Only who took the tunnel out of the collection of open ones calls this. */
  close(): void {
    const ends = [...this.#onClose]
    const visits = [...this.#visits]
    this.#onClose.clear()
    this.#visits.clear()
    this.#closing.abort()
    for (const end of ends) end()
    for (const visit of visits) visit.tunnelClosed?.()
  }

  #seen(address: string, now: number): void {
    this.lastActivityAt = now
    const seenAt = this.#viewers.get(address)
    if (seenAt !== undefined && now - seenAt < VIEWER_STEP_MS) return
    this.#viewers.delete(address)
    this.#viewers.set(address, now)
    if (this.#viewers.size <= MAX_VIEWERS) return
    const [oldest] = this.#viewers.keys()
    if (oldest !== undefined) this.#viewers.delete(oldest)
  }
}

export function tunnelLabel(sessionId: string): string {
  return sessionId.replaceAll('-', '')
}

/** The door that a request came through, for one tunnel. */
export function pathDoor(tunnel: OpenTunnel, edgeOrigin: string, hostDoorExists: boolean): Door {
  return { kind: 'path', prefix: tunnel.pathPrefix, origin: edgeOrigin, sandboxed: !hostDoorExists }
}

export function hostDoor(origin: string): Door {
  return { kind: 'host', prefix: '', origin, sandboxed: false }
}
