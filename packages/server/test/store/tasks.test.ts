import type { Role, TaskStatus } from '@cyberun/api'
import { expect, test } from 'vitest'
import type { Attempt } from '../../src/model/attempt.ts'
import {
  acknowledgeAttempt,
  appendEvents,
  attachAttempt,
  declineAttempt,
  heldAttempts,
  releaseAttempt,
  renewLeases,
  saveProgress,
  settleAttempt,
  sweepExpired,
} from '../../src/store/attempts.ts'
import { revokeCredential } from '../../src/store/credentials.ts'
import { Sql } from '../../src/store/handle.ts'
import { queuePositions } from '../../src/store/queue-positions.ts'
import type { Store } from '../../src/store/store.ts'
import { dropOldIdempotencyKeys, findIdempotent, type NewTask, submitTask } from '../../src/store/submissions.ts'
import { dropOldEvents, eventCounts, readEvents } from '../../src/store/task-events.ts'
import {
  cancelTask,
  cancelTeamTasks,
  countQuery,
  countTasks,
  deleteTeamTasks,
  getTask,
  listQuery,
  listTasks,
} from '../../src/store/tasks.ts'
import { clearRefusals, noteWaiting, taskLoad, teamsWithWaitingTasks, waitingFacts } from '../../src/store/waiting.ts'
import { deleteWorkflow, saveWorkflow } from '../../src/store/workflows.ts'
import { onBothEngines } from './engines.ts'
import {
  claim,
  claimOne,
  freeAgent,
  GATEWAY,
  needs,
  newKey,
  newTask,
  submitted,
  TEAM,
  teamWithWorkflow,
  WORKFLOW,
} from './task-world.ts'

const kinds = async (store: Store, taskId: string) =>
  (await readEvents(store, taskId, 0, 100)).events.map(({ event }) => ('status' in event ? event.status : event.kind))

const log = (sequence: number, ...lines: string[]) => ({
  sequence,
  event: {
    kind: 'log' as const,
    lines: lines.map((line) => ({ stream: 'stdout' as const, line, timestamp: '2026-01-01T00:00:00Z' })),
  },
})

const completed = (sequence: number) => ({ sequence, outcome: { kind: 'completed' as const, output: { ok: true } } })
const failed = (sequence: number, fault: 'tool' | 'client' | 'infrastructure' | 'missing') => ({
  sequence,
  outcome: { kind: 'failed' as const, code: 'broke', message: 'it broke', fault },
})

/** Moves a task's time limits into the past, as the database's clock would in the end. */
async function passTime(store: Store, taskId: string, column: 'ack_until' | 'lease_until' | 'deadline_at') {
  await Sql.db(store)
    .updateTable('task')
    .set({ [column]: 1 })
    .where('id', '=', taskId)
    .execute()
}

