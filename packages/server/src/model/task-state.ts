import type { TaskStatus } from '@cyberun/api'

/**
 * What can happen to a task:
 * `wait` no agent that may run it is free; `assign` an agent was chosen; `accept` that agent acknowledged it; `give_back` the
 * attempt is over and the task is not; `complete`, `fail` the attempt ended it; `cancel` somebody asked for its end.
 */
export const TASK_TRANSITIONS = ['wait', 'assign', 'accept', 'give_back', 'complete', 'fail', 'cancel'] as const
export type TaskTransition = (typeof TASK_TRANSITIONS)[number]

/** `late`: whoever asks has lost the right to, and is told. `ignore`: there is nothing to do, and that is fine. */
export type NextStatus = TaskStatus | 'late' | 'ignore'

/**
 * Every status answers every transition. `complete` in `queued` is an agent that was faster than the writing of its own
 * acknowledgement. Nothing leaves the last three rows.
 */
export const NEXT_STATUS: Readonly<Record<TaskStatus, Row>> = {
  // wait, assign, accept, give_back, complete, fail, cancel
  pending: row('waiting', 'queued', 'late', 'late', 'late', 'late', 'cancelled'),
  waiting: row('ignore', 'queued', 'late', 'late', 'late', 'late', 'cancelled'),
  queued: row('ignore', 'late', 'running', 'waiting', 'completed', 'failed', 'cancelled'),
  running: row('ignore', 'late', 'ignore', 'waiting', 'completed', 'failed', 'cancelled'),
  completed: row('ignore', 'late', 'late', 'late', 'late', 'late', 'ignore'),
  failed: row('ignore', 'late', 'late', 'late', 'late', 'late', 'ignore'),
  cancelled: row('ignore', 'late', 'late', 'late', 'late', 'late', 'ignore'),
}

type Row = Readonly<Record<TaskTransition, NextStatus>>

function row(...[wait, assign, accept, give_back, complete, fail, cancel]: SevenOf<NextStatus>): Row {
  return { wait, assign, accept, give_back, complete, fail, cancel }
}

type SevenOf<T> = [T, T, T, T, T, T, T]

/** The table above as rows for docs/tasks.md, which a test compares with this. */
export function printTransitions(): string {
  const cell = (next: NextStatus) => (next === 'ignore' ? '–' : next)
  const rows = Object.entries(NEXT_STATUS).map(
    ([status, next]) => `| ${[`\`${status}\``, ...TASK_TRANSITIONS.map((name) => cell(next[name]))].join(' | ')} |`,
  )
  const head = `| status | ${TASK_TRANSITIONS.join(' | ')} |`
  return [head, `| ${Array.from({ length: TASK_TRANSITIONS.length + 1 }, () => '---').join(' | ')} |`, ...rows].join(
    '\n',
  )
}
