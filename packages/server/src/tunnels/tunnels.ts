import { createHmac, hash, randomBytes } from 'node:crypto'
import type { ExtendedTunnel, ExtendTunnelBody, OpenedTunnel, OpenTunnelBody, TunnelListAnswer } from '@cyberun/api'
import { ApiError } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import type { Agents } from '../agents/types.ts'
import type { Bus } from '../bus.ts'
import type { Attempt } from '../model/attempt.ts'
import type { Routing } from '../routing/routing.ts'
import { agentExists } from '../store/agents.ts'
import { appendAudit } from '../store/audit.ts'
import { noteExposed } from '../store/exposures.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import type { Store } from '../store/store.ts'
import {
  closeTunnel,
  extendTunnel,
  insertTunnel,
  lastEdgePort,
  listOpenTunnels,
  noteTunnelUse,
  replaceTunnelSecrets,
  type TunnelRecord,
  type TunnelSecrets,
  type TunnelUse,
  tunnelsInForce,
} from '../store/tunnels.ts'
import type { TunnelIndex } from './door-search.ts'
import { OpenTunnel } from './open-tunnel.ts'
import type { EdgeAddress } from './path-pages.ts'
import type { PortDoors } from './port-doors.ts'
import { checkService } from './service-check.ts'
import { TunnelSet } from './tunnel-set.ts'
import { openedView, tunnelUrl, tunnelView } from './tunnel-view.ts'

export interface TunnelsOptions {
  store: Store
  bus: Bus
  log: Log
  now: () => number
  agents: {
    /** Anything for an agent that is listed now. */
    get(teamId: string, agentId: string): unknown
  } & Pick<Agents, 'holdTunnel'>
  routing: Routing
  secret: ServerSecret
  /** Asked for when a tunnel's URL is shown. */
  edge: () => EdgeAddress
  portDoors: Pick<PortDoors, 'take' | 'release' | 'continueAfter'>
}

/** Who opens or closes. */
export interface TunnelCaller {
  userId: string
  credentialId?: string
  familyId?: string
}

/** Why a tunnel ended, in log and audit. */
type CloseCause = 'closed' | 'idle' | 'revoked' | TaskCloseCause
/** Why the tunnel of a task ended by itself. */
type TaskCloseCause = 'task_over' | 'tabs_closed'

interface Closing {
  tunnel: OpenTunnel
  cause: CloseCause
  actor: string
  at: number
}

/** Open tunnels to one agent; each is a row, a token and a mark on the agent. */
const MAX_PER_AGENT = 100
/** How often rights and idling are looked at. A revocation also rings at once; this is for the bell that was lost. */
const SWEEP_MS = 1_000
/** How often figures are written down; a crash loses at most what happened since. */
const NOTE_MS = 30_000
const TOKEN_BYTES = 32
/** A DNS label has at most 63 characters. */
const LABEL_BYTES = 16

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

/** What a tunnel is reached with; fresh at its opening and at each revocation. */
interface TunnelKeys {
  token: string
  adminToken: string
  label: string
}

/** The tunnels of this server: opened and closed by the API, found by the edge, ended when a right behind them ends. */
export class Tunnels implements TunnelIndex {
  readonly #options: TunnelsOptions
  readonly #visitKey: Buffer
  readonly #open = new TunnelSet()
  /** What keeps an agent from taking tasks while a session is open, by session. */
  readonly #holds = new Map<string, () => void>()
  /** Ended, but the store could not be told yet. */
  readonly #unwritten = new Set<Closing>()
  readonly #releases: (() => void)[] = []
  #sweeping: Promise<void> | undefined
  #sweepAgain = false
  #notedAt: number

  private constructor(options: TunnelsOptions) {
    this.#options = options
    this.#visitKey = options.secret.deriveKey('visit-cookie')
    this.#notedAt = options.now()
  }

