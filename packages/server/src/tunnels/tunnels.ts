import type { ExtendedTunnel, ExtendTunnelBody, OpenedTunnel, OpenTunnelBody, TunnelListAnswer } from '@cyberun/api'
import { ApiError } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import { hashSecret } from '../identity/secrets.ts'
import type { Attempt } from '../model/attempt.ts'
import type { Routing } from '../routing/routing.ts'
import { agentExists } from '../store/agents.ts'
import { appendAudit } from '../store/audit.ts'
import { noteExposed } from '../store/exposures.ts'
import { extendTunnel, insertTunnel, replaceTunnelSecrets, type TunnelRecord } from '../store/tunnels.ts'
import type { TunnelIndex } from './doors/door-search.ts'
import type { EdgeAddress } from './doors/path-pages.ts'
import type { PortDoors } from './doors/port-doors.ts'
import { LiveTunnels, type LiveTunnelsOptions, type TaskCloseCause } from './live-tunnels.ts'
import type { OpenTunnel } from './open-tunnel.ts'
import { checkService } from './service-check.ts'
import { actorOf, auditOf, type TunnelCaller } from './tunnel-audit.ts'
import { newTunnelKeys, secretsOf } from './tunnel-keys.ts'
import type { TunnelSet } from './tunnel-set.ts'
import { openedView, tunnelUrl, tunnelView } from './tunnel-view.ts'

export interface TunnelsOptions extends LiveTunnelsOptions {
  agents: LiveTunnelsOptions['agents'] & {
    /** Anything for an agent that is listed now. */
    get(teamId: string, agentId: string): unknown
  }
  routing: Routing
  /** Asked for when a tunnel's URL is shown. */
  edge: () => EdgeAddress
  portDoors: LiveTunnelsOptions['portDoors'] & Pick<PortDoors, 'take'>
}

/** Open tunnels to one agent; each is a row, a token and a mark on the agent. */
const MAX_PER_AGENT = 100

/** An open tunnel, as whoever holds its admin token may know it. */
export interface AdminTunnel {
  sessionId: string
  teamId: string
  agentId: string
  openedByUserId: string
  /** Tells that somebody is at work there by other ways than a visit. */
  noteInput(now: number): void
  /** Aborts when the tunnel ends, and when its admin token does. */
  closed: AbortSignal
}

/** The tunnels of this server: opened and closed by the API, found by the edge, ended when a right behind them ends. */
export class Tunnels implements TunnelIndex {
  readonly #options: TunnelsOptions
  readonly #live: LiveTunnels
  readonly #open: TunnelSet
  /** By agent; those that are being opened count for its limit. */
  readonly #opening = new Set<{ teamId: string; agentId: string }>()

  private constructor(options: TunnelsOptions, live: LiveTunnels) {
    this.#options = options
    this.#live = live
    this.#open = live.open
  }

  /** Loads the tunnels that were open when the server stopped: they go on, at the same addresses. */
  static async start(options: TunnelsOptions): Promise<Tunnels> {
    return new Tunnels(options, await LiveTunnels.start(options))
  }

  byToken(token: string): OpenTunnel | undefined {
    return this.#open.byToken(token)
  }

  byLabel(label: string): OpenTunnel | undefined {
    return this.#open.byLabel(label)
  }

  byEdgePort(port: number): OpenTunnel | undefined {
    return this.#open.byEdgePort(port)
  }

  edgePorts(): number[] {
    return this.#open.edgePorts()
  }

  /** The tunnel whose admin token has this SHA-256, hex. */
  findByAdminToken(tokenHash: string): AdminTunnel | undefined {
    const tunnel = this.#open.byAdminTokenHash(tokenHash)
    if (!tunnel) return undefined
    const { sessionId, teamId, agentId, openedByUserId } = tunnel.facts
    const noteInput = (now: number): void => tunnel.activity.use(now)
    return { sessionId, teamId, agentId, openedByUserId, noteInput, closed: tunnel.closed }
  }

  /** Throws `not_found` for a session that is closed, of another agent or of another team. */
  find(teamId: string, agentId: string, sessionId: string): OpenTunnel {
    const tunnel = this.#open.bySession(sessionId)
    if (tunnel?.facts.teamId === teamId && tunnel.facts.agentId === agentId) return tunnel
    throw new ApiError('not_found', 'There is no such tunnel: it may have been closed already.')
  }

  /** The tunnels that lead to services of runs. */
  ofTasks(): OpenTunnel[] {
    return this.#open.all().filter(({ facts }) => facts.taskId !== null)
  }