onBothEngines('submitting', ({ emptyStore }) => {
  test('makes a pending task with its first event, and it can be read', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store, { parameters: { text: 'naïve \u0000 \ud800', n: 1.5 }, priority: 3 })
    const task = await getTask(store, TEAM, taskId)
    expect(task).toMatchObject({ status: 'pending', priority: 3, fence: 0, eventCount: 1, hasWorkflow: true })
    expect(task?.parameters).toEqual({ text: 'naïve \u0000 \ud800', n: 1.5 })
    expect(await kinds(store, taskId)).toEqual(['pending'])
    expect(await getTask(store, 'team-2', taskId)).toBeUndefined()
    await deleteWorkflow(store, TEAM, WORKFLOW, 5)
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ hasWorkflow: false })
  })

  test('gives the same answer for the same key, a conflict for another body, and forgets old keys', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const idempotency = { key: 'k', bodyHash: 'a', keepMs: 60_000 }
    const tasks = Array.from({ length: 5 }, () => newTask({ idempotency }))
    const answers = await Promise.all(tasks.map((task) => submitTask(store, task)))
    expect(answers.map(({ kind }) => kind)).toEqual(['accepted', ...Array(4).fill('replayed')])
    expect(new Set(answers.map((answer) => 'taskId' in answer && answer.taskId))).toEqual(new Set([tasks[0]?.id]))
    expect(await submitTask(store, newTask({ idempotency: { ...idempotency, bodyHash: 'b' } }))).toEqual({
      kind: 'conflict',
    })
    for (const submitterId of ['bob', 'eve']) {
      expect(await submitTask(store, newTask({ idempotency, submitterId }))).toMatchObject({ kind: 'accepted' })
    }
    expect(await countTasks(store, TEAM, {})).toBe(3)
    expect(await findIdempotent(store, TEAM, 'ada', 'k')).toEqual({ bodyHash: 'a', taskId: tasks[0]?.id })
    await Sql.db(store).updateTable('idempotency_key').set({ expires_at: 1 }).execute()
    expect(await findIdempotent(store, TEAM, 'ada', 'k')).toBeUndefined()
    expect(await submitTask(store, newTask({ idempotency: { ...idempotency, bodyHash: 'b' } }))).toMatchObject({
      kind: 'accepted',
    })
    expect(await dropOldIdempotencyKeys(store, 1)).toBe(1)
    expect(await dropOldIdempotencyKeys(store, 100)).toBe(1)
    expect(await dropOldIdempotencyKeys(store, 100)).toBe(0)
    expect(await findIdempotent(store, TEAM, 'ada', 'k')).toMatchObject({ bodyHash: 'b' })
  })

  test('one whose workflow is not what was remembered is not stored, and those that came with it are', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const isFromMemory = true
    const [current, older, renamed, unknown] = [
      newTask({ isFromMemory }),
      newTask({ isFromMemory, workflowVersion: 0, fileKeys: ['file'] }),
      newTask({
        isFromMemory,
        workflowSlug: 'ohce',
        exposure: { protocol: 'http', credentialId: null, familyId: null },
      }),
      newTask({ isFromMemory, workflowId: 'none' }),
    ]
    const submitAll = (tasks: NewTask[]) => Promise.all(tasks.map(async (task) => (await submitTask(store, task)).kind))
    expect(await submitAll([older, current, renamed, unknown])).toEqual([
      'outdated',
      'accepted',
      'outdated',
      'outdated',
    ])
    await saveWorkflow(store, TEAM, WORKFLOW, { status: 'disabled', userId: 'ada', at: 4 })
    expect(await submitAll([newTask({ isFromMemory })])).toEqual(['outdated'])
    await saveWorkflow(store, TEAM, WORKFLOW, { status: 'active', userId: 'ada', at: 5 })
    await deleteWorkflow(store, TEAM, WORKFLOW, 6)
    expect(await submitAll([newTask({ isFromMemory })])).toEqual(['outdated'])
    expect(await countTasks(store, TEAM, {})).toBe(1)
    expect(await kinds(store, current.id)).toEqual(['pending'])
  })

  test('one whose key is not what was remembered is not stored, and those that came with it are', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const [good, revoked, homeless] = [
      await newKey(store, 'member'),
      await newKey(store, 'member'),
      await newKey(store),
    ]
    await revokeCredential(store, revoked, 5)
    const withKey = (credentialId: string, role: Role = 'member', changes: Partial<NewTask> = {}) =>
      newTask({ recalledKey: { credentialId, role }, ...changes })
    const outcomes = [
      [withKey(good), 'accepted'],
      [withKey(good, 'admin'), 'outdated'],
      [withKey(revoked, 'member', { fileKeys: ['file'] }), 'outdated'],
      [withKey(homeless), 'outdated'],
      [withKey('none'), 'outdated'],
      [withKey(good, 'member', { isFromMemory: true, workflowVersion: 7 }), 'outdated'],
      [withKey(good, 'member', { isFromMemory: true }), 'accepted'],
    ] as const
    const answers = await Promise.all(outcomes.map(async ([task]) => (await submitTask(store, task)).kind))
    expect(answers).toEqual(outcomes.map(([, expected]) => expected))
    expect(await countTasks(store, TEAM, {})).toBe(2)
  })

  test('one that cannot be written harms no other that came with it', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const twin = newTask()
    const all = await Promise.allSettled(
      [twin, newTask({ workflowId: 'none' }), newTask(), twin].map((task) => submitTask(store, task)),
    )
    expect(all.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
    expect(await countTasks(store, TEAM, {})).toBe(2)
  })

  test('lists newest first, by page and filter', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    for (const id of ['a', 'b', 'c']) await submitted(store, { id })
    const page = (current_page: number) => ({ current_page, per_page: 2 })
    expect((await listTasks(store, TEAM, {}, page(1))).map(({ id }) => id)).toEqual(['c', 'b'])
    expect((await listTasks(store, TEAM, {}, page(2))).map(({ id }) => id)).toEqual(['a'])
    await claimOne(store)
    expect((await listTasks(store, TEAM, { status: 'queued' }, page(1))).map(({ id }) => id)).toEqual(['a'])
    expect(await countTasks(store, TEAM, { agentId: 'gpu-1' })).toBe(1)
    expect(await countTasks(store, TEAM, { workflowId: 'other' })).toBe(0)
  })
})

