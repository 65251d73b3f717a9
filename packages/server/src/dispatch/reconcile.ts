import type { AgentConnection } from '../agents/types.ts'
import type { Attempt } from '../model/attempt.ts'
import { heldAttempts } from '../store/attempts.ts'
import type { Sql } from '../store/handle.ts'
import { sharedRead } from '../store/shared-read.ts'
import type { Store } from '../store/store.ts'
import { type AgentSeat, attemptKey } from './agent-seat.ts'
import type { AttemptStream } from './attempt-stream.ts'

/** Thousands of agents of a team may come back at once, after a restart of the server: they share what is read. */
const heldInTeam = sharedRead((sql: Sql, teamId: string) => heldAttempts(sql, { teamId }))

/**
 * The attempts that an agent had accepted and came back without: it was started anew. One that it has not accepted is left
 * to its deadline, as it may never have arrived.
 */
export async function lostAttempts(store: Store, seat: AgentSeat, agent: AgentConnection): Promise<Attempt[]> {
  const { running_tasks: running } = agent.record.hello
  const named = new Set(running.map(({ task_id: taskId, fence }) => attemptKey({ taskId, fence })))
  const held = await heldInTeam(store, seat.teamId)
  return held.filter((attempt) => {
    const key = attemptKey(attempt)
    return (
      attempt.agentId === seat.agentId &&
      attempt.status === 'running' &&
      !named.has(key) &&
      !mayBeNewer(seat.attempts.get(key), agent)
    )
  })
}

/** The hello was written before the agent accepted it. */
function mayBeNewer(attempt: AttemptStream | undefined, { dialledAt }: AgentConnection): boolean {
  return attempt !== undefined && (attempt.acceptedAt === undefined || attempt.acceptedAt >= dialledAt)
}
