import { LinkClosedError, StreamResetError } from '@cyberun/protocol'
import { declineAttempt } from '../store/attempts.ts'
import type { ClaimedTask } from '../store/claims.ts'
import { type AgentSeat, attemptKey } from './agent-seat.ts'
import { Assignments, NotRunnable } from './assignments.ts'
import { AttemptStream } from './attempt-stream.ts'
import type { DispatchContext } from './context.ts'
import { giveUp } from './give-up.ts'

/** Hands claimed tasks to their agents. */
export class Assigner {
  readonly #context: DispatchContext
  readonly #assignments: Assignments

  constructor(context: DispatchContext) {
    this.#context = context
    this.#assignments = new Assignments(context.store, context.limits)
  }

  /** Occupies a slot of the agent from now on. Rejects when the database fails: the deadline to accept then ends it. */
  async assign(task: ClaimedTask): Promise<void> {
    const { bus, seats } = this.#context
    const seat = seats.take(task.teamId, task.agentId)
    const sent = seat.reserve(attemptKey(task))
    bus.publish('task.changed', { taskId: task.taskId })
    try {
      this.#send(seat, task, await this.#assignments.write(task))
    } catch (error) {
      if (!(error instanceof NotRunnable)) throw error
      await declineAttempt(this.#context.store, task, { reason: 'invalid', message: error.message })
      bus.publish('task.changed', { taskId: task.taskId })
    } finally {
      sent()
      seats.leave(seat)
    }
  }

  #send(seat: AgentSeat, task: ClaimedTask, line: Uint8Array): void {
    const { host, seats, log } = this.#context
    const { taskId, agentId, fence, teamId } = task
    const attempt = { taskId, agentId, fence, teamId }
    // Opened while the task was being claimed: whoever opened it may count on a machine that takes nothing new.
    if (seats.hasTunnel(seat)) {
      giveUp(this.#context, attempt, { cause: 'not_sent', message: `a tunnel to ${agentId} was opened` })
      return
    }
    const stream = openStream(seat)
    if (!stream) {
      giveUp(this.#context, attempt, { cause: 'not_sent', message: `${agentId} was out of reach` })
      return
    }
    const assigned = new AttemptStream(host, { attempt, stream, acknowledged: undefined })
    seats.hold(seat, assigned)
    assigned.assign(line)
    log.info({ task_id: taskId, team_id: teamId, agent_id: agentId, fence }, 'attempt.assigned')
  }
}

/** Undefined when the agent's link takes none. */
function openStream(seat: AgentSeat) {
  try {
    return seat.connection?.link.open({ target: { kind: 'task' }, priority: 'control' })
  } catch (error) {
    if (error instanceof LinkClosedError || error instanceof StreamResetError) return undefined
    throw error
  }
}
