import type { TaskStatus } from '@cyberun/api'
import {
  type AttemptEvent,
  type AttemptOutcome,
  type DeclineReason,
  type JsonObject,
  unreachable,
} from '@cyberun/protocol'
import type { AnnouncedArtifact, Attempt, ChangeAnswer, HeldAttempt, StoredEvent } from './attempt.ts'
import { AFTER_DECLINE, type Aftermath, afterFault } from './retry.ts'
import { NEXT_STATUS } from './task-state.ts'

/** What the rules look at and change of a task. Times are milliseconds of the database's clock. */
export interface TaskFacts {
  readonly taskId: string
  readonly teamId: string
  status: TaskStatus
  readonly fence: number
  agentId: string | null
  gatewayId: string | null
  retryCount: number
  readonly maxRetries: number
  /** The number of its latest event. */
  eventCount: number
  /** Of the current attempt: the agent's lines up to this one are stored. */
  acknowledged: number
  /** When the agent must have accepted. */
  ackUntil: number | null
  /** When the attempt is lost unless the agent was heard. */
  leaseUntil: number | null
  /** When the run has taken too long. */
  deadlineAt: number | null
  readonly taskTimeoutMs: number
  readonly resumeWindowMs: number
  startedAt: number | null
  completedAt: number | null
  error: string | null
  output: JsonObject | null
  refusedBy: readonly string[]
}

/** One thing that happens to a task. Those of an attempt name it, so that a late one changes nothing. */
export type TaskChange =
  | { kind: 'wait'; reason: string }
  | { kind: 'accept'; attempt: Attempt }
  | { kind: 'decline'; attempt: Attempt; reason: DeclineReason; message: string }
  | { kind: 'report'; attempt: Attempt; events: readonly { sequence: number; event: AttemptEvent }[] }
  | { kind: 'announce'; attempt: Attempt; artifact: AnnouncedArtifact }
  | { kind: 'finish'; attempt: Attempt; sequence: number; outcome: AttemptOutcome }
  | { kind: 'release'; attempt: Attempt; cause: ReleaseCause; message: string }
  | { kind: 'attach'; attempt: Attempt; gatewayId: string }
  /** Something to say of the attempt that changes nothing. */
  | { kind: 'remark'; attempt: Attempt; message: string }
  | { kind: 'cancel' }
  /** Looks at the task's times. */
  | { kind: 'expire' }

/**
 * Why a server gives an attempt up: its agent came back without it, is gone, or said what cannot be understood.
 * `not_sent`: the agent never got the assignment, so it is no retry.
 */
export type ReleaseCause = 'agent_restarted' | 'agent_lost' | 'agent_faulty' | 'not_sent'

/** What a change comes to: the task as it is then, its new events, and the answer. */
export interface TaskStep {
  task: TaskFacts
  events: StoredEvent[]
  answer: ChangeAnswer
  /** An agent that is not to be asked for this task again, and what it said. */
  refusal?: { agentId: string; reason: string; message: string }
}

/** Applies one change by the rules. Pure: the caller holds the row and writes what comes back, or nothing of it. */
export function changeTask(task: TaskFacts, change: TaskChange, now: number): TaskStep {
  switch (change.kind) {
    case 'wait':
      return wait(task, change.reason)
    case 'cancel':
      return cancel(task, now)
    case 'expire':
      return expire(task, now)
    case 'attach':
      return attach(task, change, now)
    case 'finish':
      return finish(task, change, now)
    case 'accept':
      return isHeldBy(task, change.attempt) ? accept(task, now) : late(task)
    case 'decline':
      return isHeldBy(task, change.attempt) ? decline(task, change, now) : late(task)
    case 'report':
      return isHeldBy(task, change.attempt) ? report(task, change.events, now) : late(task)
    case 'remark':
      return isHeldBy(task, change.attempt) ? remark(task, change.message) : late(task)
    case 'announce':
      return isHeldBy(task, change.attempt) ? stored(task, [{ kind: 'artifact', ...change.artifact }]) : late(task)
    case 'release':
      return isHeldBy(task, change.attempt) ? release(task, change, now) : late(task)
    default:
      return unreachable(change)
  }
}

/** Whether the attempt is the one that may write now. */
function isHeldBy(task: TaskFacts, attempt: Attempt): boolean {
  return isHeld(task) && isLatest(task, attempt)
}

/** Whether an agent has it now. */
function isHeld(task: TaskFacts): boolean {
  return NEXT_STATUS[task.status].give_back === 'waiting'
}