onBothEngines('an attempt', ({ emptyStore }) => {
  test('runs from claim to completion with events numbered without holes', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    expect(attempt).toMatchObject({
      taskId,
      agentId: 'gpu-1',
      fence: 1,
      parameters: { text: 'hello' },
      workflowVersion: 1,
    })
    expect(await claim(store, [freeAgent('gpu-2')])).toEqual([])
    const answers = await Promise.all([
      acknowledgeAttempt(store, attempt),
      appendEvents(store, attempt, [
        log(1, 'one', 'two'),
        { sequence: 2, event: { kind: 'note', message: 'n\u0000' } },
      ]),
      saveProgress(store, attempt, { progress: 0.5 }),
    ])
    expect(answers[1]).toMatchObject({ kind: 'stored', status: 'running', acknowledged: 2 })
    expect(await getTask(store, TEAM, taskId)).toMatchObject({
      agentLabels: ['gpu'],
      gpuType: 'NVIDIA GeForce RTX 4090',
    })
    expect(await appendEvents(store, attempt, [log(2, 'again'), log(3, 'three')])).toMatchObject({ acknowledged: 3 })
    expect(await appendEvents(store, attempt, [log(5, 'too far')])).toMatchObject({ kind: 'gap', acknowledged: 3 })
    expect(await settleAttempt(store, attempt, completed(4))).toMatchObject({ kind: 'stored', status: 'completed' })
    expect(await settleAttempt(store, attempt, completed(4))).toMatchObject({ kind: 'stored', status: 'completed' })
    expect(await attachAttempt(store, attempt, 'gw-2')).toMatchObject({ kind: 'stored', acknowledged: 4 })
    expect(await appendEvents(store, attempt, [log(5, 'late')])).toEqual({ kind: 'late' })
    expect(await kinds(store, taskId)).toEqual([
      'pending',
      'queued',
      'running',
      'log',
      'log',
      'log',
      'log',
      'completed',
    ])
    const { events } = await readEvents(store, taskId, 0, 100)
    expect(events.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    const task = await getTask(store, TEAM, taskId)
    expect(task).toMatchObject({ status: 'completed', output: { ok: true }, agentId: 'gpu-1', eventCount: 8 })
    expect(task?.completedAt).toBeGreaterThan(1_700_000_000_000)
    expect(await cancelTask(store, TEAM, taskId)).toEqual({ kind: 'nothing' })
  })

  test('of an older fence, of another agent or of no task writes nothing', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    const strangers: Attempt[] = [
      { ...attempt, fence: 0 },
      { ...attempt, fence: 2 },
      { ...attempt, agentId: 'gpu-2' },
      { ...attempt, taskId: 'none' },
      { ...attempt, teamId: 'team-2' },
    ]
    for (const stranger of strangers) {
      expect(await acknowledgeAttempt(store, stranger)).toEqual({ kind: 'late' })
      expect(await settleAttempt(store, stranger, completed(1))).toEqual({ kind: 'late' })
      expect(await attachAttempt(store, stranger, 'gw-2')).toEqual({ kind: 'late' })
      await saveProgress(store, stranger, { progress: 1 })
    }
    expect(await renewLeases(store, GATEWAY, strangers)).toEqual([])
    expect(await renewLeases(store, 'gw-2', [attempt])).toEqual([])
    expect(await renewLeases(store, GATEWAY, [attempt])).toMatchObject([{ taskId, fence: 1, remainingMs: 60_000 }])
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ status: 'queued', eventCount: 2, progress: null })
  })

  test('that failed is tried again while retries are left, and then fails', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store, { maxRetries: 1 })
    const first = await claimOne(store)
    expect(await settleAttempt(store, first, failed(1, 'tool'))).toMatchObject({ kind: 'stored', status: 'waiting' })
    const second = await claimOne(store)
    expect(second.fence).toBe(2)
    expect(await settleAttempt(store, first, completed(1))).toEqual({ kind: 'late' })
    expect(await settleAttempt(store, second, failed(1, 'infrastructure'))).toMatchObject({ status: 'failed' })
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ retryCount: 1, error: 'it broke', status: 'failed' })
    const clients = await submitted(store, { maxRetries: 5 })
    expect(await settleAttempt(store, await claimOne(store), failed(1, 'client'))).toMatchObject({ status: 'failed' })
    expect(await getTask(store, TEAM, clients)).toMatchObject({ retryCount: 0 })
  })

  test('that an agent lacks something for goes to another, uncounted, until the agent has it', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const decline = { reason: 'missing_model', message: 'model x is not here' } as const
    const declined = await declineAttempt(store, await claimOne(store, 'gpu-1'), decline)
    expect(declined).toMatchObject({ status: 'waiting', ended: { agentId: 'gpu-1' } })
    expect(await claim(store, [freeAgent('gpu-1', { freeSlots: 4 })])).toEqual([])
    expect((await waitingFacts(store, TEAM, [taskId])).get(taskId)).toMatchObject({
      refusals: [{ agentId: 'gpu-1', message: 'gpu-1 declined it: model x is not here' }],
    })
    expect(await settleAttempt(store, await claimOne(store, 'gpu-2'), failed(1, 'missing'))).toMatchObject({
      status: 'waiting',
    })
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ retryCount: 0 })
    expect(await clearRefusals(store, TEAM, 'gpu-1')).toBe(1)
    expect(await claim(store, [freeAgent('gpu-2')])).toEqual([])
    expect((await claimOne(store, 'gpu-1')).fence).toBe(3)
    expect(
      await declineAttempt(
        store,
        { teamId: TEAM, taskId, agentId: 'gpu-1', fence: 3 },
        { reason: 'invalid', message: 'no' },
      ),
    ).toMatchObject({
      status: 'failed',
    })
  })

  test.each([
    ['ack_until', 'waiting', 0],
    ['lease_until', 'waiting', 1],
    ['deadline_at', 'waiting', 1],
  ] as const)('is given up when its %s has passed', async (column, status, retryCount) => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store, { taskTimeoutMs: 60_000 })
    const attempt = await claimOne(store)
    if (column !== 'ack_until') await acknowledgeAttempt(store, attempt)
    expect(await sweepExpired(store, 10)).toEqual([])
    await passTime(store, taskId, column)
    const ended = { teamId: TEAM, taskId, agentId: 'gpu-1', fence: 1, gatewayId: GATEWAY }
    expect(await sweepExpired(store, 10)).toEqual([{ ended, status }])
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ status, retryCount, agentId: null })
    expect(await heldAttempts(store)).toEqual([])
  })

  test('is found again by another server, which then holds it; never sent, it is no retry', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    expect(await attachAttempt(store, attempt, 'gw-2')).toMatchObject({
      kind: 'stored',
      status: 'running',
      acknowledged: 0,
    })
    expect(await heldAttempts(store, { teamId: TEAM, agentId: 'gpu-1' })).toMatchObject([
      { taskId, fence: 1, gatewayId: 'gw-2', status: 'running' },
    ])
    expect(await renewLeases(store, 'gw-2', [attempt])).toHaveLength(1)
    await releaseAttempt(store, attempt, { cause: 'not_sent', message: 'gpu-1 was gone' })
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ status: 'waiting', retryCount: 0 })
    await releaseAttempt(store, await claimOne(store), { cause: 'agent_restarted', message: 'gpu-1 restarted' })
    expect(await getTask(store, TEAM, taskId)).toMatchObject({ status: 'waiting', retryCount: 1 })
  })
})

