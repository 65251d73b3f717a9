import type { FreeAgent } from '../model/fairness.ts'
import type { AgentSituation } from '../model/waiting-reason.ts'
import { AgentSeat, attemptKey } from './agent-seat.ts'
import type { AttemptStream } from './attempt-stream.ts'

/** Every agent that is linked here or has an attempt here, by team and name; and every attempt, by its name. */
export class Seats {
  readonly #teams = new Map<string, Map<string, AgentSeat>>()
  readonly #attempts = new Map<string, AttemptStream>()
  readonly #now: () => number
  readonly #times: { stallMs: number; pauseMs: number }
  readonly #hasTunnel: (teamId: string, agentId: string) => boolean

  constructor(
    now: () => number,
    times: { stallMs: number; pauseMs: number },
    hasTunnel: (teamId: string, agentId: string) => boolean,
  ) {
    this.#now = now
    this.#times = times
    this.#hasTunnel = hasTunnel
  }

  find(teamId: string, agentId: string): AgentSeat | undefined {
    return this.#teams.get(teamId)?.get(agentId)
  }

  /** The agent's seat, made when there is none. */
  take(teamId: string, agentId: string): AgentSeat {
    const team = this.#teams.get(teamId) ?? new Map<string, AgentSeat>()
    const seat = team.get(agentId) ?? new AgentSeat(teamId, agentId)
    team.set(agentId, seat)
    this.#teams.set(teamId, team)
    return seat
  }

  /** Forgets the seat if nobody would miss it. */
  leave(seat: AgentSeat): void {
    const team = this.#teams.get(seat.teamId)
    if (!seat.isEmpty || team?.get(seat.agentId) !== seat) return
    team.delete(seat.agentId)
    if (team.size === 0) this.#teams.delete(seat.teamId)
  }

  attempt(name: { taskId: string; fence: number }): AttemptStream | undefined {
    return this.#attempts.get(attemptKey(name))
  }

  /** Its agent has this attempt now. The returned function takes that back. */
  hold(seat: AgentSeat, attempt: AttemptStream): void {
    const key = attemptKey(attempt.attempt)
    seat.attempts.set(key, attempt)
    this.#attempts.set(key, attempt)
  }

  /** The attempt is over here, unless another stream has taken its place. */
  release(attempt: AttemptStream): AgentSeat | undefined {
    const key = attemptKey(attempt.attempt)
    const seat = this.find(attempt.attempt.teamId, attempt.attempt.agentId)
    if (this.#attempts.get(key) === attempt) this.#attempts.delete(key)
    if (seat?.attempts.get(key) === attempt) seat.attempts.delete(key)
    return seat
  }

  free(teamId: string): FreeAgent[] {
    const now = this.#now()
    const free: FreeAgent[] = []
    for (const seat of this.#teams.get(teamId)?.values() ?? []) {
      const agent = seat.free(now)
      if (agent && !this.hasTunnel(seat)) free.push(agent)
    }
    return free
  }

  /** A claim is about to fill so many slots of these. The returned function takes that back. */
  promise(teamId: string, agents: readonly FreeAgent[]): () => void {
    const seats = agents.map(({ agentId }) => this.take(teamId, agentId))
    for (const seat of seats) seat.promisedSlots += 1
    return () => {
      for (const seat of seats) {
        seat.promisedSlots -= 1
        this.leave(seat)
      }
    }
  }

  /** Those about which there is something to ask the store. */
  get behind(): AgentSeat[] {
    return [...this.#teams.values()].flatMap((team) => [...team.values()].filter(({ isBehind }) => isBehind))
  }

  situations(teamId: string): AgentSituation[] {
    const now = this.#now()
    return [...(this.#teams.get(teamId)?.values() ?? [])].flatMap(
      (seat) => seat.situation(now, this.hasTunnel(seat)) ?? [],
    )
  }

  /** Somebody has a tunnel to it: it takes nothing new. */
  hasTunnel({ teamId, agentId }: AgentSeat): boolean {
    return this.#hasTunnel(teamId, agentId)
  }

  /** The agent does not do what it is given: nothing more for a while. */
  stall(teamId: string, agentId: string): void {
    const seat = this.find(teamId, agentId)
    if (seat) seat.stalledUntil = this.#now() + this.#times.stallMs
  }

  /** The agent cannot take what it is given now: nothing more until it says that things have changed, or for a while. */
  pause(teamId: string, agentId: string): void {
    const seat = this.find(teamId, agentId)
    if (seat) seat.pausedUntil = this.#now() + this.#times.pauseMs
  }

  isStalled(teamId: string, agentId: string): boolean {
    return this.#now() < (this.find(teamId, agentId)?.stalledUntil ?? 0)
  }

  get attempts(): Iterable<AttemptStream> {
    return this.#attempts.values()
  }

  get attemptCount(): number {
    return this.#attempts.size
  }
}