  /** Loads the tunnels that were open when the server stopped: they go on, at the same addresses. */
  static async start(options: TunnelsOptions): Promise<Tunnels> {
    const tunnels = new Tunnels(options)
    for (const record of await listOpenTunnels(options.store)) tunnels.#restore(record)
    options.portDoors.continueAfter(await lastEdgePort(options.store))
    tunnels.#listen()
    return tunnels
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
    return this.#close(tunnel, cause, 'server')
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
    if (this.#open.ofAgent(teamId, agentId).length >= MAX_PER_AGENT) {
      throw new ApiError('conflict', `The agent has ${MAX_PER_AGENT} open tunnels: close one first.`)
    }
    const keys = newKeys()
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
    const tunnel = this.#add(record, keys.token)
    // A right that ended since the caller was let in is noticed here, not by the first visitor.
    await this.#sweepNow()
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
    for (const tunnel of chosen) await this.#close(tunnel, 'closed', actorOf(caller))
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
    const keys = newKeys()
    const secrets = secretsOf(secret, sessionId, keys)
    const at = now()
    const isReplaced = await store.transaction(async (sql) => {
      if (!(await replaceTunnelSecrets(sql, sessionId, hashOf(facts.token), secrets))) return false
      await appendAudit(sql, auditOf(facts, at, actorOf(caller), 'tunnel.revoked', { agent_id: agentId }))
      return true
    })
    const before = this.find(teamId, agentId, sessionId)
    if (!isReplaced) throw new ApiError('conflict', 'The tunnel has just been revoked by another call.')
    const tunnel = new OpenTunnel(
      { ...before.facts, ...secrets, token: keys.token, visitSecret: this.#visitSecret(sessionId, keys.token) },
      { bytesIn: before.bytesIn, bytesOut: before.bytesOut, lastActivityAt: at },
    )
    // Found no more, then ended: nobody gets in between.
    this.#open.add(tunnel)
    before.close()
    log.info({ session_id: sessionId, team_id: teamId, agent_id: agentId }, 'tunnel.revoked')
    return openedView(tunnel, keys.adminToken, this.#options.edge(), now())
  }

  /** Ends every visit and writes the last figures down; the tunnels stay open in the store. */
  async stop(): Promise<void> {
    for (const release of this.#releases.splice(0)) release()
    await this.#sweeping
    const open = this.#open.all()
    for (const tunnel of open) tunnel.close()
    for (const release of this.#holds.values()) release()
    await this.#noteUse(open, this.#options.now())
    this.#open.clear()
    this.#holds.clear()
  }

  async #requireAgent(teamId: string, agentId: string): Promise<void> {
    if (this.#options.agents.get(teamId, agentId) !== undefined) return
    if (await agentExists(this.#options.store, teamId, agentId)) return
    throw new ApiError('not_found', 'There is no such agent in this team.')
  }

  /** What the visit cookie holds: whoever has it knows the token, and cannot tell it. */
  #visitSecret(sessionId: string, token: string): string {
    return createHmac('sha256', this.#visitKey).update(sessionId).update(token).digest('base64url')
  }

  #add(record: TunnelRecord, token: string): OpenTunnel {
    const { sessionId, teamId, agentId } = record
    const tunnel = new OpenTunnel({ ...record, token, visitSecret: this.#visitSecret(sessionId, token) }, record)
    this.#open.add(tunnel)
    // That of a task is no reason to keep the machine from its other slots: it ends with the task.
    if (record.taskId === null) {
      this.#holds.set(sessionId, this.#options.agents.holdTunnel(teamId, agentId, sessionId))
    }
    return tunnel
  }

  #restore(record: TunnelRecord): void {
    const token = this.#options.secret.open('tunnel-token', record.sessionId, record.tokenSealed)
    // With another secret file its address cannot be shown, nor its cookie checked: it has to be opened again.
    if (token === undefined) this.#options.log.warn({ session_id: record.sessionId }, 'tunnel.unreadable')
    else this.#add(record, token)
  }

  #listen(): void {
    const { bus } = this.#options
    const ring = (): void => void this.#sweepNow()
    const timer = setInterval(ring, SWEEP_MS)
    timer.unref()
    this.#releases.push(
      () => clearInterval(timer),
      bus.subscribe('credential.revoked', ring),
      bus.subscribe('session.revoked', ring),
      bus.subscribe('member.removed', ring),
      bus.subscribe('team.deleted', ring),
      bus.subscribe('tunnel.closed', ring),
    )
  }

  /** Looks once, at a time after this call. Never rejects: what fails now is looked at again a second later. */
  #sweepNow(): Promise<void> {
    this.#sweepAgain = true
    this.#sweeping ??= this.#sweepWhileRung().finally(() => {
      this.#sweeping = undefined
    })
    return this.#sweeping
  }

  async #sweepWhileRung(): Promise<void> {
    while (this.#sweepAgain) {
      this.#sweepAgain = false
      try {
        await this.#sweep()
      } catch (error) {
        this.#options.log.warn({ error }, 'tunnel.sweep_failed')
      }
    }
  }