onBothEngines('cancelling', ({ emptyStore }) => {
  test('is final at once, and names the attempt to be told', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const waiting = await submitted(store)
    const stored = await cancelTask(store, TEAM, waiting)
    expect(stored).toEqual({ kind: 'stored', teamId: TEAM, status: 'cancelled', acknowledged: 0 })
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    const ended = { teamId: TEAM, taskId, agentId: 'gpu-1', fence: 1, gatewayId: GATEWAY }
    expect(await cancelTask(store, TEAM, taskId)).toMatchObject({ kind: 'stored', status: 'cancelled', ended })
    expect(await settleAttempt(store, attempt, completed(1))).toEqual({ kind: 'late' })
    expect(await attachAttempt(store, attempt, GATEWAY)).toEqual({ kind: 'late' })
    expect(await cancelTask(store, TEAM, taskId)).toEqual({ kind: 'nothing' })
    expect(await cancelTask(store, 'team-2', taskId)).toBeUndefined()
    expect(await kinds(store, taskId)).toEqual(['pending', 'queued', 'cancelled'])
    await submitted(store)
    await submitted(store)
    await claimOne(store)
    expect(await cancelTeamTasks(store, TEAM)).toHaveLength(1)
    expect(await countTasks(store, TEAM, { status: 'cancelled' })).toBe(4)
  })

  test('ends with its team, however many there are of it', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await Promise.all(Array.from({ length: 2_100 }, () => submitted(store)))
    await claimOne(store)
    expect(await cancelTeamTasks(store, TEAM)).toHaveLength(1)
    expect(await countTasks(store, TEAM, { status: 'cancelled' })).toBe(2_100)
    await deleteTeamTasks(store, TEAM)
    expect(await countTasks(store, TEAM, {})).toBe(0)
  })
})

