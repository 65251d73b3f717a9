import type { TunnelIndex } from './doors/door-search.ts'
import type { OpenTunnel } from './open-tunnel.ts'

/** The open tunnels of this server, by everything they are found with. */
export class TunnelSet implements TunnelIndex {
  /** Oldest first. */
  readonly #bySession = new Map<string, OpenTunnel>()
  // A map's own hash is seeded, so how long looking takes tells nothing about a secret that is nearly right.
  readonly #byToken = new Map<string, OpenTunnel>()
  readonly #byLabel = new Map<string, OpenTunnel>()
  readonly #byEdgePort = new Map<number, OpenTunnel>()
  readonly #byAdminToken = new Map<string, OpenTunnel>()

  get size(): number {
    return this.#bySession.size
  }

  all(): OpenTunnel[] {
    return [...this.#bySession.values()]
  }

  ofAgent(teamId: string, agentId: string): OpenTunnel[] {
    return this.all().filter(({ facts }) => facts.teamId === teamId && facts.agentId === agentId)
  }

  bySession(sessionId: string): OpenTunnel | undefined {
    return this.#bySession.get(sessionId)
  }

  byToken(token: string): OpenTunnel | undefined {
    return this.#byToken.get(token)
  }

  byLabel(label: string): OpenTunnel | undefined {
    return this.#byLabel.get(label)
  }

  byEdgePort(port: number): OpenTunnel | undefined {
    return this.#byEdgePort.get(port)
  }

  /** Ports of the port doors. */
  edgePorts(): number[] {
    return [...this.#byEdgePort.keys()]
  }

  /** By the SHA-256 of an admin token, hex. */
  byAdminTokenHash(hash: string): OpenTunnel | undefined {
    return this.#byAdminToken.get(hash)
  }

  /** Adds a tunnel, or puts it in the place of one with the same session, which is then found no more. */
  add(tunnel: OpenTunnel): void {
    const { facts } = tunnel
    const before = this.#bySession.get(facts.sessionId)
    if (before) this.#forgetWays(before)
    this.#bySession.set(facts.sessionId, tunnel)
    this.#byToken.set(facts.token, tunnel)
    this.#byLabel.set(facts.label, tunnel)
    if (facts.edgePort !== null) this.#byEdgePort.set(facts.edgePort, tunnel)
    this.#byAdminToken.set(facts.adminTokenHash, tunnel)
  }

  /** False when it is not in here: another one took its place, or it was removed before. */
  remove(tunnel: OpenTunnel): boolean {
    if (this.#bySession.get(tunnel.facts.sessionId) !== tunnel) return false
    this.#bySession.delete(tunnel.facts.sessionId)
    this.#forgetWays(tunnel)
    return true
  }

  clear(): void {
    for (const tunnel of this.all()) this.remove(tunnel)
  }

  #forgetWays({ facts }: OpenTunnel): void {
    this.#byToken.delete(facts.token)
    this.#byLabel.delete(facts.label)
    if (facts.edgePort !== null) this.#byEdgePort.delete(facts.edgePort)
    this.#byAdminToken.delete(facts.adminTokenHash)
  }
}