  /** Where the service of a task's run is reached, while it has a tunnel. */
  urlOfTask(taskId: string): string | undefined {
    const tunnel = this.ofTasks().find(({ facts }) => facts.taskId === taskId)
    return tunnel && tunnelUrl(tunnel.facts, this.#options.edge())
  }

  /** Ends the tunnel of a task. Harmless for one that has ended. */
  endOfTask(tunnel: OpenTunnel, cause: TaskCloseCause): Promise<void> {
    return this.#live.close(tunnel, cause, 'server')
  }

  get openCount(): number {
    return this.#open.size
  }

  /**
   * Opens a tunnel after asking the agent whether something listens on the port. Throws as the API's port says. `task`: the
   * attempt whose service it leads to, at most once; `conflict` when that is over or had its tunnel.
   */
  async open(
    caller: TunnelCaller,
    teamId: string,
    agentId: string,
    request: OpenTunnelBody,
    signal: AbortSignal,
    task?: Pick<Attempt, 'taskId' | 'fence'>,
  ): Promise<OpenedTunnel> {
    const { agents, routing, store, secret, portDoors, edge, now, log } = this.#options
    const path = agents.get(teamId, agentId) === undefined ? undefined : routing.pathTo(teamId, agentId)
    if (!path) {
      await this.#requireAgent(teamId, agentId)
      throw new ApiError(
        'agent_offline',
        'The agent is not connected: start it on its machine, then open the tunnel again.',
      )
    }
    using place = this.#takePlace(teamId, agentId)
    const keys = newTunnelKeys()
    const { warnings, ...service } = await checkService(path, request, `/tunnel/${keys.token}`, signal)

    const sessionId = uuidv7()
    const at = now()
    const edgePort = request.tunnel_protocol === 'http' ? ((await portDoors.take()) ?? null) : null
    const record: TunnelRecord = {
      sessionId,
      teamId,
      agentId,
      targetPort: request.target_port,
      protocol: request.tunnel_protocol,
      ...secretsOf(secret, sessionId, keys),
      openedByUserId: caller.userId,
      openedByCredentialId: caller.credentialId ?? null,
      openedByFamilyId: caller.familyId ?? null,
      taskId: task?.taskId ?? null,
      openedAt: at,
      lastActivityAt: at,
      idleTimeoutMs: request.idle_timeout_s * 1000,
      bytesIn: 0,
      bytesOut: 0,
      ...service,
      pathMode: request.path_mode,
      edgePort,
    }
    try {
      await store.transaction(async (sql) => {
        if (task && !(await noteExposed(sql, task))) throw new ApiError('conflict', 'the run is over')
        await insertTunnel(sql, record)
        const about = { agent_id: agentId, target_port: record.targetPort, tunnel_protocol: record.protocol }
        const detail = task ? { ...about, task_id: task.taskId } : about
        await appendAudit(sql, auditOf(record, at, actorOf(caller), 'tunnel.opened', detail))
      })
    } catch (error) {
      if (edgePort !== null) portDoors.release(edgePort)
      throw error
    }
    const tunnel = this.#live.add(record, keys.token)
    place[Symbol.dispose]()
    // A right that ended since the caller was let in is noticed here, not by the first visitor.
    await this.#live.sweepNow()
    if (this.#open.bySession(sessionId) !== tunnel) {
      throw new ApiError('forbidden', 'The key, sign-in or role that was to open this tunnel has just been withdrawn.')
    }
    log.info(
      { session_id: sessionId, team_id: teamId, agent_id: agentId, target_port: record.targetPort },
      'tunnel.opened',
    )
    const answer = openedView(tunnel, keys.adminToken, edge(), now(), warnings)
    for (const warning of answer.warning_list) log.warn({ session_id: sessionId, warning }, 'tunnel.warning')
    return answer
  }

  /** Throws `not_found` for an agent the team never had. */
  async list(teamId: string, agentId: string): Promise<TunnelListAnswer> {
    await this.#requireAgent(teamId, agentId)
    const open = this.#open.ofAgent(teamId, agentId)
    const newest = open.at(-1)
    const edge = this.#options.edge()
    const now = this.#options.now()
    return {
      is_active: newest !== undefined,
      session_id: newest?.facts.sessionId ?? '',
      tunnel_url: newest ? tunnelUrl(newest.facts, edge) : '',
      session_list: open.reverse().map((tunnel) => tunnelView(tunnel, edge, now)),
    }
  }

  /** Closes one tunnel of an agent, or all when none is named. Throws `not_found` for an unknown or foreign one. */
  async close(caller: TunnelCaller, teamId: string, agentId: string, sessionId?: string): Promise<void> {
    await this.#requireAgent(teamId, agentId)
    const chosen =
      sessionId === undefined ? this.#open.ofAgent(teamId, agentId) : [this.find(teamId, agentId, sessionId)]
    // All at once: none of them is revoked, and so another one, before its turn has come.
    await Promise.all(chosen.map((tunnel) => this.#live.close(tunnel, 'closed', actorOf(caller))))
  }

  /** Changes how long a tunnel may go unused, and with `extend` counts that from now. Throws `not_found`. */
  async extend(
    caller: TunnelCaller,
    teamId: string,
    agentId: string,
    sessionId: string,
    { idle_timeout_s, extend }: ExtendTunnelBody,
  ): Promise<ExtendedTunnel> {
    await this.#requireAgent(teamId, agentId)
    const { store, log, now } = this.#options
    const tunnel = this.find(teamId, agentId, sessionId)
    const at = now()
    const idleTimeoutMs = idle_timeout_s === undefined ? tunnel.facts.idleTimeoutMs : idle_timeout_s * 1000
    const lastActivityAt = extend ? at : tunnel.activity.lastUsedAt(at)
    const isOpen = await store.transaction(async (sql) => {
      if (!(await extendTunnel(sql, sessionId, { lastActivityAt, idleTimeoutMs }))) return false
      const detail = { agent_id: agentId, idle_timeout_s: idleTimeoutMs / 1000, extend: extend === true }
      await appendAudit(sql, auditOf(tunnel.facts, at, actorOf(caller), 'tunnel.extended', detail))
      return true
    })
    // Of a tunnel that was revoked meanwhile, what took its place.
    const current = isOpen ? this.find(teamId, agentId, sessionId) : tunnel
    if (!isOpen) throw new ApiError('not_found', 'There is no such tunnel: it may have been closed already.')
    current.facts.idleTimeoutMs = idleTimeoutMs
    if (extend) current.activity.use(at)
    log.info(
      { session_id: sessionId, team_id: teamId, agent_id: agentId, idle_timeout_ms: idleTimeoutMs },
      'tunnel.extended',
    )
    return {
      id: sessionId,
      idle_timeout_s: idleTimeoutMs / 1000,
      expires_at: new Date(current.expiresAt(now())).toISOString(),
    }
  }

  /**
   * Gives a tunnel a new token, cookie, host name and admin token, and ends every visit made with the old ones. Throws
   * `not_found`, and `conflict` when somebody else revokes it at the same time.
   */
  async revoke(caller: TunnelCaller, teamId: string, agentId: string, sessionId: string): Promise<OpenedTunnel> {
    await this.#requireAgent(teamId, agentId)
    const { store, secret, log, now } = this.#options
    const { facts } = this.find(teamId, agentId, sessionId)
    const keys = newTunnelKeys()
    const secrets = secretsOf(secret, sessionId, keys)
    const at = now()
    const isReplaced = await store.transaction(async (sql) => {
      if (!(await replaceTunnelSecrets(sql, sessionId, hashSecret(facts.token), secrets))) return false
      await appendAudit(sql, auditOf(facts, at, actorOf(caller), 'tunnel.revoked', { agent_id: agentId }))
      return true
    })
    const before = this.find(teamId, agentId, sessionId)
    if (!isReplaced) throw new ApiError('conflict', 'The tunnel has just been revoked by another call.')
    const tunnel = this.#live.replace(before, secrets, keys.token, at)
    log.info({ session_id: sessionId, team_id: teamId, agent_id: agentId }, 'tunnel.revoked')
    return openedView(tunnel, keys.adminToken, this.#options.edge(), now())
  }

  /** Ends every visit and writes the last figures down; the tunnels stay open in the store. */
  stop(): Promise<void> {
    return this.#live.stop()
  }

  /** For a tunnel that is about to be opened. Throws `conflict` when the agent has too many. */
  #takePlace(teamId: string, agentId: string): Disposable {
    const opening = [...this.#opening].filter((each) => each.teamId === teamId && each.agentId === agentId)
    if (this.#open.ofAgent(teamId, agentId).length + opening.length >= MAX_PER_AGENT) {
      throw new ApiError('conflict', `The agent has ${MAX_PER_AGENT} open tunnels: close one first.`)
    }
    const place = { teamId, agentId }
    this.#opening.add(place)
    return { [Symbol.dispose]: () => void this.#opening.delete(place) }
  }

  async #requireAgent(teamId: string, agentId: string): Promise<void> {
    if (this.#options.agents.get(teamId, agentId) !== undefined) return
    if (await agentExists(this.#options.store, teamId, agentId)) return
    throw new ApiError(
      'not_found',
      'There is no such agent in this team; "cyberun agents" lists them, as does GET /agents.',
    )
  }
}
