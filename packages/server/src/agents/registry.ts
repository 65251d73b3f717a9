import type { AgentView } from '@cyberun/api'
import type { Link } from '@cyberun/link'
import type { AgentsLimits } from './limits.ts'
import type { AgentConnection, AgentTasks, Presence } from './types.ts'
import { agentView } from './view.ts'

export type AttachOutcome =
  | { kind: 'attached'; former: AgentConnection | undefined }
  /** The agent has a newer connection already. */
  | { kind: 'outrun' }
  /** Another machine holds the id. */
  | { kind: 'taken' }

interface Listed {
  connection: AgentConnection
  state: ListedState
}

type ListedState = { kind: 'linked' } | { kind: 'between'; forget: NodeJS.Timeout }
const LINKED: ListedState = { kind: 'linked' }

type Waiter = (link: Link | undefined) => void

/** Who is connected here, by team and name. The collections are the truth; counts are read from them. */
export class AgentRegistry {
  readonly #teams = new Map<string, Map<string, Listed>>()
  readonly #waiters = new Map<string, Set<Waiter>>()
  /** Ids of the open tunnel sessions, by team and agent. Every run that is submitted asks it of all free agents. */
  readonly #tunnels = new Map<string, Map<string, Set<string>>>()
  readonly #gatewayId: string
  readonly #limits: AgentsLimits
  readonly #now: () => number
  readonly #startedAt: number
  #tasks: AgentTasks | undefined

  constructor(gatewayId: string, limits: AgentsLimits, now: () => number) {
    this.#gatewayId = gatewayId
    this.#limits = limits
    this.#now = now
    this.#startedAt = now()
  }

  /** Who knows what agents are doing. */
  serveTasks(tasks: AgentTasks): void {
    this.#tasks = tasks
  }

  /** Lists a connection in place of the agent's former one; or says why not, and changes nothing. */
  attach(connection: AgentConnection): AttachOutcome {
    const { teamId, record, link } = connection
    const agentId = record.hello.agent_id
    const team = this.#teams.get(teamId) ?? new Map<string, Listed>()
    const listed = team.get(agentId)
    // Two claims can cross between store and here: the later generation wins, but never over another machine's link.
    if (listed && listed.connection.generation > connection.generation) return { kind: 'outrun' }
    if (listed && listed.connection.machineKey !== connection.machineKey) return { kind: 'taken' }
    if (listed?.state.kind === 'between') clearTimeout(listed.state.forget)
    team.set(agentId, { connection, state: LINKED })
    this.#teams.set(teamId, team)
    this.#wake(teamId, agentId, link)
    return { kind: 'attached', former: listed?.state.kind === 'linked' ? listed.connection : undefined }
  }

