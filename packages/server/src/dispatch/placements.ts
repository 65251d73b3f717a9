import { type FreeAgent, planClaims } from '../model/fairness.ts'
import { readWarmth } from '../store/claims.ts'
import { FIRST_FENCE, type NewTask, type Submission, submitTask } from '../store/submissions.ts'
import type { Assigner } from './assigner.ts'
import type { DispatchContext } from './context.ts'

/**
 * Stores runs, and gives each to an agent that is free for it in the same transaction. That is what a claim right after
 * would do: the transaction does it only while nobody of the team waits, and nobody is passed over who came here before.
 */
export class Placements {
  readonly #context: DispatchContext
  readonly #assigner: Assigner
  /** Of each team: runs that no agent is free for and that the store, and so a later transaction, has not seen yet. */
  readonly #unplaced = new Map<string, number>()

  constructor(context: DispatchContext, assigner: Assigner) {
    this.#context = context
    this.#assigner = assigner
  }

  async submit(task: NewTask): Promise<Submission> {
    const { teamId, requirements } = task
    const warmth = await readWarmth(this.#context.store, teamId, requirements.models)
    const agent = this.#unplaced.has(teamId) ? undefined : this.#choose(task, warmth)
    return agent === undefined ? this.#submitUnplaced(task) : this.#submitTo(agent, task)
  }

  #choose(task: NewTask, warmth: (agentId: string, models: readonly string[]) => number): FreeAgent | undefined {
    const { id: taskId, submitterId, priority, requirements } = task
    // Alone in the queue: what is compared between lanes does not matter.
    const lane = {
      priority,
      submitterId,
      requirementKey: '',
      requirements,
      refusedBy: [],
      oldest: { createdAt: 0, taskId },
    }
    const picks = planClaims([lane], this.#context.seats.free(task.teamId), { held: new Map(), warmth, limit: 1 })
    return picks[0]?.agents[0]
  }

  async #submitUnplaced(task: NewTask): Promise<Submission> {
    const { teamId } = task
    this.#unplaced.set(teamId, (this.#unplaced.get(teamId) ?? 0) + 1)
    try {
      return await submitTask(this.#context.store, task)
    } finally {
      const others = (this.#unplaced.get(teamId) ?? 0) - 1
      if (others > 0) this.#unplaced.set(teamId, others)
      else this.#unplaced.delete(teamId)
    }
  }

  async #submitTo(agent: FreeAgent, task: NewTask): Promise<Submission> {
    const { store, seats, gatewayId, limits, run } = this.#context
    const release = seats.promise(task.teamId, [agent])
    try {
      const answer = await submitTask(store, { ...task, placement: { agent, gatewayId, ackMs: limits.ackMs } })
      if (answer.kind === 'accepted' && answer.isPlaced) {
        const claimed = { ...task, taskId: task.id, agentId: agent.agentId, fence: FIRST_FENCE }
        // What is written to a link leaves when the loop turns: waiting for that, it leaves ahead of the caller's answer.
        await new Promise((sent) =>
          run('attempt.not_assigned', () => this.#assigner.assign(claimed).finally(() => setImmediate(sent))),
        )
      }
      return answer
    } finally {
      release()
    }
  }
}
