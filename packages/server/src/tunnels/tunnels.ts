import { createHmac, hash, randomBytes } from 'node:crypto'
import { ApiError, type OpenedTunnel, type OpenTunnelBody, type TunnelListAnswer, type TunnelView } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import type { Agents } from '../agents/types.ts'
import type { Bus } from '../bus.ts'
import type { Routing } from '../routing/routing.ts'
import { agentExists } from '../store/agents.ts'
import { appendAudit } from '../store/audit.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import type { Store } from '../store/store.ts'
import {
  closeTunnel,
  insertTunnel,
  listOpenTunnels,
  noteTunnelUse,
  type TunnelRecord,
  type TunnelUse,
  tunnelsInForce,
} from '../store/tunnels.ts'
import type { TunnelIndex } from './doors.ts'
import { OpenTunnel, tunnelLabel } from './open-tunnel.ts'
import { probeTarget } from './probe.ts'

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
  /** The edge's public address without a slash at its end; asked for when a tunnel's URL is shown. */
  edgeUrl: () => string
}

/** Who opens or closes. */
export interface TunnelCaller {
  userId: string
  credentialId?: string
  familyId?: string
}

/** Why a tunnel ended, in log and audit. */
type CloseCause = 'closed' | 'idle' | 'revoked'

interface Closing {
  tunnel: OpenTunnel
  cause: CloseCause
  actor: string
  at: number
}

/** A tunnel nobody visits is closed after this long. */
const IDLE_TIMEOUT_MS = 30 * 60_000
/** Open tunnels to one agent; each is a row, a token and a mark on the agent. */
const MAX_PER_AGENT = 100
/** How often rights and idling are looked at. A revocation also rings at once; this is for the bell that was lost. */
const SWEEP_MS = 1_000
/** How often figures are written down; a crash loses at most what happened since. */
const NOTE_MS = 30_000
const TOKEN_BYTES = 32