  /** The connection's link is over. Its agent stays listed for the resume window unless `forgetNow`. */
  detach(connection: AgentConnection, forgetNow: boolean): void {
    const listed = this.#find(connection.teamId, connection.record.hello.agent_id)
    if (listed?.connection !== connection) return
    if (listed.state.kind === 'between') clearTimeout(listed.state.forget)
    if (forgetNow) this.#forget(connection)
    else {
      const forget = setTimeout(() => this.#forget(connection), this.#limits.resumeWindowMs)
      listed.state = { kind: 'between', forget }
    }
  }

  /** The machine that holds an agent id now, or held it less than the resume window ago. */
  machineOf(teamId: string, agentId: string): string | undefined {
    return this.#find(teamId, agentId)?.connection.machineKey
  }

  presence(teamId: string, agentId: string): Presence {
    const listed = this.#find(teamId, agentId)
    if (listed) return listed.state.kind
    return this.#now() - this.#startedAt < this.#limits.resumeWindowMs ? 'between' : 'absent'
  }

  linkOf(teamId: string, agentId: string): Link | undefined {
    const listed = this.#find(teamId, agentId)
    return listed?.state.kind === 'linked' ? listed.connection.link : undefined
  }

  nextLink(teamId: string, agentId: string, signal: AbortSignal): Promise<Link | undefined> {
    const key = keyOf(teamId, agentId)
    const waiters = this.#waiters.get(key) ?? new Set()
    const full = waiters.size >= this.#limits.waitersPerAgent || this.#waiterCount() >= this.#limits.waiters
    if (full || signal.aborted || this.presence(teamId, agentId) === 'absent') return Promise.resolve(undefined)
    return new Promise((resolve) => {
      const waiter: Waiter = (link) => {
        signal.removeEventListener('abort', giveUp)
        waiters.delete(waiter)
        if (waiters.size === 0) this.#waiters.delete(key)
        resolve(link)
      }
      const giveUp = (): void => waiter(undefined)
      signal.addEventListener('abort', giveUp, { once: true })
      waiters.add(waiter)
      this.#waiters.set(key, waiters)
    })
  }

  list(teamId: string): AgentView[] {
    return [...(this.#teams.get(teamId)?.values() ?? [])]
      .map((listed) => this.#view(listed))
      .sort((a, b) => (a.agent_id < b.agent_id ? -1 : 1))
  }

  withTerminals(teamId?: string): { teamId: string; agentId: string }[] {
    const teams = teamId === undefined ? [...this.#teams.values()] : [this.#teams.get(teamId)]
    return teams
      .flatMap((team) => [...(team?.values() ?? [])])
      .filter(({ connection }) => connection.record.hello.terminal)
      .map(({ connection }) => ({ teamId: connection.teamId, agentId: connection.record.hello.agent_id }))
  }

  get(teamId: string, agentId: string): AgentView | undefined {
    const listed = this.#find(teamId, agentId)
    return listed && this.#view(listed)
  }

  holdTunnel(teamId: string, agentId: string, sessionId: string): () => void {
    const team = this.#tunnels.get(teamId) ?? new Map<string, Set<string>>()
    const sessions = team.get(agentId) ?? new Set()
    const isFirst = sessions.size === 0
    sessions.add(sessionId)
    team.set(agentId, sessions)
    this.#tunnels.set(teamId, team)
    if (isFirst) this.#tasks?.tunnelChanged(teamId, agentId)
    return () => {
      sessions.delete(sessionId)
      if (sessions.size > 0 || team.get(agentId) !== sessions) return
      team.delete(agentId)
      if (team.size === 0) this.#tunnels.delete(teamId)
      this.#tasks?.tunnelChanged(teamId, agentId)
    }
  }

  hasTunnel(teamId: string, agentId: string): boolean {
    return this.#tunnels.get(teamId)?.has(agentId) ?? false
  }

  /** How many agents are listed without a link. */
  get between(): number {
    let count = 0
    for (const team of this.#teams.values()) {
      for (const { state } of team.values()) if (state.kind === 'between') count++
    }
    return count
  }

  /** Forgets everyone and lets nobody wait. */
  clear(): void {
    for (const team of [...this.#teams.values()]) {
      for (const { connection } of [...team.values()]) this.detach(connection, true)
    }
    for (const waiters of [...this.#waiters.values()]) for (const waiter of [...waiters]) waiter(undefined)
  }

  #view({ connection, state }: Listed): AgentView {
    const { teamId, record, link } = connection
    const { agent_id: agentId } = record.hello
    return agentView(record, {
      gatewayId: this.#gatewayId,
      tunnelOpen: this.hasTunnel(teamId, agentId),
      stalled: this.#tasks?.isStalled(teamId, agentId) ?? false,
      tasks: this.#tasks?.tasksOf(teamId, agentId) ?? [],
      roundTripMs: state.kind === 'linked' ? link.roundTripMs : undefined,
    })
  }

  #find(teamId: string, agentId: string): Listed | undefined {
    return this.#teams.get(teamId)?.get(agentId)
  }

  #forget(connection: AgentConnection): void {
    const agentId = connection.record.hello.agent_id
    const team = this.#teams.get(connection.teamId)
    if (team?.get(agentId)?.connection !== connection) return
    team.delete(agentId)
    if (team.size === 0) this.#teams.delete(connection.teamId)
    this.#wake(connection.teamId, agentId, undefined)
  }

  #wake(teamId: string, agentId: string, link: Link | undefined): void {
    for (const waiter of [...(this.#waiters.get(keyOf(teamId, agentId)) ?? [])]) waiter(link)
  }

  #waiterCount(): number {
    let count = 0
    for (const waiters of this.#waiters.values()) count += waiters.size
    return count
  }
}

/** Neither part can hold a space. */
function keyOf(teamId: string, agentId: string): string {
  return `${teamId} ${agentId}`
}