function isLatest(task: TaskFacts, attempt: Attempt): boolean {
  return task.teamId === attempt.teamId && task.fence === attempt.fence && task.agentId === attempt.agentId
}

function wait(task: TaskFacts, reason: string): TaskStep {
  if (NEXT_STATUS[task.status].wait !== 'waiting') return nothing(task)
  return stored({ ...task, status: 'waiting' }, [{ kind: 'status', status: 'waiting', message: reason }])
}

/** Readers see the end at once; the agent is told and ends behind it. */
function cancel(task: TaskFacts, now: number): TaskStep {
  if (NEXT_STATUS[task.status].cancel !== 'cancelled') return nothing(task)
  return ended(task, { kind: 'cancelled' }, now)
}

function remark(task: TaskFacts, message: string): TaskStep {
  return stored(task, [{ kind: 'status', status: task.status, message }])
}

function accept(task: TaskFacts, now: number): TaskStep {
  if (NEXT_STATUS[task.status].accept !== 'running') return stored(task, [])
  const running: TaskFacts = {
    ...task,
    status: 'running',
    startedAt: now,
    ackUntil: null,
    leaseUntil: now + task.resumeWindowMs,
    deadlineAt: task.taskTimeoutMs === 0 ? null : now + task.taskTimeoutMs,
  }
  return stored(running, [{ kind: 'status', status: 'running' }])
}

function decline(task: TaskFacts, change: { reason: DeclineReason; message: string }, now: number): TaskStep {
  const message = `${task.agentId} declined it: ${change.message}`
  return endAttempt(task, { aftermath: AFTER_DECLINE[change.reason], message, reason: change.reason }, now)
}

function report(task: TaskFacts, lines: readonly { sequence: number; event: AttemptEvent }[], now: number): TaskStep {
  const events: StoredEvent[] = []
  let { acknowledged } = task
  for (const { sequence, event } of lines) {
    if (sequence <= acknowledged) continue
    if (sequence !== acknowledged + 1) return gap(task)
    acknowledged = sequence
    events.push(...storedEvents(event, now))
  }
  return stored({ ...task, acknowledged }, events)
}

function finish(task: TaskFacts, change: { attempt: Attempt; sequence: number; outcome: AttemptOutcome }, now: number) {
  const { attempt, sequence, outcome } = change
  // Its answer was lost on the way: it gets the same again.
  if (isLatest(task, attempt) && sequence <= task.acknowledged) return stored(task, [])
  if (!isHeldBy(task, attempt)) return late(task)
  if (sequence !== task.acknowledged + 1) return gap(task)
  const heard: TaskFacts = { ...task, acknowledged: sequence }
  switch (outcome.kind) {
    case 'completed':
      return withoutTelling(ended(heard, { kind: 'completed', output: outcome.output }, now))
    case 'cancelled':
      return withoutTelling(ended(heard, { kind: 'cancelled' }, now))
    case 'failed': {
      const failure = { aftermath: afterFault(outcome.fault, task), message: outcome.message, reason: outcome.code }
      return withoutTelling(endAttempt(heard, failure, now))
    }
    default:
      return unreachable(outcome)
  }
}

function release(task: TaskFacts, change: { cause: ReleaseCause; message: string }, now: number): TaskStep {
  const aftermath = change.cause === 'not_sent' ? 'give_back' : afterFault('infrastructure', task)
  return endAttempt(task, { aftermath, message: change.message, reason: change.cause }, now)
}

/** An agent is back with an attempt, maybe at another server. That it has it says that it accepted. */
function attach(task: TaskFacts, change: { attempt: Attempt; gatewayId: string }, now: number): TaskStep {
  if (task.status === 'completed' && isLatest(task, change.attempt)) return stored(task, [])
  if (!isHeldBy(task, change.attempt)) return late(task)
  const taken = { ...task, gatewayId: change.gatewayId, leaseUntil: now + task.resumeWindowMs }
  return accept(taken, now)
}

function expire(task: TaskFacts, now: number): TaskStep {
  if (!isHeld(task)) return nothing(task)
  if (isPast(task.ackUntil, now)) {
    const message = `${task.agentId} did not acknowledge it in time`
    return endAttempt(task, { aftermath: 'give_back', message, reason: 'no_acknowledgement' }, now)
  }
  if (isPast(task.leaseUntil, now)) {
    const message = `${task.agentId} was out of reach for ${seconds(task.resumeWindowMs)}`
    return endAttempt(task, { aftermath: afterFault('infrastructure', task), message, reason: 'agent_lost' }, now)
  }
  if (isPast(task.deadlineAt, now)) {
    const message = `it ran for longer than its limit of ${seconds(task.taskTimeoutMs)}`
    return endAttempt(task, { aftermath: afterFault('tool', task), message, reason: 'timeout' }, now)
  }
  return nothing(task)
}