/** The tunnels of this server: opened and closed by the API, found by the edge, ended when a right behind them ends. */
export class Tunnels implements TunnelIndex {
  readonly #options: TunnelsOptions
  readonly #visitKey: Buffer
  /** Every open tunnel, oldest first. */
  readonly #bySession = new Map<string, OpenTunnel>()
  readonly #byToken = new Map<string, OpenTunnel>()
  readonly #byLabel = new Map<string, OpenTunnel>()
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
    tunnels.#listen()
    return tunnels
  }

  byToken(token: string): OpenTunnel | undefined {
    // A map's own hash is seeded, so how long this takes tells nothing about a token that is nearly right.
    return this.#byToken.get(token)
  }

  byLabel(label: string): OpenTunnel | undefined {
    return this.#byLabel.get(label)
  }

  get openCount(): number {
    return this.#bySession.size
  }

  /** Opens a tunnel after asking the agent whether something listens on the port. Throws as the API's port says. */
  async open(
    caller: TunnelCaller,
    teamId: string,
    agentId: string,
    request: OpenTunnelBody,
    signal: AbortSignal,
  ): Promise<OpenedTunnel> {
    const { agents, routing, store, secret, now, log } = this.#options
    const path = agents.get(teamId, agentId) === undefined ? undefined : routing.pathTo(teamId, agentId)
    if (!path) {
      await this.#requireAgent(teamId, agentId)
      throw new ApiError(
        'agent_offline',
        'The agent is not connected: start it on its machine, then open the tunnel again.',
      )
    }
    if (this.#ofAgent(teamId, agentId).length >= MAX_PER_AGENT) {
      throw new ApiError('conflict', `The agent has ${MAX_PER_AGENT} open tunnels: close one first.`)
    }
    await probeTarget(path, request.target_port, signal)

    const sessionId = uuidv7()
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    const adminToken = randomBytes(TOKEN_BYTES).toString('base64url')
    const at = now()
    const record: TunnelRecord = {
      sessionId,
      teamId,
      agentId,
      targetPort: request.target_port,
      protocol: request.tunnel_protocol,
      tokenHash: hashOf(token),
      tokenSealed: secret.seal('tunnel-token', sessionId, token),
      adminTokenHash: hashOf(adminToken),
      openedByUserId: caller.userId,
      openedByCredentialId: caller.credentialId ?? null,
      openedByFamilyId: caller.familyId ?? null,
      taskId: null,
      openedAt: at,
      lastActivityAt: at,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      bytesIn: 0,
      bytesOut: 0,
    }
    await store.transaction(async (sql) => {
      await insertTunnel(sql, record)
      const detail = { agent_id: agentId, target_port: record.targetPort, tunnel_protocol: record.protocol }
      await appendAudit(sql, auditOf(record, at, actorOf(caller), 'tunnel.opened', detail))
    })
    const tunnel = this.#add(record, token)
    // A right that ended since the caller was let in is noticed here, not by the first visitor.
    await this.#sweepNow()
    if (!this.#bySession.has(sessionId)) {
      throw new ApiError('forbidden', 'The key, sign-in or role that was to open this tunnel has just been withdrawn.')
    }
    log.info(
      { session_id: sessionId, team_id: teamId, agent_id: agentId, target_port: record.targetPort },
      'tunnel.opened',
    )
    return {
      session_id: sessionId,
      tunnel_url: this.#urlOf(tunnel),
      admin_token: adminToken,
      tunnel_protocol: record.protocol,
    }
  }

  /** Throws `not_found` for an agent the team never had. */
  async list(teamId: string, agentId: string): Promise<TunnelListAnswer> {
    await this.#requireAgent(teamId, agentId)
    const open = this.#ofAgent(teamId, agentId)
    const newest = open.at(-1)
    return {
      is_active: newest !== undefined,
      session_id: newest?.facts.sessionId ?? '',
      tunnel_url: newest ? this.#urlOf(newest) : '',
      session_list: open.reverse().map((tunnel) => this.#view(tunnel)),
    }
  }

  /** Closes one tunnel of an agent, or all when none is named. Throws `not_found` for an unknown or foreign one. */
  async close(caller: TunnelCaller, teamId: string, agentId: string, sessionId?: string): Promise<void> {
    await this.#requireAgent(teamId, agentId)
    const open = this.#ofAgent(teamId, agentId)
    const chosen = sessionId === undefined ? open : open.filter((tunnel) => tunnel.facts.sessionId === sessionId)
    if (sessionId !== undefined && chosen.length === 0) {
      throw new ApiError('not_found', 'There is no such tunnel: it may have been closed already.')
    }
    for (const tunnel of chosen) await this.#close(tunnel, 'closed', actorOf(caller))
  }

  /** Ends every visit and writes the last figures down; the tunnels stay open in the store. */
  async stop(): Promise<void> {
    for (const release of this.#releases.splice(0)) release()
    await this.#sweeping
    const open = [...this.#bySession.values()]
    for (const tunnel of open) tunnel.close()
    await this.#noteUse(open)
    this.#bySession.clear()
    this.#byToken.clear()
    this.#byLabel.clear()
  }

  async #requireAgent(teamId: string, agentId: string): Promise<void> {
    if (this.#options.agents.get(teamId, agentId) !== undefined) return
    if (await agentExists(this.#options.store, teamId, agentId)) return
    throw new ApiError('not_found', 'There is no such agent in this team.')
  }

  #ofAgent(teamId: string, agentId: string): OpenTunnel[] {
    const all = [...this.#bySession.values()]
    return all.filter(({ facts }) => facts.teamId === teamId && facts.agentId === agentId)
  }

  #urlOf({ facts }: OpenTunnel): string {
    const base = this.#options.edgeUrl()
    return `${facts.protocol === 'tcp' ? base.replace(/^http/, 'ws') : base}/tunnel/${facts.token}/`
  }

  #view(tunnel: OpenTunnel): TunnelView {
    const { facts } = tunnel
    const now = this.#options.now()
    return {
      session_id: facts.sessionId,
      target_port: facts.targetPort,
      tunnel_protocol: facts.protocol,
      tunnel_url: this.#urlOf(tunnel),
      opened_at: new Date(facts.openedAt).toISOString(),
      opened_by: facts.openedByUserId,
      task_id: facts.taskId,
      viewer_count: tunnel.viewerCount(now),
      bytes_in: tunnel.bytesIn,
      bytes_out: tunnel.bytesOut,
      last_activity_at: new Date(tunnel.activeAt(now)).toISOString(),
    }
  }

  #add(record: TunnelRecord, token: string): OpenTunnel {
    const tunnel = new OpenTunnel(
      {
        sessionId: record.sessionId,
        teamId: record.teamId,
        agentId: record.agentId,
        targetPort: record.targetPort,
        protocol: record.protocol,
        token,
        visitSecret: createHmac('sha256', this.#visitKey).update(record.sessionId).update(token).digest('base64url'),
        openedAt: record.openedAt,
        openedByUserId: record.openedByUserId,
        taskId: record.taskId,
        idleTimeoutMs: record.idleTimeoutMs,
      },
      record,
    )
    this.#bySession.set(record.sessionId, tunnel)
    this.#byToken.set(token, tunnel)
    this.#byLabel.set(tunnelLabel(record.sessionId), tunnel)
    tunnel.onClose(this.#options.agents.holdTunnel(record.teamId, record.agentId, record.sessionId))
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
    const open = [...this.#bySession.values()]
    for (const closing of [...this.#unwritten]) await this.#writeClosed(closing)
    if (open.length === 0) return
    const inForce = await tunnelsInForce(this.#options.store, now)
    for (const tunnel of open) {
      if (!inForce.has(tunnel.facts.sessionId)) await this.#close(tunnel, 'revoked', 'server')
      else if (now - tunnel.activeAt(now) > tunnel.facts.idleTimeoutMs) await this.#close(tunnel, 'idle', 'server')
    }
    if (now - this.#notedAt < NOTE_MS) return
    this.#notedAt = now
    await this.#noteUse([...this.#bySession.values()].filter((tunnel) => tunnel.activeAt(now) > now - NOTE_MS))
  }

  async #close(tunnel: OpenTunnel, cause: CloseCause, actor: string): Promise<void> {
    const { sessionId } = tunnel.facts
    // Out of reach first, then ended, then written down: no visitor gets in between.
    if (!this.#bySession.delete(sessionId)) return
    this.#byToken.delete(tunnel.facts.token)
    this.#byLabel.delete(tunnel.label)
    tunnel.close()
    const closing = { tunnel, cause, actor, at: this.#options.now() }
    this.#unwritten.add(closing)
    await this.#writeClosed(closing)
  }

  async #writeClosed(closing: Closing): Promise<void> {
    const { tunnel, cause, actor, at } = closing
    const { sessionId, teamId, agentId } = tunnel.facts
    const { store, log, bus } = this.#options
    await store.transaction(async (sql) => {
      if (!(await closeTunnel(sql, useOf(tunnel), at))) return
      await appendAudit(sql, auditOf(tunnel.facts, at, actor, 'tunnel.closed', { agent_id: agentId, cause }))
    })
    if (!this.#unwritten.delete(closing)) return
    log.info({ session_id: sessionId, team_id: teamId, agent_id: agentId, cause }, 'tunnel.closed')
    bus.publish('tunnel.closed', { sessionId })
  }

  async #noteUse(tunnels: readonly OpenTunnel[]): Promise<void> {
    for (const tunnel of tunnels) await noteTunnelUse(this.#options.store, useOf(tunnel))
  }
}

function hashOf(secret: string): string {
  return hash('sha256', secret, 'hex')
}

function useOf(tunnel: OpenTunnel): TunnelUse {
  const { facts, lastActivityAt, bytesIn, bytesOut } = tunnel
  return { sessionId: facts.sessionId, lastActivityAt, bytesIn, bytesOut }
}

function actorOf(caller: TunnelCaller): string {
  return caller.credentialId === undefined ? `user:${caller.userId}` : `credential:${caller.credentialId}`
}

function auditOf(
  { sessionId, teamId }: { sessionId: string; teamId: string },
  at: number,
  actor: string,
  action: string,
  detail: Record<string, string | number>,
) {
  return { id: uuidv7(), teamId, at, actor, action, subject: sessionId, detail }
}