onBothEngines('a list', ({ emptyStore }) => {
  const page = { current_page: 1, per_page: 20 }

  test.each([
    ['failed', 'task_ended_badly'],
    ['cancelled', 'task_ended_badly'],
    ['running', 'task_held'],
    ['waiting', 'task_lane'],
  ] as const)('of what is %s does not look at every task: it goes along %s', async (status, index) => {
    const store = await emptyStore()
    for (const query of [listQuery(store, TEAM, { status }, page), countQuery(store, TEAM, { status })]) {
      const { sql, ...compiled } = query.compile()
      const explain = Sql.engine(store) === 'sqlite' ? 'explain query plan' : 'explain'
      const { rows } = await Sql.db(store).executeQuery<object>({ ...compiled, sql: `${explain} ${sql}` })
      expect(rows.map((row) => Object.values(row).join(' ')).join('\n')).toContain(index)
    }
  })

  test('holds each state’s tasks, the newest first', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const ended = [await submitted(store), await submitted(store)]
    for (const id of ended) await cancelTask(store, TEAM, id)
    const held = await submitted(store)
    await claimOne(store)
    const waiting = await submitted(store)
    const listed = async (status: TaskStatus) => ({
      ids: (await listTasks(store, TEAM, { status }, page)).map(({ id }) => id),
      count: await countTasks(store, TEAM, { status }),
    })
    expect(await listed('cancelled')).toEqual({ ids: ended.toReversed(), count: 2 })
    expect(await listed('queued')).toEqual({ ids: [held], count: 1 })
    expect(await listed('pending')).toEqual({ ids: [waiting], count: 1 })
    expect(await listed('failed')).toEqual({ ids: [], count: 0 })
    expect(await listed('completed')).toEqual({ ids: [], count: 0 })
  })
})

