import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ApiError } from '@cyberun/api'
import { acceptLink, type Link, refuseUpgrade } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { type AgentLine, type CloseReason, type Hello, type StreamHandler, unreachable } from '@cyberun/protocol'
import type { Bus } from '../bus.ts'
import type { Identity } from '../identity/identity.ts'
import { noteAgentHeard } from '../store/agents.ts'
import type { Store } from '../store/store.ts'
import { AcceptRate } from './accept-rate.ts'
import { type AgentCaller, admitAgent } from './admission.ts'
import { createAgentStreams } from './agent-streams.ts'
import { agentIdTaken, CLOSING } from './closing.ts'
import { createKeyWatch, type KeyWatch } from './key-watch.ts'
import { AGENTS_LIMITS, type AgentsLimits } from './limits.ts'
import { type AgentConnection, AgentRegistry } from './registry.ts'
import { isProbe, type Seat, seatAgent, welcomeFrom } from './seat.ts'
import type { AgentCounts, Agents } from './types.ts'

export interface AgentsOptions {
  identity: Pick<Identity, 'authenticate'>
  store: Store
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  /** From [0, 1). */
  random(): number
  /** The IP address of whoever made a request, for the limits on guessing keys. */
  addressOf(request: IncomingMessage): string
  gatewayId: string
  limits?: Partial<AgentsLimits>
}

/** A live link with the key it was made with: what ends when the key does. */
interface HeldLink {
  readonly link: Link
  readonly teamId: string
  readonly credentialId: string
  /** Said go-away: it finishes what it carries, and the agent's next link does not evict it. */
  draining: boolean
}

/** Whoever's hello was good: an agent with its seat, or a link that only measures. */
interface Guest {
  readonly seat?: Seat
  readonly onStream: StreamHandler
}

/** Accepts agents and keeps the list of those connected here. */
export function createAgents(options: AgentsOptions): Agents {
  return new AgentsHere(options)
}

class AgentsHere implements Agents {
  readonly #options: AgentsOptions
  readonly #limits: AgentsLimits
  readonly #registry: AgentRegistry
  readonly #acceptRate: AcceptRate
  readonly #keys: KeyWatch
  readonly #links = new Map<Link, HeldLink>()
  readonly #probes = new Set<Link>()
  /** Notes being written to the store: `stop` waits for them. */
  readonly #notes = new Set<Promise<void>>()
  #stopping = false

  constructor(options: AgentsOptions) {
    this.#options = options
    this.#limits = { ...AGENTS_LIMITS, ...options.limits }
    this.#registry = new AgentRegistry(this.#limits, options.now)
    this.#acceptRate = new AcceptRate(this.#limits, options.now())
    this.#keys = createKeyWatch({
      ...options,
      sweepMs: this.#limits.credentialSweepMs,
      credentialsInUse: () => new Set([...this.#links.values()].map(({ credentialId }) => credentialId)),
      onCredentialEnded: (credentialId) => this.#end((held) => held.credentialId === credentialId, CLOSING.revoked),
      onTeamEnded: (teamId) => this.#end((held) => held.teamId === teamId, CLOSING.teamDeleted),
    })
  }

  presence: Agents['presence'] = (teamId, agentId) => this.#registry.presence(teamId, agentId)
  linkOf: Agents['linkOf'] = (teamId, agentId) => this.#registry.linkOf(teamId, agentId)
  nextLink: Agents['nextLink'] = (teamId, agentId, signal) => this.#registry.nextLink(teamId, agentId, signal)
  list: Agents['list'] = (teamId) => this.#registry.list(teamId)
  get: Agents['get'] = (teamId, agentId) => this.#registry.get(teamId, agentId)
  holdTunnel: Agents['holdTunnel'] = (teamId, agentId, sessionId) =>
    this.#registry.holdTunnel(teamId, agentId, sessionId)

