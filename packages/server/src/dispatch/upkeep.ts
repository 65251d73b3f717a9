import { waitingReason } from '../model/waiting-reason.ts'
import { renewLeases, sweepExpired } from '../store/attempts.ts'
import { noteWaiting, teamsWithWaitingTasks } from '../store/waiting.ts'
import { attemptKey } from './agent-seat.ts'
import type { AttemptStream } from './attempt-stream.ts'
import type { DispatchContext } from './context.ts'

/** What dispatch does by the clock. */

/** Renews the leases of all attempts whose agents are linked here, and tells them. One that is not renewed is late. */
export async function renewHeld(context: DispatchContext): Promise<void> {
  const { seats, limits } = context
  const leased = [...seats.attempts].filter((attempt) => attempt.isLeased)
  for (let from = 0; from < leased.length; from += limits.renewAtOnce) {
    await renewSome(context, leased.slice(from, from + limits.renewAtOnce))
  }
}

async function renewSome({ store, gatewayId, now }: DispatchContext, held: readonly AttemptStream[]): Promise<void> {
  const asked = held.map((attempt) => ({ attempt, state: attempt.state }))
  const before = now()
  const renewed = await renewLeases(
    store,
    gatewayId,
    held.map(({ attempt }) => attempt),
  )
  const tookMs = now() - before
  const leases = new Map(renewed.map((lease) => [attemptKey(lease), lease.remainingMs]))
  for (const { attempt, state } of asked) {
    const remainingMs = leases.get(attemptKey(attempt.attempt))
    if (remainingMs !== undefined) attempt.lease(Math.max(0, remainingMs - tookMs))
    // One that has just been finishing is rightly nobody's any more.
    else if (state === 'running' && attempt.state === 'running') attempt.late()
  }
}

/** Ends what has taken too long, and finds the tasks whose doorbell was lost. */
export async function sweep(context: DispatchContext): Promise<void> {
  const { store, bus, log, limits, seats, over } = context
  endOverdueCancels(context)
  for (const { ended, status } of await sweepExpired(store, limits.expireAtOnce)) {
    const { taskId, teamId, agentId, fence } = ended
    log.info({ task_id: taskId, team_id: teamId, agent_id: agentId, fence, status }, 'attempt.expired')
    over.add('expired')
    bus.publish('task.changed', { taskId })
    const attempt = seats.attempt(ended)
    if (attempt?.state === 'assigned') seats.stall(teamId, agentId)
    attempt?.late()
    context.wake(teamId)
  }
  for (const teamId of await teamsWithWaitingTasks(store)) {
    context.wake(teamId)
    await sayWhyTheyWait(context, teamId)
  }
}

async function sayWhyTheyWait({ store, bus, limits, seats }: DispatchContext, teamId: string): Promise<void> {
  const order = { teamId, olderThanMs: limits.pendingMs, limit: limits.waitingAtOnce }
  const changed = await noteWaiting(store, order, (facts) => waitingReason(facts, seats.situations(teamId)))
  for (const taskId of changed) bus.publish('task.changed', { taskId })
}

function endOverdueCancels({ now, limits, log, seats }: DispatchContext): void {
  for (const attempt of [...seats.attempts]) {
    const { cancelledAt } = attempt
    if (cancelledAt === undefined || now() - cancelledAt < limits.cancelMs) continue
    const { taskId, teamId, agentId } = attempt.attempt
    log.warn({ task_id: taskId, agent_id: agentId, hint: 'the agent does not end a cancelled run' }, 'attempt.stubborn')
    seats.stall(teamId, agentId)
    attempt.late()
  }
}
