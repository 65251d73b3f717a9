import { TASK_STATUSES, type TaskStatus } from '@cyberun/api'
import { describe, expect, test } from 'vitest'
import { changeTask, type TaskChange, type TaskFacts } from '../../src/model/task-change.ts'
import { NEXT_STATUS, type TaskTransition } from '../../src/model/task-state.ts'

const NOW = 1_790_000_000_000
const attempt = { teamId: 'team', taskId: 't', agentId: 'gpu-1', fence: 2 }

const task = (status: TaskStatus, changes: Partial<TaskFacts> = {}): TaskFacts => ({
  ...{
    taskId: 't',
    teamId: 'team',
    status,
    fence: 2,
    agentId: 'gpu-1',
    gatewayId: 'gw-1',
    retryCount: 0,
    maxRetries: 1,
  },
  ...{ eventCount: 5, acknowledged: 0, ackUntil: null, leaseUntil: NOW + 60_000, deadlineAt: null },
  ...{ taskTimeoutMs: 0, resumeWindowMs: 60_000, startedAt: null, completedAt: null, error: null, output: null },
  refusedBy: [],
  ...changes,
})

/** A change that asks for each transition; `assign` is the claiming statement's. */
const ASKING: Record<Exclude<TaskTransition, 'assign'>, TaskChange> = {
  wait: { kind: 'wait', reason: 'nobody is free' },
  accept: { kind: 'accept', attempt },
  give_back: { kind: 'release', attempt, cause: 'not_sent', message: 'it was not sent' },
  complete: { kind: 'finish', attempt, sequence: 1, outcome: { kind: 'completed', output: {} } },
  fail: { kind: 'finish', attempt, sequence: 1, outcome: { kind: 'failed', code: 'c', message: 'm', fault: 'client' } },
  cancel: { kind: 'cancel' },
}

const CELLS = TASK_STATUSES.flatMap((status) =>
  Object.entries(ASKING).map(([transition, change]) => ({ status, transition: transition as TaskTransition, change })),
)

describe('what happens to a task', () => {
  test.each(CELLS)('$transition in $status is as the table says', ({ status, transition, change }) => {
    const before = task(status)
    const step = changeTask(before, change, NOW)
    const next = NEXT_STATUS[status][transition]
    expect(step.task.status).toBe(next === 'late' || next === 'ignore' ? status : next)
    if (next === 'late') expect(step.answer).toEqual({ kind: 'late' })
    if (next === 'late' || next === 'ignore')
      expect(step, 'nothing is written').toMatchObject({ task: before, events: [] })
    else expect(step.task.eventCount).toBe(before.eventCount + step.events.length)
  })

  test('an attempt of another team, agent or fence is late whatever it says', () => {
    for (const change of Object.values(ASKING)) {
      if (!('attempt' in change)) continue
      for (const other of [{ teamId: 'team-2' }, { agentId: 'gpu-2' }, { fence: 1 }, { fence: 3 }]) {
        const step = changeTask(task('running'), { ...change, attempt: { ...attempt, ...other } }, NOW)
        expect(step.answer).toEqual({ kind: 'late' })
      }
    }
  })

  test('of several times that have passed the one that says most is named', () => {
    const late = { leaseUntil: NOW, deadlineAt: NOW }
    const cases: [TaskFacts, string, number][] = [
      [task('queued', { ackUntil: NOW }), 'gpu-1 did not acknowledge it in time', 0],
      [task('running', late), 'gpu-1 was out of reach for 60 s; retry 1 of 1', 1],
      [
        task('running', { deadlineAt: NOW, taskTimeoutMs: 1_500 }),
        'it ran for longer than its limit of 1.5 s; retry 1 of 1',
        1,
      ],
    ]
    for (const [before, message, retryCount] of cases) {
      const step = changeTask(before, { kind: 'expire' }, NOW)
      expect(step.events).toEqual([{ kind: 'status', status: 'waiting', message }])
      expect(step.task.retryCount).toBe(retryCount)
    }
    expect(changeTask(task('running'), { kind: 'expire' }, NOW).answer).toEqual({ kind: 'nothing' })
  })
})
