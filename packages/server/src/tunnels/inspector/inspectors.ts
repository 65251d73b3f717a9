import {
  ApiError,
  type InspectedDetail,
  type InspectorAnswer,
  type InspectorBody,
  type InspectorQuery,
  type InspectorState,
  type ReplayAnswer,
} from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import type { Agents } from '../../agents/types.ts'
import type { Routing } from '../../routing/routing.ts'
import { appendAudit } from '../../store/audit.ts'
import type { Store } from '../../store/store.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import { actorOf, type TunnelCaller } from '../tunnel-audit.ts'
import type { Tunnels } from '../tunnels.ts'
import { INSPECTOR_LIMITS, Inspector, type InspectorClock } from './inspector.ts'
import { replay } from './inspector-replay.ts'
import { inspectedDetail, inspectedView } from './inspector-views.ts'

/** Inspectors that are on at the same time, each of up to `INSPECTOR_LIMITS.bytes`. */
export const INSPECTORS_LIMITS = { team: 8, server: 32, replaysAtOnce: 4 } as const

export interface InspectorsOptions {
  store: Store
  log: Log
  clock: InspectorClock
  agents: Pick<Agents, 'linkOf'>
  routing: Routing
  tunnels: Pick<Tunnels, 'find'>
  /** The tunnel's address with its token. */
  tunnelUrl(tunnel: OpenTunnel): string
}

/** Names one tunnel, as a call does. */
export interface TunnelName {
  teamId: string
  agentId: string
  sessionId: string
}

const OFF: InspectorState = { is_enabled: false, is_body_kept: false, last_number: 0 }

/** Turns the inspectors of tunnels on and off, and shows what they keep. */
export class Inspectors {
  readonly #options: InspectorsOptions
  /** Tunnels whose inspector is on, or is being turned on, and what forgets to turn it off with its tunnel. */
  readonly #inspected = new Map<OpenTunnel, () => void>()
  readonly #replaying = new Map<OpenTunnel, number>()

  constructor(options: InspectorsOptions) {
    this.#options = options
  }

  /**
   * Turns it on or off, and leaves a record of that. What was kept stays only when nothing changes. Throws `not_found`,
   * and `conflict` when too many are on.
   */
  async set(caller: TunnelCaller, name: TunnelName, wanted: InspectorBody): Promise<InspectorState> {
    const tunnel = this.#find(name)
    const now = tunnel.inspector
    if (wanted.is_enabled ? now?.settings.isBodyKept === wanted.is_body_kept : !now) return stateOf(tunnel)
    if (wanted.is_enabled && !now) this.#takeRoom(tunnel)
    try {
      await this.#audit(caller, tunnel, 'tunnel.inspector_set', { ...wanted })
    } catch (error) {
      if (!tunnel.inspector) this.#turnOff(tunnel)
      throw error
    }
    // Not before the record is written; the tunnel may have been closed meanwhile.
    if (wanted.is_enabled && !tunnel.closed.aborted) this.#turnOn(tunnel, wanted.is_body_kept)
    else this.#turnOff(tunnel)
    return stateOf(tunnel)
  }

  /** Throws `not_found` for an unknown tunnel; a tunnel that is not inspected has no entries. */
  list(name: TunnelName, { after, limit }: InspectorQuery): InspectorAnswer {
    const tunnel = this.#find(name)
    return { ...stateOf(tunnel), entry_list: tunnel.inspector?.list(after, limit).map(inspectedView) ?? [] }
  }

