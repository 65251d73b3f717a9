import type { DeclineReason, TaskFault } from '@cyberun/protocol'

/** What becomes of a task whose attempt did not complete. */
export type Aftermath =
  /** Another attempt, which counts. */
  | 'retry'
  /** Another attempt, which does not count: the run never began. */
  | 'give_back'
  /** As `give_back`, and not to this agent until what it offers changes. */
  | 'refuse'
  | 'fail'

/** A run that failed: a client's mistake would fail again anywhere; what is missing here may be there elsewhere. */
export function afterFault(fault: TaskFault, task: { retryCount: number; maxRetries: number }): Aftermath {
  switch (fault) {
    case 'client':
      return 'fail'
    case 'missing':
      return 'refuse'
    default:
      return task.retryCount < task.maxRetries ? 'retry' : 'fail'
  }
}

/** An agent that did not take its assignment. What it cannot do it will not be asked again; what it cannot do now, it may. */
export const AFTER_DECLINE = {
  missing_model: 'refuse',
  missing_node: 'refuse',
  not_allowed: 'refuse',
  tool_unhealthy: 'give_back',
  no_slot: 'give_back',
  invalid: 'fail',
} as const satisfies Record<DeclineReason, Aftermath>
