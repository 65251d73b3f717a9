import type { Log } from '@cyberun/link/log'
import type { Agents } from '../agents/types.ts'
import type { Bus } from '../bus.ts'
import { appendAudit } from '../store/audit.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import type { Store } from '../store/store.ts'
import {
  closeTunnel,
  lastEdgePort,
  listOpenTunnels,
  noteTunnelUse,
  type TunnelRecord,
  type TunnelSecrets,
  type TunnelUse,
  tunnelsInForce,
} from '../store/tunnels.ts'
import type { PortDoors } from './doors/port-doors.ts'
import { OpenTunnel } from './open-tunnel.ts'
import { Sweeps } from './sweeps.ts'
import { auditOf } from './tunnel-audit.ts'
import { openToken, visitSecretOf } from './tunnel-keys.ts'
import { TunnelSet } from './tunnel-set.ts'

export interface LiveTunnelsOptions {
  store: Store
  bus: Bus
  log: Log
  now: () => number
  agents: Pick<Agents, 'holdTunnel'>
  secret: ServerSecret
  portDoors: Pick<PortDoors, 'release' | 'continueAfter'>
}

/** Why the tunnel of a task ended by itself. */
export type TaskCloseCause = 'task_over' | 'tabs_closed'
/** Why a tunnel ended, in log and audit. */
export type CloseCause = 'closed' | 'idle' | 'revoked' | TaskCloseCause

interface Closing {
  tunnel: OpenTunnel
  cause: CloseCause
  actor: string
  at: number
}

/** How often rights and idling are looked at. A revocation also rings at once; this is for the bell that was lost. */
const SWEEP_MS = 1_000
/** How often figures are written down; a crash loses at most what happened since. */
const NOTE_MS = 30_000

/** The life of this server's open tunnels: loaded, held, written down, and ended with the rights behind them. */
export class LiveTunnels {
  readonly open = new TunnelSet()
  readonly #options: LiveTunnelsOptions
  readonly #visitKey: Buffer
  /** What keeps an agent from taking tasks while a session is open, by session. */
  readonly #holds = new Map<string, () => void>()
  /** Ended, but the store could not be told yet. */
  readonly #unwritten = new Set<Closing>()
  readonly #releases: (() => void)[] = []
  readonly #sweeps = new Sweeps(() => this.#sweep())
  #notedAt: number

  private constructor(options: LiveTunnelsOptions) {
    this.#options = options
    this.#visitKey = options.secret.deriveKey('visit-cookie')
    this.#notedAt = options.now()
  }

  /** Loads the tunnels that were open when the server stopped: they go on, at the same addresses. */
  static async start(options: LiveTunnelsOptions): Promise<LiveTunnels> {
    const live = new LiveTunnels(options)
    for (const record of await listOpenTunnels(options.store)) live.#restore(record)
    options.portDoors.continueAfter(await lastEdgePort(options.store))
    live.#listen()
    return live
  }

  /** Takes up a tunnel that is stored. */
  add(record: TunnelRecord, token: string): OpenTunnel {
    const { sessionId, teamId, agentId } = record
    const visitSecret = visitSecretOf(this.#visitKey, sessionId, token)
    const tunnel = new OpenTunnel({ ...record, token, visitSecret }, record)
    this.open.add(tunnel)
    // That of a task is no reason to keep the machine from its other slots: it ends with the task.
    if (record.taskId === null) {
      this.#holds.set(sessionId, this.#options.agents.holdTunnel(teamId, agentId, sessionId))
    }
    return tunnel
  }

  /** Puts a tunnel with new secrets in the place of one that is in use, and ends every visit of that. */
  replace(before: OpenTunnel, secrets: TunnelSecrets, token: string, now: number): OpenTunnel {
    const visitSecret = visitSecretOf(this.#visitKey, before.facts.sessionId, token)
    const tunnel = new OpenTunnel(
      { ...before.facts, ...secrets, token, visitSecret },
      { bytesIn: before.bytesIn, bytesOut: before.bytesOut, lastActivityAt: now },
    )
    // Found no more, then ended: nobody gets in between.
    this.open.add(tunnel)
    before.close()
    const { sessionId, teamId, agentId } = tunnel.facts
    this.#options.bus.publish('tunnel.revoked', { sessionId, teamId, agentId })
    return tunnel
  }

  /** Ends every visit and writes the last figures down; the tunnels stay open in the store. */
  async stop(): Promise<void> {
    for (const release of this.#releases.splice(0)) release()
    await this.#sweeps.underWay
    const open = this.open.all()
    for (const tunnel of open) tunnel.close()
    for (const release of this.#holds.values()) release()
    await this.#noteUse(open, this.#options.now())
    this.open.clear()
    this.#holds.clear()
  }

  /** Ends a tunnel; harmless for one that has ended. Resolves when that is written down. */
  async close(tunnel: OpenTunnel, cause: CloseCause, actor: string): Promise<void> {
    const { sessionId } = tunnel.facts
    // Out of reach first, then ended, then written down: no visitor gets in between.
    if (!this.open.remove(tunnel)) return
    tunnel.close()
    this.#holds.get(sessionId)?.()
    this.#holds.delete(sessionId)
    if (tunnel.facts.edgePort !== null) this.#options.portDoors.release(tunnel.facts.edgePort)
    const closing = { tunnel, cause, actor, at: this.#options.now() }
    this.#unwritten.add(closing)
    await this.#writeClosed(closing)
  }

  #restore(record: TunnelRecord): void {
    const token = openToken(this.#options.secret, record.sessionId, record.tokenSealed)
    // With another secret file its address cannot be shown, nor its cookie checked: it has to be opened again.
    if (token === undefined) this.#options.log.warn({ session_id: record.sessionId }, 'tunnel.unreadable')
    else this.add(record, token)
  }

  #listen(): void {
    const { bus } = this.#options
    const ring = (): void => void this.sweepNow()
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
  sweepNow(): Promise<void> {
    return this.#sweeps.ask()
  }

  async #sweep(): Promise<void> {
    try {
      await this.#endWhatIsOver()
    } catch (error) {
      this.#options.log.warn({ error }, 'tunnel.sweep_failed')
    }
  }

  async #endWhatIsOver(): Promise<void> {
    const now = this.#options.now()
    // Taken before the store is asked: a tunnel opened meanwhile is not among the answers.
    const open = this.open.all()
    for (const closing of [...this.#unwritten]) await this.#writeClosed(closing)
    if (open.length === 0) return
    const inForce = await tunnelsInForce(this.#options.store, now)
    for (const tunnel of open) {
      if (!inForce.has(tunnel.facts.sessionId)) await this.close(tunnel, 'revoked', 'server')
      else if (now > tunnel.expiresAt(now)) await this.close(tunnel, 'idle', 'server')
    }
    if (now - this.#notedAt < NOTE_MS) return
    this.#notedAt = now
    await this.#noteUse(
      this.open.all().filter((tunnel) => tunnel.seenAt(now) > now - NOTE_MS),
      now,
    )
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
    bus.publish('tunnel.closed', { sessionId, teamId, agentId })
  }

  async #noteUse(tunnels: readonly OpenTunnel[], now: number): Promise<void> {
    for (const tunnel of tunnels) await noteTunnelUse(this.#options.store, useOf(tunnel, now))
  }
}

function useOf(tunnel: OpenTunnel, now: number): TunnelUse {
  const { facts, activity, bytesIn, bytesOut } = tunnel
  return { sessionId: facts.sessionId, lastActivityAt: activity.lastUsedAt(now), bytesIn, bytesOut }
}
