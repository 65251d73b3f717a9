import { type AgentTaskLine, type AttemptOutcome, type DeclineReason, unreachable } from '@cyberun/protocol'

/** How an attempt is over, as far as this server is concerned. */
export type AttemptEnd =
  /** What its agent said last is stored. */
  | { kind: 'settled'; completed: boolean; outcome: AttemptOutcome }
  | { kind: 'declined'; reason: DeclineReason }
  /** The agent ended a run that was cancelled. */
  | { kind: 'cancelled' }
  /** It was somebody else's already, and the agent was told. */
  | { kind: 'late' }
  /** The agent let go of its stream before it accepted. */
  | { kind: 'refused' }
  /** The agent broke the protocol. */
  | { kind: 'faulty'; message: string }
  /** Another stream of the same attempt took over, or this server lets go of it. */
  | { kind: 'dropped' }

/** An end in the words of the log and the metrics. Messages of tools are for the task's owner: of those only the code. */
export function describeEnd(end: AttemptEnd): { end: string; error_code?: string; hint?: string } {
  switch (end.kind) {
    case 'settled':
      if (end.outcome.kind === 'failed') return { end: 'failed', error_code: end.outcome.code }
      return { end: end.completed ? 'completed' : 'cancelled' }
    case 'declined':
      return { end: end.kind, hint: end.reason }
    case 'faulty':
      return { end: end.kind, hint: end.message }
    case 'cancelled':
    case 'late':
    case 'refused':
    case 'dropped':
      return { end: end.kind }
    default:
      return unreachable(end)
  }
}

/** Where an attempt stands between this server and its agent. */
export type AttemptState =
  /** Sent; the agent has not said whether it takes it. */
  | { kind: 'assigned' }
  | { kind: 'running' }
  /** The agent's last word is being stored. */
  | { kind: 'finishing' }
  /** Readers see the task cancelled; the agent winds the run down, and nothing of it is stored any more. */
  | { kind: 'cancelled'; since: number }
  /** Its stream is gone: the agent may attach it on another one until its lease is over. */
  | { kind: 'adrift' }
  | { kind: 'over' }

/** The state in which a line may come; the others never may on a stream that carries an attempt already. */
export const PLACE_OF = {
  accepted: 'assigned',
  declined: 'assigned',
  event: 'running',
  progress: 'running',
  preview: 'running',
  finished: 'running',
  cancelling: undefined,
  attach: undefined,
} as const satisfies Record<AgentTaskLine['type'], AttemptState['kind'] | undefined>