  /** Throws `not_found`, also for a request that is forgotten. */
  show(name: TunnelName, number: number): InspectedDetail {
    const { tunnel, entry } = this.#entry(name, number)
    return inspectedDetail(entry, this.#options.tunnelUrl(tunnel))
  }

  /** Sends a request again. Throws `not_found`, `conflict`, `unavailable`, and the reason of `signal`. */
  async replay(caller: TunnelCaller, name: TunnelName, number: number, signal: AbortSignal): Promise<ReplayAnswer> {
    const { tunnel, inspector, entry } = this.#entry(name, number)
    const underWay = this.#replaying.get(tunnel) ?? 0
    if (underWay >= INSPECTORS_LIMITS.replaysAtOnce) {
      const message = `${underWay} requests of this tunnel are being sent again: wait for them.`
      throw new ApiError('unavailable', message, { retryAfterSeconds: 1 })
    }
    this.#replaying.set(tunnel, underWay + 1)
    try {
      await this.#audit(caller, tunnel, 'tunnel.replayed', { number, method: entry.request.method })
      const again = await replay(entry, inspector, tunnel, this.#options.routing, signal)
      return { number: again.number, status: again.status ?? null, failure: again.failure ?? null }
    } finally {
      const left = (this.#replaying.get(tunnel) ?? 1) - 1
      if (left === 0) this.#replaying.delete(tunnel)
      else this.#replaying.set(tunnel, left)
    }
  }

  #find({ teamId, agentId, sessionId }: TunnelName): OpenTunnel {
    return this.#options.tunnels.find(teamId, agentId, sessionId)
  }

  #entry(name: TunnelName, number: number) {
    const tunnel = this.#find(name)
    const { inspector } = tunnel
    if (!inspector) {
      throw new ApiError('not_found', 'The inspector of this tunnel is off: turn it on, then repeat the request.')
    }
    const entry = inspector.read(number)
    if (!entry) {
      const message = `Request ${number} is not kept: the newest is ${inspector.lastNumber}, and ${INSPECTOR_LIMITS.entries} are kept at most.`
      throw new ApiError('not_found', message)
    }
    return { tunnel, inspector, entry }
  }

  /** Throws `conflict` when too many are on. Its room is its own from now on, as others ask for theirs meanwhile. */
  #takeRoom(tunnel: OpenTunnel): void {
    if (this.#inspected.has(tunnel)) return
    const { teamId } = tunnel.facts
    const now = this.#options.clock.now()
    for (const other of this.#inspected.keys()) if (other.inspector?.isUnread(now)) this.#turnOff(other)
    const ofTeam = [...this.#inspected.keys()].filter(({ facts }) => facts.teamId === teamId).length
    if (ofTeam >= INSPECTORS_LIMITS.team || this.#inspected.size >= INSPECTORS_LIMITS.server) {
      const whose = ofTeam < INSPECTORS_LIMITS.team ? 'this server' : 'the team'
      throw new ApiError('conflict', `Too many tunnels of ${whose} are being inspected: turn one off first.`)
    }
    this.#note(tunnel)
  }

  #turnOn(tunnel: OpenTunnel, isBodyKept: boolean): void {
    const { clock, agents } = this.#options
    const { teamId, agentId } = tunnel.facts
    this.#note(tunnel)
    tunnel.inspector = new Inspector({
      clock,
      isBodyKept,
      roundTripMs: () => agents.linkOf(teamId, agentId)?.roundTripMs,
      turnOff: () => this.#turnOff(tunnel),
    })
  }

  #note(tunnel: OpenTunnel): void {
    if (!this.#inspected.has(tunnel))
      this.#inspected.set(
        tunnel,
        tunnel.onClose(() => this.#turnOff(tunnel)),
      )
  }

  #turnOff(tunnel: OpenTunnel): void {
    this.#inspected.get(tunnel)?.()
    this.#inspected.delete(tunnel)
    tunnel.inspector = undefined
  }

  async #audit(
    caller: TunnelCaller,
    tunnel: OpenTunnel,
    action: string,
    detail: Record<string, string | number | boolean>,
  ) {
    const { store, clock, log } = this.#options
    const { sessionId, teamId, agentId } = tunnel.facts
    const record = { id: uuidv7(), teamId, at: clock.now(), actor: actorOf(caller), action, subject: sessionId }
    await store.transaction((sql) => appendAudit(sql, { ...record, detail: { agent_id: agentId, ...detail } }))
    log.info({ session_id: sessionId, team_id: teamId, agent_id: agentId, ...detail }, action)
  }
}

function stateOf({ inspector }: OpenTunnel): InspectorState {
  if (!inspector) return OFF
  return { is_enabled: true, is_body_kept: inspector.settings.isBodyKept, last_number: inspector.lastNumber }
}