interface Failure {
  aftermath: Aftermath
  message: string
  reason: string
}

/** Ends the current attempt without a result: the task goes back to those that wait, or has failed. */
function endAttempt(task: TaskFacts, { aftermath, message, reason }: Failure, now: number): TaskStep {
  if (aftermath === 'fail') return ended(task, { kind: 'failed', error: message }, now)
  const { agentId } = task
  const refusal = aftermath === 'refuse' && agentId !== null ? { agentId, reason, message } : undefined
  const retryCount = task.retryCount + (aftermath === 'retry' ? 1 : 0)
  const waiting: TaskFacts = {
    ...without(task),
    status: 'waiting',
    agentId: null,
    gatewayId: null,
    startedAt: null,
    retryCount,
    refusedBy: refusal === undefined ? task.refusedBy : [...task.refusedBy, refusal.agentId].toSorted(),
  }
  const said = aftermath === 'retry' ? `${message}; retry ${retryCount} of ${task.maxRetries}` : message
  const step = stored(waiting, [{ kind: 'status', status: 'waiting', message: said }])
  return { ...withAttempt(step, task), ...(refusal !== undefined && { refusal }) }
}

type EndEvent = Extract<StoredEvent, { kind: 'completed' | 'failed' | 'cancelled' }>

function ended(task: TaskFacts, event: EndEvent, now: number): TaskStep {
  const over: TaskFacts = {
    ...without(task),
    status: event.kind,
    completedAt: now,
    output: event.kind === 'completed' ? event.output : null,
    error: event.kind === 'failed' ? event.error : null,
  }
  return withAttempt(stored(over, [event]), task)
}

/** The task with no time running. */
function without(task: TaskFacts): TaskFacts {
  return { ...task, ackUntil: null, leaseUntil: null, deadlineAt: null }
}

function stored(task: TaskFacts, events: StoredEvent[]): TaskStep {
  const { teamId, status, acknowledged } = task
  // Unchanged, it stays the same object: nothing is written then.
  const after = events.length === 0 ? task : { ...task, eventCount: task.eventCount + events.length }
  return { task: after, events, answer: { kind: 'stored', teamId, status, acknowledged } }
}

function late(task: TaskFacts): TaskStep {
  return { task, events: [], answer: { kind: 'late' } }
}

function nothing(task: TaskFacts): TaskStep {
  return { task, events: [], answer: { kind: 'nothing' } }
}

function gap(task: TaskFacts): TaskStep {
  return { task, events: [], answer: { kind: 'gap', teamId: task.teamId, acknowledged: task.acknowledged } }
}

/** Names the attempt that `before` had, so that its agent can be told. */
function withAttempt(step: TaskStep, before: TaskFacts): TaskStep {
  const { teamId, taskId, fence, agentId, gatewayId } = before
  if (step.answer.kind !== 'stored' || !isHeld(before) || agentId === null || gatewayId === null) return step
  const held: HeldAttempt = { teamId, taskId, agentId, fence, gatewayId }
  return { ...step, answer: { ...step.answer, ended: held } }
}

/** The agent ended the attempt itself: there is nobody to tell. */
function withoutTelling(step: TaskStep): TaskStep {
  if (step.answer.kind !== 'stored') return step
  const { ended: _told, ...answer } = step.answer
  return { ...step, answer }
}

/** An agent's event as the task keeps it: every line of a log has its own number. */
function storedEvents(event: AttemptEvent, now: number): StoredEvent[] {
  const note = (line: string): StoredEvent[] => [
    { kind: 'log', stream: 'stderr', line, timestamp: new Date(now).toISOString() },
  ]
  switch (event.kind) {
    case 'log':
      return event.lines.map((line) => ({ kind: 'log', ...line }))
    case 'note':
      return note(event.message)
    case 'waiting_in_tool':
      return note(`waiting in the tool's own queue, at place ${event.position}`)
    default:
      return unreachable(event)
  }
}

function isPast(time: number | null, now: number): boolean {
  return time !== null && time <= now
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`
}
