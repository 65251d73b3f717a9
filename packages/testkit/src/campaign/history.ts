import type { TaskStatus } from '@cyberun/api'

/** What everybody wrote down of one campaign, and what can be read of it afterwards. */
export interface History {
  /** Tasks that a client was told are accepted, each with the text that it gave. */
  accepted: ReadonlyMap<string, { text: string }>
  /** Ends that clients saw while it went on. */
  seen: readonly { taskId: string; status: TaskStatus }[]
  /** What the server has of every task, in the end. */
  stored: ReadonlyMap<string, StoredTask>
  /** What agents wrote down, in the order in which each wrote it. */
  runs: readonly AgentRun[]
  /** Attempts that agents still had when every task had ended and they had had time to hear of it. */
  kept: readonly KeptAttempt[]
}

export interface KeptAttempt {
  agentId: string
  taskId: string
  fence: number
}

export interface StoredTask {
  status: TaskStatus
  agentId: string | null
  retryCount: number
  maxRetries: number
  /** What it put out and logged, as JSON. */
  said: string
  events: readonly StoredTaskEvent[]
}

/** An event as a client reads it: its number, its name, and of a `status` the status. */
export interface StoredTaskEvent {
  number: number
  name: string
  status?: TaskStatus | undefined
}

export interface AgentRun {
  agentId: string
  taskId: string
  fence: number
  /** `accepted`: it began to run it; else how that ended. */
  what: 'accepted' | 'completed' | 'failed' | 'cancelled'
}

/** A promise that was not kept, and by which task. */
export interface Violation {
  promise: keyof typeof PROMISES
  taskId: string
  detail: string
}

/** What the checker proves of a history. */
export const PROMISES = {
  not_lost: 'an accepted task is in the database',
  ended: 'an accepted task has ended',
  ended_once: 'a task has one terminal event, its last, and it is what the task says',
  stayed_ended: 'an end that anybody saw is the end',
  numbered: 'events are numbered from 1 without holes',
  ran_once: 'an attempt is run by one agent, once',
  completed_by_holder: 'the attempt that completed a task is its last, and the agent that had it completed it',
  own_output: 'a task puts out or logs the text that it was given',
  failed_for_a_reason: 'a task failed because no retry was left',
  let_go: 'an agent keeps nothing of a task that has ended',
} as const

export const TERMINAL: readonly string[] = ['completed', 'failed', 'cancelled'] satisfies TaskStatus[]

/** Holds a history against what was promised. Empty when everything was kept. */
export function checkHistory(history: History): Violation[] {
  const runs = Map.groupBy(history.runs, ({ taskId }) => taskId)
  const violations: Violation[] = []
  for (const [taskId, { text }] of history.accepted) {
    const task = history.stored.get(taskId)
    if (task === undefined) violations.push({ promise: 'not_lost', taskId, detail: 'nobody knows it' })
    else violations.push(...checkTask({ taskId, text, task, runs: runs.get(taskId) ?? [] }))
  }
  for (const { taskId, status } of history.seen) {
    const now = history.stored.get(taskId)?.status
    if (now !== status) violations.push({ promise: 'stayed_ended', taskId, detail: `was seen ${status}, is ${now}` })
  }
  for (const { agentId, taskId, fence } of history.kept) {
    violations.push({ promise: 'let_go', taskId, detail: `${agentId} still has attempt ${fence}` })
  }
  return violations
}

interface Judged {
  taskId: string
  text: string
  task: StoredTask
  runs: readonly AgentRun[]
}

function checkTask(judged: Judged): Violation[] {
  const { taskId, task } = judged
  const details: [keyof typeof PROMISES, string | undefined][] = [
    ['ended', TERMINAL.includes(task.status) ? undefined : `is ${task.status}`],
    ['numbered', numberingFault(task)],
    ['ended_once', endFault(task)],
    ['ran_once', runFault(judged)],
    ['completed_by_holder', completionFault(judged)],
    ['own_output', outputFault(judged)],
    ['failed_for_a_reason', failureFault(task)],
  ]
  return details.flatMap(([promise, detail]) => (detail === undefined ? [] : [{ promise, taskId, detail }]))
}

function numberingFault({ events }: StoredTask): string | undefined {
  const at = events.findIndex(({ number }, index) => number !== index + 1)
  return at === -1 ? undefined : `event ${events[at]?.number} is in place ${at + 1}`
}

function endFault({ status, events }: StoredTask): string | undefined {
  const ends = events.filter(({ name }) => TERMINAL.includes(name))
  if (ends.length !== 1) return `has ${ends.length} terminal events`
  if (ends[0] !== events.at(-1)) return 'has events after its end'
  return ends[0]?.name === status ? undefined : `is ${status} but its last event is ${ends[0]?.name}`
}

function runFault({ runs }: Judged): string | undefined {
  const begun = runs.filter(({ what }) => what === 'accepted').map(({ fence }) => fence)
  const twice = begun.find((fence, at) => begun.indexOf(fence) !== at)
  return twice === undefined ? undefined : `attempt ${twice} was begun twice`
}

/** Each assignment leaves one `queued` event, so their count is the fence of the last. */
function completionFault({ task, runs }: Judged): string | undefined {
  if (task.status !== 'completed') return undefined
  const fence = task.events.filter(({ status }) => status === 'queued').length
  const by = runs.filter((run) => run.fence === fence && run.agentId === task.agentId)
  if (by.some(({ what }) => what === 'completed')) return undefined
  return `attempt ${fence} of ${task.agentId}: ${by.map(({ what }) => what).join(', ') || 'it never ran'}`
}

function outputFault({ task, text }: Judged): string | undefined {
  if (task.status !== 'completed') return undefined
  return task.said.includes(JSON.stringify(text))
    ? undefined
    : `neither output nor log has ${text}: ${task.said.slice(0, 300)}`
}

function failureFault({ status, retryCount, maxRetries }: StoredTask): string | undefined {
  return status === 'failed' && retryCount < maxRetries ? `after ${retryCount} of ${maxRetries} retries` : undefined
}
