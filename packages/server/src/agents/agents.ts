import { randomBytes } from 'node:crypto'
import { ApiError } from '@cyberun/api'
import { acceptLink, type Greeting, type Link, type LinkStream, type PumpSocket, refuseUpgrade } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { type CloseReason, type Hello, type StreamHandler, unreachable } from '@cyberun/protocol'
import type { Bus } from '../bus.ts'
import type { Identity } from '../identity/identity.ts'
import { noteAgentHeard } from '../store/agents.ts'
import type { Store } from '../store/store.ts'
import { Tally } from '../tally.ts'
import type { Asked } from '../visitor-address.ts'
import { AcceptRate } from './accept-rate.ts'
import { type AgentCaller, admitAgent } from './admission.ts'
import { AgentStreams, type StreamsHost } from './agent-streams.ts'
import { agentIdTaken, CLOSING } from './closing.ts'
import { createKeyWatch, type KeyWatch } from './key-watch.ts'
import { AGENTS_LIMITS, type AgentsLimits } from './limits.ts'
import { AgentRegistry } from './registry.ts'
import { isProbe, type Seat, seatAgent, welcomeFrom } from './seat.ts'
import type { AgentConnection, AgentCounts, AgentRequest, Agents, AgentTasks } from './types.ts'

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
  addressOf(request: Asked): string
  gatewayId: string
  limits?: Partial<AgentsLimits>
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
  /** One for all links, which each keep it. */
  readonly #welcome: Greeting
  readonly #streamsHost: StreamsHost
  readonly #links = new Map<Link, AgentConnection>()
  readonly #probes = new Set<Link>()
  readonly #closed = new Tally()
  /** Notes being written to the store: `stop` waits for them. */
  readonly #notes = new Set<Promise<void>>()
  #stopping = false
  #tasks: AgentTasks | undefined

  constructor(options: AgentsOptions) {
    this.#options = options
    this.#limits = { ...AGENTS_LIMITS, ...options.limits }
    this.#registry = new AgentRegistry(options.gatewayId, this.#limits, options.now)
    this.#acceptRate = new AcceptRate(this.#limits, options.now())
    this.#welcome = welcomeFrom(options.gatewayId)
    this.#streamsHost = {
      limits: this.#limits,
      now: options.now,
      reported: (agent, what) => this.#tasks?.reported(agent, what),
      serveTaskStream: (stream, agent) => this.#serveTaskStream(stream, agent),
    }
    this.#keys = createKeyWatch({
      ...options,
      sweepMs: this.#limits.credentialSweepMs,
      credentialsInUse: () => new Set([...this.#links.values()].map(({ credentialId }) => credentialId)),
      onCredentialEnded: (ended) => this.#end(({ credentialId }) => credentialId === ended, CLOSING.revoked),
      onTeamEnded: (ended) => this.#end(({ teamId }) => teamId === ended, CLOSING.teamDeleted),
    })
  }

  presence: Agents['presence'] = (teamId, agentId) => this.#registry.presence(teamId, agentId)
  linkOf: Agents['linkOf'] = (teamId, agentId) => this.#registry.linkOf(teamId, agentId)
  nextLink: Agents['nextLink'] = (teamId, agentId, signal) => this.#registry.nextLink(teamId, agentId, signal)
  list: Agents['list'] = (teamId) => this.#registry.list(teamId)
  get: Agents['get'] = (teamId, agentId) => this.#registry.get(teamId, agentId)
  withTerminals: Agents['withTerminals'] = (teamId) => this.#registry.withTerminals(teamId)
  hasTunnel: Agents['hasTunnel'] = (teamId, agentId) => this.#registry.hasTunnel(teamId, agentId)
  holdTunnel: Agents['holdTunnel'] = (teamId, agentId, sessionId) =>
    this.#registry.holdTunnel(teamId, agentId, sessionId)

  serveTasks(tasks: AgentTasks): void {
    this.#tasks = tasks
    this.#registry.serveTasks(tasks)
  }

  get counts(): AgentCounts {
    let streams = 0
    let queuedBytes = 0
    for (const { stats } of this.#links.keys()) {
      streams += stats.streams
      queuedBytes += stats.queuedBytes
    }
    return { linked: this.#links.size, between: this.#registry.between, streams, queuedBytes, closed: this.#closed }
  }

  handleUpgrade(request: AgentRequest, socket: PumpSocket): void {
    this.#admit(request)
      .then(
        (caller) => this.#accept(caller, request, socket),
        (error: unknown) => this.#refuse(request, socket, error),
      )
      .catch((error: unknown) => this.#options.log.debug({ error }, 'agent.handshake_failed'))
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#stopping = true
    this.#keys.stop()
    const closed = Promise.all([...this.#links.keys(), ...this.#probes].map((link) => link.closed))
    for (const link of [...this.#probes]) link.close(CLOSING.stopping)
    for (const link of [...this.#links.keys()]) {
      link.goAway(CLOSING.stopping.message, this.#limits.stopDrainMs, this.#returnMs())
    }
    await Promise.race([closed, aborted(signal)])
    for (const link of [...this.#links.keys()]) link.close({ ...CLOSING.stopping, retryAfterMs: this.#returnMs() })
    await closed
    this.#registry.clear()
    await Promise.allSettled(this.#notes)
  }

  async #admit(request: AgentRequest): Promise<AgentCaller> {
    if (this.#stopping) throw busy('This server is stopping; it will be back.', this.#limits.stopRetrySpreadMs)
    if (this.#links.size >= this.#limits.links) {
      throw busy('This server holds as many agents as it can.', this.#limits.longestRetryAfterMs)
    }
    const caller = await admitAgent(request, this.#options.addressOf(request), this.#options.identity)
    // After the key was checked: strangers must not use up the places of those who have one.
    const retryAfterMs = this.#acceptRate.take(this.#options.now())
    if (retryAfterMs !== undefined) throw busy('Many agents are connecting; wait for your turn.', retryAfterMs)
    return caller
  }

  async #accept(caller: AgentCaller, request: AgentRequest, socket: PumpSocket): Promise<void> {
    const dialledAt = this.#options.now()
    const challenge = randomBytes(32).toString('base64url')
    const streams = new AgentStreams(this.#streamsHost)
    let seat: Seat | undefined
    const link = await acceptLink({
      request,
      socket,
      challenge,
      welcome: async (hello) => {
        const outcome = isProbe(hello) ? this.#admitProbe() : await this.#seatFor(caller, hello, challenge)
        if (outcome && 'code' in outcome) return outcome
        seat = outcome
        return this.#welcome
      },
      onStream: serveIn(streams),
      log: this.#options.log,
    })
    streams.on(link)
    if (seat) this.#seat({ ...seat, dialledAt, link, isDraining: false }, streams)
    else this.#probe(link, caller)
  }

  /** Undefined: a link that only measures may stay. */
  #admitProbe(): CloseReason | undefined {
    return this.#probes.size >= this.#limits.probes ? CLOSING.tooManyProbes : undefined
  }

  /** Takes an agent's place for it, or says why it may not stay. Never rejects. */
  async #seatFor(caller: AgentCaller, hello: Hello, challenge: string): Promise<Seat | CloseReason> {
    const { log } = this.#options
    try {
      const outcome = await seatAgent(caller, hello, challenge, {
        ...this.#options,
        resumeWindowMs: this.#limits.resumeWindowMs,
        machineOf: (teamId, agentId) => this.#registry.machineOf(teamId, agentId),
      })
      if ('code' in outcome) {
        log.info({ team_id: caller.teamId, reason: outcome.code, hint: outcome.message }, 'agent.refused')
      }
      return outcome
    } catch (error) {
      log.error({ error, team_id: caller.teamId }, 'agent.accept_failed')
      return CLOSING.trouble
    }
  }

  /** Lists an agent whose link is made, unless something came in between. */
  #seat(connection: AgentConnection, streams: AgentStreams): void {
    const { teamId, credentialId, link, record } = connection
    if (this.#stopping || this.#keys.endedLately(teamId, credentialId)) {
      link.close(this.#stopping ? CLOSING.stopping : CLOSING.revoked)
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
        streams.seated(connection)
        this.#tasks?.linked(connection)
        return
      default:
        unreachable(outcome)
    }
  }

  /** Keeps the link until it closes. The former link of the same machine ends, unless it only finishes what it carries. */
  #hold(connection: AgentConnection, former: AgentConnection | undefined): void {
    const { teamId, link, record } = connection
    this.#links.set(link, connection)
    if (former && !former.isDraining) former.link.close(CLOSING.evicted)
    this.#options.log.info(
      {
        team_id: teamId,
        agent_id: record.hello.agent_id,
        agent_version: record.hello.agent_version,
        generation: connection.generation,
      },
      'agent.connected',
    )
    void link.goingAway.then((going) => this.#leaving(connection, going))
  }

  #serveTaskStream(stream: LinkStream, connection: AgentConnection): void {
    if (this.#tasks) this.#tasks.serveStream(stream, connection)
    else stream.reset('unsupported')
  }

  #leaving(connection: AgentConnection, going: CloseReason): void {
    connection.isDraining = true
    this.#tasks?.unlinked(connection, going)
    void connection.link.closed.then((reason) => this.#unseat(connection, reason))
  }

  #unseat(connection: AgentConnection, reason: CloseReason): void {
    const { teamId, generation, link, record } = connection
    this.#links.delete(link)
    this.#closed.add(reason.code)
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
    // Others may have been let in since the hello was read.
    const full = this.#admitProbe()
    if (full) {
      link.close(full)
      return
    }
    this.#probes.add(link)
    const over = setTimeout(() => link.close(CLOSING.probeOver), this.#limits.probeMs)
    void link.closed.then(() => {
      clearTimeout(over)
      this.#probes.delete(link)
    })
  }

  /** When an agent should be back after this server's restart: not all at the same moment. */
  #returnMs(): number {
    return Math.round(this.#options.random() * this.#limits.stopRetrySpreadMs)
  }

  #end(whose: (connection: AgentConnection) => boolean, reason: CloseReason): void {
    for (const connection of [...this.#links.values()]) if (whose(connection)) connection.link.close(reason)
  }

  #note(writing: Promise<void>): void {
    const noted = writing.catch((error: unknown) => this.#options.log.warn({ error }, 'agent.note_failed'))
    this.#notes.add(noted)
    void noted.finally(() => this.#notes.delete(noted))
  }

  #refuse(request: AgentRequest, socket: PumpSocket, error: unknown): void {
    const known =
      error instanceof ApiError ? error : new ApiError('internal', 'This is a fault of the server; see its log.')
    const fields = { address: this.#options.addressOf(request), error_code: known.code, hint: known.message }
    if (known.code === 'internal') this.#options.log.error({ ...fields, error }, 'agent.accept_failed')
    // One wrong key is worth a line; identity answers the many that follow with `rate_limited`.
    else if (known.code === 'unauthenticated') this.#options.log.info(fields, 'agent.refused')
    else this.#options.log.debug(fields, 'agent.refused')
    refuseUpgrade(
      socket,
      known.status,
      { error_code: known.code, error_message: known.message },
      known.retryAfterSeconds === undefined ? {} : { 'retry-after': String(known.retryAfterSeconds) },
    )
  }
}

/** A function of its own, so that what a link keeps of its acceptance is nothing of the request. */
function serveIn(streams: AgentStreams): StreamHandler {
  return (stream) => {
    streams.serve(stream)
    return undefined
  }
}

function busy(message: string, retryAfterMs: number): ApiError {
  return new ApiError('unavailable', message, { retryAfterSeconds: Math.max(1, Math.ceil(retryAfterMs / 1000)) })
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
