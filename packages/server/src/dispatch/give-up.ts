import type { Attempt } from '../model/attempt.ts'
import type { ReleaseCause } from '../model/task-change.ts'
import { releaseAttempt } from '../store/attempts.ts'
import type { DispatchContext } from './context.ts'

/**
 * Ends an attempt on this server's account: the task goes back to those that wait, or has failed, and the agent, if it can
 * be told, is late. When the database does not take it, the attempt's lease ends it.
 */
export function giveUp(
  context: Omit<DispatchContext, 'host'>,
  attempt: Attempt,
  why: { cause: ReleaseCause; message: string },
): void {
  const { store, bus, log, seats } = context
  context.run('attempt.not_released', async () => {
    const answer = await releaseAttempt(store, attempt, why)
    const { taskId, teamId, agentId, fence } = attempt
    const ids = { task_id: taskId, team_id: teamId, agent_id: agentId, fence }
    log.info({ ...ids, cause: why.cause, reason: why.message, outcome: answer.kind }, 'attempt.released')
    seats.attempt(attempt)?.late()
    if (answer.kind === 'stored') bus.publish('task.changed', { taskId })
    context.wake(teamId)
  })
}
