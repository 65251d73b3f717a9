import type { AgentConnection } from '../agents/types.ts'
import { agentsThatDeclined, clearRefusals } from '../store/waiting.ts'
import type { AgentSeat } from './agent-seat.ts'
import type { DispatchContext } from './context.ts'
import { giveUp } from './give-up.ts'
import { lostAttempts } from './reconcile.ts'

/**
 * Asks the store what follows from an agent's coming, and from its offering something new. An agent of which that is not
 * known is given nothing, or not all that it could take, so whatever the store did not answer is asked again.
 */
export class CatchUp {
  readonly #context: Omit<DispatchContext, 'host'>
  readonly #underWay = new Set<AgentSeat>()

  constructor(context: Omit<DispatchContext, 'host'>) {
    this.#context = context
  }

  /** Leaves nothing to ask about the seat. Rejects when the store cannot be read; `all` then tries again. */
  async one(seat: AgentSeat): Promise<void> {
    if (this.#underWay.has(seat)) return
    this.#underWay.add(seat)
    try {
      for (let agent = seat.connection; agent && seat.isBehind; agent = seat.connection) {
        if (seat.isReconciled) await this.#offerAgain(seat)
        else await this.#reconcile(seat, agent)
      }
    } finally {
      this.#underWay.delete(seat)
    }
  }

  /** The same for every seat. */
  async all(): Promise<void> {
    await Promise.all(this.#context.seats.behind.map((seat) => this.one(seat)))
  }

  async #reconcile(seat: AgentSeat, agent: AgentConnection): Promise<void> {
    const { store, limits, wake } = this.#context
    const lost = await lostAttempts(store, seat, agent)
    if (seat.connection !== agent) return
    const message = `${seat.agentId} was started anew and came back without it`
    for (const attempt of lost) giveUp(this.#context, attempt, { cause: 'agent_restarted', message })
    seat.expectFor(limits.expectMs, () => wake(seat.teamId))
    seat.isReconciled = true
  }

  /** What the agent offers has changed: it may be asked for what it declined before. */
  async #offerAgain(seat: AgentSeat): Promise<void> {
    const { store, wake } = this.#context
    const { teamId, agentId } = seat
    seat.offersNews = false
    wake(teamId)
    try {
      if (!(await agentsThatDeclined(store, teamId)).has(agentId)) return
      await clearRefusals(store, teamId, agentId)
    } catch (error) {
      seat.offersNews = true
      throw error
    }
    wake(teamId)
  }
}