  async #sweep(): Promise<void> {
    const now = this.#options.now()
    // Taken before the store is asked: a tunnel opened meanwhile is not among the answers.
    const open = this.#open.all()
    for (const closing of [...this.#unwritten]) await this.#writeClosed(closing)
    if (open.length === 0) return
    const inForce = await tunnelsInForce(this.#options.store, now)
    for (const tunnel of open) {
      if (!inForce.has(tunnel.facts.sessionId)) await this.#close(tunnel, 'revoked', 'server')
      else if (now > tunnel.expiresAt(now)) await this.#close(tunnel, 'idle', 'server')
    }
    if (now - this.#notedAt < NOTE_MS) return
    this.#notedAt = now
    await this.#noteUse(
      this.#open.all().filter((tunnel) => tunnel.seenAt(now) > now - NOTE_MS),
      now,
    )
  }

  async #close(tunnel: OpenTunnel, cause: CloseCause, actor: string): Promise<void> {
    const { sessionId } = tunnel.facts
    // Out of reach first, then ended, then written down: no visitor gets in between.
    if (!this.#open.remove(tunnel)) return
    tunnel.close()
    this.#holds.get(sessionId)?.()
    this.#holds.delete(sessionId)
    if (tunnel.facts.edgePort !== null) this.#options.portDoors.release(tunnel.facts.edgePort)
    const closing = { tunnel, cause, actor, at: this.#options.now() }
    this.#unwritten.add(closing)
    await this.#writeClosed(closing)
  }

  async #writeClosed(closing: Closing): Promise<void> {
    const { tunnel, cause, actor, at } = closing
    const { sessionId, teamId, agentId } = tunnel.facts
    const { store, log, bus } = this.#options
    await store.transaction(async (sql) => {
      if (!(await closeTunnel(sql, useOf(tunnel, at), at))) return
      await appendAudit(sql, auditOf(tunnel.facts, at, actor, 'tunnel.closed', { agent_id: agentId, cause }))
    })
    if (!this.#unwritten.delete(closing)) return
    log.info({ session_id: sessionId, team_id: teamId, agent_id: agentId, cause }, 'tunnel.closed')
    bus.publish('tunnel.closed', { sessionId })
  }

  async #noteUse(tunnels: readonly OpenTunnel[], now: number): Promise<void> {
    for (const tunnel of tunnels) await noteTunnelUse(this.#options.store, useOf(tunnel, now))
  }
}

function hashOf(secret: string): string {
  return hash('sha256', secret, 'hex')
}

function newKeys(): TunnelKeys {
  return {
    token: randomBytes(TOKEN_BYTES).toString('base64url'),
    adminToken: randomBytes(TOKEN_BYTES).toString('base64url'),
    label: randomBytes(LABEL_BYTES).toString('hex'),
  }
}

/** What of the keys is stored. */
function secretsOf(secret: ServerSecret, sessionId: string, { token, adminToken, label }: TunnelKeys): TunnelSecrets {
  return {
    tokenHash: hashOf(token),
    tokenSealed: secret.seal('tunnel-token', sessionId, token),
    adminTokenHash: hashOf(adminToken),
    label,
  }
}

function useOf(tunnel: OpenTunnel, now: number): TunnelUse {
  const { facts, activity, bytesIn, bytesOut } = tunnel
  return { sessionId: facts.sessionId, lastActivityAt: activity.lastUsedAt(now), bytesIn, bytesOut }
}

/** Who did something, as audit records name them. */
export function actorOf(caller: TunnelCaller): string {
  return caller.credentialId === undefined ? `user:${caller.userId}` : `credential:${caller.credentialId}`
}

function auditOf(
  { sessionId, teamId }: { sessionId: string; teamId: string },
  at: number,
  actor: string,
  action: string,
  detail: Record<string, string | number | boolean>,
) {
  return { id: uuidv7(), teamId, at, actor, action, subject: sessionId, detail }
}
