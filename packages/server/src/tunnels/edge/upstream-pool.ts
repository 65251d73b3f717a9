import { AgentUnreachableError, type Routing } from '../../routing/routing.ts'
import { agentOffline, lossRefusal } from '../http/losses.ts'
import type { Refusal } from '../http/refusal.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import { Upstream, type UpstreamOwner } from './upstream.ts'

/** Bounds of one tunnel's connections to its service. */
export const POOL_LIMITS = {
  /** Connections kept for later requests. */
  idle: 64,
  /** Connections in all; a request that would need one more is answered 503. */
  open: 1_024,
  /** How long an idle one is kept. Common services close theirs after 5 s, and some single-threaded ones serve one only. */
  idleMs: 4_000,
  /**
   * How old an idle one may be for a request that cannot be sent again, should the service close it at that moment.
   * No service we know closes sooner.
   */
  freshMs: 1_000,
  /** How long a service has to close a connection we have ended. */
  lingerMs: 5_000,
} as const

/** The connections from this edge to one tunnel's service, kept alive between requests (RFC 9112, section 9.3). */
export class UpstreamPool implements UpstreamOwner {
  readonly #tunnel: OpenTunnel
  readonly #routing: Routing
  /** Every connection that is not closed yet. */
  readonly #all = new Set<Upstream>()
  /** Least recently used first. */
  readonly #idle: { upstream: Upstream; since: number }[] = []
  /** Those that carry nothing further, and since when they wait for the service to close them, too. */
  readonly #ending = new Map<Upstream, number>()

  constructor(tunnel: OpenTunnel, routing: Routing) {
    this.#tunnel = tunnel
    this.#routing = routing
  }

  get size(): number {
    return this.#all.size
  }

  /** A connection that was idle for at most `maxIdleMs`, if there is one whose last answer its visitor has taken. */
  take(now: number, maxIdleMs: number): Upstream | undefined {
    const at = this.#idle.findLastIndex(({ upstream }) => !upstream.isHeldUp)
    const last = this.#idle[at]
    if (!last || now - last.since > maxIdleMs) return undefined
    this.#idle.splice(at, 1)
    return last.upstream
  }

  /** Takes back a connection whose last answer ended cleanly. */
  give(upstream: Upstream, now: number): void {
    if (this.#idle.length >= POOL_LIMITS.idle) {
      this.retire(upstream, now)
      return
    }
    this.#idle.push({ upstream, since: now })
    upstream.rest()
  }

  /** Ends a connection that will carry no further request, and gives the service time to do the same. */
  retire(upstream: Upstream, now: number): void {
    this.#ending.set(upstream, now)
    upstream.end()
  }

  /**
   * Opens a connection. Requests may be written to it before the agent has reached the service. While the agent is
   * between two links this waits for a moment, or until `signal` aborts.
   */
  async open(signal: AbortSignal): Promise<Upstream | Refusal> {
    const { teamId, agentId, targetPort } = this.#tunnel.facts
    const path = this.#routing.pathTo(teamId, agentId)
    if (!path) return agentOffline()
    if (this.#all.size >= POOL_LIMITS.open) return lossRefusal('refused')
    const upstream = new Upstream(this.#tunnel, this)
    this.#all.add(upstream)
    try {
      const init = { target: { kind: 'tcp', port: targetPort }, priority: 'interactive' } as const
      upstream.attach(await path.open(init, upstream, signal))
      return upstream
    } catch (error) {
      this.#all.delete(upstream)
      // What is left is a link that takes no more streams, or a caller who does not wait any longer.
      return error instanceof AgentUnreachableError ? agentOffline() : lossRefusal('refused')
    }
  }

  /** Closes what was idle or ending for too long. */
  sweep(now: number): void {
    const young = this.#idle.findIndex(({ since }) => now - since <= POOL_LIMITS.idleMs)
    const old = this.#idle.splice(0, young < 0 ? this.#idle.length : young)
    for (const { upstream } of old) this.retire(upstream, now)
    for (const [upstream, since] of this.#ending) if (now - since > POOL_LIMITS.lingerMs) upstream.abort()
  }

  /** The tunnel is over: ends what is idle. Connections in use end with whoever uses them. `sweep` goes on. */
  close(now: number): void {
    for (const { upstream } of this.#idle.splice(0)) this.retire(upstream, now)
  }

  onIdleLost(upstream: Upstream): void {
    const at = this.#idle.findIndex((each) => each.upstream === upstream)
    if (at >= 0) this.#idle.splice(at, 1)
  }

  onClosed(upstream: Upstream): void {
    this.#all.delete(upstream)
    this.#ending.delete(upstream)
  }
}