  get counts(): AgentCounts {
    let streams = 0
    let queuedBytes = 0
    for (const { stats } of this.#links.keys()) {
      streams += stats.streams
      queuedBytes += stats.queuedBytes
    }
    return { linked: this.#links.size, between: this.#registry.between, streams, queuedBytes }
  }

  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!(socket instanceof Socket)) {
      socket.destroy()
      return
    }
    // Until the link owns the socket nobody else listens, and an error without a listener ends the process.
    socket.on('error', ignore)
    this.#admit(request)
      .then(
        (caller) => this.#accept(caller, request, socket, head),
        (error: unknown) => this.#refuse(request, socket, error),
      )
      .catch((error: unknown) => this.#options.log.debug({ error }, 'agent.handshake_failed'))
      .finally(() => socket.off('error', ignore))
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#stopping = true
    this.#keys.stop()
    const closed = Promise.all([...this.#links.keys(), ...this.#probes].map((link) => link.closed))
    for (const link of [...this.#probes]) link.close(CLOSING.stopping)
    for (const link of [...this.#links.keys()]) this.#sendAway(link)
    await Promise.race([closed, aborted(signal)])
    for (const link of [...this.#links.keys()]) link.close({ ...CLOSING.stopping, retryAfterMs: this.#returnMs() })
    await closed
    this.#registry.clear()
    await Promise.allSettled(this.#notes)
  }

  async #admit(request: IncomingMessage): Promise<AgentCaller> {
    this.#checkRoom()
    return await admitAgent(request, this.#options.addressOf(request), this.#options.identity)
  }

  async #accept(caller: AgentCaller, request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const challenge = randomBytes(32).toString('base64url')
    // Set by `welcome`, before which the link brings no stream.
    let guest: Guest | undefined
    const accepted: Promise<Link> = acceptLink({
      request,
      socket,
      head,
      challenge,
      welcome: async (hello) => {
        const end = (reason: CloseReason): void => {
          accepted.then((link) => link.close(reason), ignore)
        }
        const outcome = await this.#receive(caller, hello, challenge, end).catch((error: unknown) => {
          this.#options.log.error({ error, team_id: caller.teamId }, 'agent.accept_failed')
          return CLOSING.trouble
        })
        if (!('onStream' in outcome)) return outcome
        guest = outcome
        return welcomeFrom(this.#options.gatewayId)
      },
      onStream: (stream) => guest?.onStream(stream),
      log: this.#options.log,
    })
    const link = await accepted
    if (guest?.seat) this.#seat({ ...guest.seat, link })
    else this.#probe(link, caller)
  }

  #checkRoom(): void {
    if (this.#stopping) throw busy('This server is stopping; it will be back.', this.#limits.stopRetrySpreadMs)
    if (this.#links.size >= this.#limits.links) {
      throw busy('This server holds as many agents as it can.', this.#limits.longestRetryAfterMs)
    }
    const retryAfterMs = this.#acceptRate.take(this.#options.now())
    if (retryAfterMs !== undefined) throw busy('Many agents are connecting; wait for your turn.', retryAfterMs)
  }

  /** Decides about a hello: who it is and how its streams are served, or why it may not stay. */
  async #receive(
    caller: AgentCaller,
    hello: Hello,
    challenge: string,
    end: (reason: CloseReason) => void,
  ): Promise<Guest | CloseReason> {
    const { now } = this.#options
    const onFault = (message: string): void => end({ code: 'protocol_fault', message })
    if (isProbe(hello)) {
      if (this.#probes.size >= this.#limits.probes) return CLOSING.tooManyProbes
      return { onStream: createAgentStreams({ onHeartbeat: undefined, onFault }, this.#limits, now) }
    }
    const seat = await seatAgent(caller, hello, challenge, {
      ...this.#options,
      resumeWindowMs: this.#limits.resumeWindowMs,
      machineOf: (teamId, agentId) => this.#registry.machineOf(teamId, agentId),
    })
    if (!('record' in seat)) {
      this.#options.log.info({ team_id: caller.teamId, reason: seat.code, hint: seat.message }, 'agent.refused')
      return seat
    }
    const onHeartbeat = (beat: AgentLine): void => {
      seat.record.lastHeartbeatAt = now()
      seat.record.systemStats = beat.system_stats
    }
    return { seat, onStream: createAgentStreams({ onHeartbeat, onFault }, this.#limits, now) }
  }

  /** Lists an agent whose link is made, unless something came in between. */
  #seat(connection: AgentConnection): void {
    const { teamId, credentialId, link, record } = connection
    if (this.#keys.endedLately(teamId, credentialId)) {
      link.close(CLOSING.revoked)
      return
    }
    const outcome = this.#registry.attach(connection)
    switch (outcome.kind) {
      case 'outrun':
        link.close(CLOSING.evicted)
        return
      case 'taken':
        link.close(agentIdTaken(record.hello.agent_id, this.#limits.resumeWindowMs))
        return
      case 'attached':
        this.#hold(connection, outcome.former)
        return
      default:
        unreachable(outcome)
    }
  }

  /** Keeps the link until it closes. The former link of the same machine ends, unless it only finishes what it carries. */
  #hold(connection: AgentConnection, formerConnection: AgentConnection | undefined): void {
    const { teamId, credentialId, link, record } = connection
    const held: HeldLink = { link, teamId, credentialId, draining: false }
    this.#links.set(link, held)
    void link.goingAway.then(() => {
      held.draining = true
    })
    const former = formerConnection && this.#links.get(formerConnection.link)
    if (former && !former.draining) former.link.close(CLOSING.evicted)
    this.#options.log.info(
      {
        team_id: teamId,
        agent_id: record.hello.agent_id,
        agent_version: record.hello.agent_version,
        generation: connection.generation,
      },
      'agent.connected',
    )
    if (this.#stopping) this.#sendAway(link)
    void link.closed.then((reason) => this.#unseat(connection, reason))
  }

  #unseat(connection: AgentConnection, reason: CloseReason): void {
    const { teamId, generation, link, record } = connection
    this.#links.delete(link)
    // `done`: the agent was stopped by its owner, so nobody waits for it.
    this.#registry.detach(connection, reason.code === 'done' || reason.code === 'revoked')
    const { agent_id } = record.hello
    this.#options.log.info(
      {
        team_id: teamId,
        agent_id,
        generation,
        reason: reason.code,
        hint: reason.message,
        connected_seconds: Math.round((this.#options.now() - record.connectedAt) / 1000),
      },
      'agent.disconnected',
    )
    this.#note(
      noteAgentHeard(this.#options.store, { teamId, agentId: agent_id, generation, at: record.lastHeartbeatAt }),
    )
  }

  /** A link that only measures: never listed, and over within a minute. */
  #probe(link: Link, caller: AgentCaller): void {
    if (this.#stopping || this.#keys.endedLately(caller.teamId, caller.credentialId)) {
      link.close(this.#stopping ? CLOSING.stopping : CLOSING.revoked)
      return
    }
    this.#probes.add(link)
    const over = setTimeout(() => link.close(CLOSING.probeOver), this.#limits.probeMs)
    void link.closed.then(() => {
      clearTimeout(over)
      this.#probes.delete(link)
    })
  }

  #sendAway(link: Link): void {
    link.goAway(CLOSING.stopping.message, this.#limits.stopDrainMs, this.#returnMs())
  }

  /** When an agent should be back after this server's restart: not all at the same moment. */
  #returnMs(): number {
    return Math.round(this.#options.random() * this.#limits.stopRetrySpreadMs)
  }

  #end(whose: (held: HeldLink) => boolean, reason: CloseReason): void {
    for (const held of [...this.#links.values()]) if (whose(held)) held.link.close(reason)
  }

  #note(writing: Promise<void>): void {
    const noted = writing.catch((error: unknown) => this.#options.log.warn({ error }, 'agent.note_failed'))
    this.#notes.add(noted)
    void noted.finally(() => this.#notes.delete(noted))
  }

  #refuse(request: IncomingMessage, socket: Socket, error: unknown): void {
    if (socket.destroyed) return
    const known =
      error instanceof ApiError ? error : new ApiError('internal', 'This is a fault of the server; see its log.')
    const address = this.#options.addressOf(request)
    if (known.code === 'internal') this.#options.log.error({ error, address }, 'agent.accept_failed')
    else this.#options.log.debug({ address, error_code: known.code, hint: known.message }, 'agent.refused')
    refuseUpgrade(
      socket,
      known.status,
      { error_code: known.code, error_message: known.message },
      known.retryAfterSeconds === undefined ? {} : { 'retry-after': String(known.retryAfterSeconds) },
    )
  }
}

function busy(message: string, retryAfterMs: number): ApiError {
  return new ApiError('unavailable', message, { retryAfterSeconds: Math.max(1, Math.ceil(retryAfterMs / 1000)) })
}

function ignore(): void {}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