onBothEngines('waiting', ({ emptyStore }) => {
  test('is said with its reason, once', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    expect(await teamsWithWaitingTasks(store)).toEqual([])
    expect(await taskLoad(store)).toEqual({ waiting: 0, oldestWaitMs: 0, held: 0 })
    await submitted(store)
    await claimOne(store)
    const taskId = await submitted(store, { requirements: needs({ labels: ['gpu-h100'] }) })
    expect(await taskLoad(store)).toEqual({ waiting: 1, oldestWaitMs: expect.any(Number), held: 1 })
    const order = { teamId: TEAM, olderThanMs: 0, limit: 10 }
    const reasonOf = ({ requirements }: { requirements: { labels: readonly string[] } }) =>
      `wants ${requirements.labels}`
    expect(await noteWaiting(store, { ...order, olderThanMs: 60_000 }, reasonOf)).toEqual([])
    expect(await noteWaiting(store, order, reasonOf)).toEqual([taskId])
    expect(await noteWaiting(store, order, reasonOf)).toEqual([])
    const { events } = await readEvents(store, taskId, 1, 10)
    expect(events.map(({ event }) => event)).toEqual([{ kind: 'status', status: 'waiting', message: 'wants gpu-h100' }])
    expect(await teamsWithWaitingTasks(store)).toEqual([TEAM])
    expect(await queuePositions(store, TEAM, [taskId], [])).toEqual(new Map([[taskId, 1]]))
  })
})

onBothEngines('events', ({ emptyStore }) => {
  test('are read in pages, and what is past retention is a gap', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const taskId = await submitted(store)
    const attempt = await claimOne(store)
    await settleAttempt(store, attempt, completed(1))
    expect((await readEvents(store, taskId, 1, 1)).events.map(({ number }) => number)).toEqual([2])
    expect(await readEvents(store, taskId, 3, 10)).toEqual({ events: [] })
    expect(await eventCounts(store, [taskId, 'none'])).toEqual(
      new Map([[taskId, { eventCount: 3, status: 'completed' }]]),
    )
    expect(await dropOldEvents(store, 1)).toBe(0)
    expect(await dropOldEvents(store, Number.MAX_SAFE_INTEGER)).toBe(1)
    expect(await dropOldEvents(store, Number.MAX_SAFE_INTEGER)).toBe(0)
    expect(await readEvents(store, taskId, 0, 10)).toEqual({ events: [], gap: { from: 1, to: 3 } })
    expect(await readEvents(store, taskId, 3, 10)).toEqual({ events: [] })
  })

  test('of long logs are forgotten, and go with their team, a few tasks at a time', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const counts = [50_000, 15_000, 4_000, 1_000, 1]
    for (const event_count of counts) {
      const id = await submitted(store)
      await cancelTask(store, TEAM, id)
      const completed_at = 1_000 - event_count
      await Sql.db(store).updateTable('task').set({ event_count, completed_at }).where('id', '=', id).execute()
    }
    const forgotten: number[] = []
    for (let some = 1; some > 0; forgotten.push(some)) some = await dropOldEvents(store, Number.MAX_SAFE_INTEGER)
    expect(forgotten).toEqual([1, 3, 1, 0])
    await deleteTeamTasks(store, TEAM)
    expect(await countTasks(store, TEAM, {})).toBe(0)
  })
})
