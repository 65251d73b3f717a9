import { type RawBuilder, sql as raw } from 'kysely'
import { expect, test } from 'vitest'
import type { FreeAgent } from '../../src/model/fairness.ts'
import { acknowledgeAttempt, settleAttempt, sweepExpired } from '../../src/store/attempts.ts'
import type { ClaimedTask } from '../../src/store/claims.ts'
import { Sql } from '../../src/store/handle.ts'
import { lanesQuery, listLanes } from '../../src/store/lanes.ts'
import { queuePositions } from '../../src/store/queue-positions.ts'
import type { Store } from '../../src/store/store.ts'
import { FIRST_FENCE, type NewTask, submitTask } from '../../src/store/submissions.ts'
import { readEvents } from '../../src/store/task-events.ts'
import { getTask } from '../../src/store/tasks.ts'
import { onBothEngines } from './engines.ts'
import {
  ACK_MS,
  claim,
  claimFor,
  claimOne,
  freeAgent,
  needs,
  newTask,
  submitted,
  TEAM,
  teamWithWorkflow,
} from './task-world.ts'

const completed = { sequence: 1, outcome: { kind: 'completed' as const, output: {} } }

/** Tasks of one statement: on a busy machine the store would give up one that writes all of them. */
const FILLED_AT_ONCE = 5_000

/** Fills the team's queue by few statements: `count` tasks of each submitter, the first of them the oldest. */
async function fill(store: Store, submitters: Record<string, number>): Promise<void> {
  await submitted(store, { id: 'model' })
  for (const [submitterId, count] of Object.entries(submitters)) {
    for (let first = 1; first <= count; first += FILLED_AT_ONCE) {
      await fillPart(store, submitterId, first, Math.min(count, first + FILLED_AT_ONCE - 1))
    }
  }
  await raw`delete from task where id = 'model'`.execute(Sql.db(store))
}

async function fillPart(store: Store, submitterId: string, first: number, last: number): Promise<void> {
  await raw`
      insert into task (id, team_id, workflow_id, workflow_version, workflow_slug, tool_type, status, priority,
        submitter_id, creation_source, parameters, requirement_key, refused_by, models, created_at, retry_count,
        max_retries, task_timeout_ms, resume_window_ms, attempt_fence, agent_labels, acknowledged_sequence, event_count)
      with recursive place(at) as (select ${raw.lit(first)} union all select at + 1 from place where at < ${raw.lit(last)})
      select ${raw.lit(`${submitterId}-`)} || at, team_id, workflow_id, workflow_version, workflow_slug, tool_type,
        'waiting', priority, ${raw.lit(submitterId)}, creation_source, parameters, requirement_key, refused_by, models,
        at, 0, 0, 0, 60000, 0, '[]', 0, 1
      from task cross join place where id = 'model'`.execute(Sql.db(store))
}

/** Jain's index of how evenly something is shared: 1 is perfectly. */
function jain(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0)
  return sum ** 2 / (shares.length * shares.reduce((total, share) => total + share ** 2, 0))
}

onBothEngines('claiming', ({ emptyStore, ownPlace }) => {
  test('takes the highest priority, then the oldest, for agents that may run it', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const labelled = await submitted(store, { requirements: needs({ labels: ['gpu-h100'] }), priority: 9 })
    const [old, young] = [await submitted(store), await submitted(store)]
    const urgent = await submitted(store, { priority: 1 })
    const order: string[] = []
    for (const _ of [1, 2, 3]) order.push((await claimOne(store)).taskId)
    expect(order).toEqual([urgent, old, young])
    expect(await claim(store, [freeAgent('gpu-1')])).toEqual([])
    const fitting = freeAgent('gpu-2', { labels: new Set(['gpu', 'gpu-h100']) })
    expect((await claim(store, [fitting])).map(({ taskId }) => taskId)).toEqual([labelled])
  })

  test('gives an agent as many as it has slots, and all agents theirs at once', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await fill(store, { ada: 10 })
    const agents = [freeAgent('gpu-1', { freeSlots: 3 }), freeAgent('gpu-2', { freeSlots: 2 })]
    const claimed = await claim(store, agents)
    expect(claimed.map(({ agentId }) => agentId).toSorted()).toEqual(['gpu-1', 'gpu-1', 'gpu-1', 'gpu-2', 'gpu-2'])
    expect(new Set(claimed.map(({ taskId }) => taskId))).toEqual(new Set([1, 2, 3, 4, 5].map((at) => `ada-${at}`)))
    expect(await claim(store, agents, 4)).toHaveLength(4)
    expect(await claim(store, agents)).toHaveLength(1)
    const { events } = await readEvents(store, 'ada-1', 0, 10)
    expect(events.map(({ number, event }) => [number, event])).toEqual([[2, { kind: 'status', status: 'queued' }]])
  })

  test('is done by the submission itself while nobody of the team waits', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await teamWithWorkflow(store, 'team-2')
    await submitted(store, { teamId: 'team-2', workflowId: 'workflow-of-team-2' })
    const placement = { agent: freeAgent('gpu-1'), gatewayId: 'gw-9', ackMs: ACK_MS }
    const place = async (changes: Partial<NewTask>) => {
      const task = newTask({ ...changes, placement })
      return [task.id, await submitTask(store, task)] as const
    }

    const [taskId, answer] = await place({})
    expect(answer).toEqual({ kind: 'accepted', taskId, isPlaced: true })
    const idempotency = { key: 'k', bodyHash: 'h', keepMs: 60_000 }
    const [keyed, ...answers] = [...(await place({ idempotency })), (await place({ idempotency }))[1]]
    expect(answers).toEqual([
      { kind: 'accepted', taskId: keyed, isPlaced: true },
      { kind: 'replayed', taskId: keyed },
    ])
    for (const id of [taskId, keyed]) {
      expect(await getTask(store, TEAM, id)).toMatchObject({
        ...{ status: 'queued', fence: FIRST_FENCE, agentId: 'gpu-1', gatewayId: 'gw-9', eventCount: 2 },
        ...{ agentLabels: ['gpu'], gpuType: 'NVIDIA GeForce RTX 4090' },
      })
      const { events } = await readEvents(store, id, 0, 10)
      expect(events.map(({ number, event }) => [number, event])).toEqual([
        [1, { kind: 'status', status: 'pending' }],
        [2, { kind: 'status', status: 'queued' }],
      ])
    }
    expect(await claim(store, [freeAgent('gpu-2')])).toEqual([])

    const attempt = { taskId, teamId: TEAM, agentId: 'gpu-1', fence: FIRST_FENCE }
    expect(await acknowledgeAttempt(store, attempt)).toMatchObject({ kind: 'stored', status: 'running' })
    expect(await settleAttempt(store, attempt, completed)).toMatchObject({ kind: 'stored', status: 'completed' })
    await Sql.db(store).updateTable('task').set({ ack_until: 1 }).where('id', '=', keyed).execute()
    expect(await sweepExpired(store, 10)).toMatchObject([{ ended: { taskId: keyed } }])

    // The one that was not accepted in time waits again, and comes first.
    expect((await place({}))[1]).toMatchObject({ kind: 'accepted', isPlaced: false })
    expect((await claimOne(store)).taskId).toBe(keyed)
  })

  test('is fair between submitters of very unequal load', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await fill(store, { ada: 1000, ben: 500, cem: 200, dan: 60, eve: 40 })
    // Each round every slot of ten becomes free again; the least busy submitter still has tasks at the end.
    const shares: Record<string, number> = {}
    for (let round = 0; round < 20; round++) {
      const claimed = await claim(store, [freeAgent('gpu-1', { freeSlots: 10 })])
      for (const task of claimed) {
        const [submitter = ''] = task.taskId.split('-')
        shares[submitter] = (shares[submitter] ?? 0) + 1
      }
      await Promise.all(claimed.map((task) => settleAttempt(store, task, completed)))
    }
    expect(Object.values(shares)).toHaveLength(5)
    expect(jain(Object.values(shares))).toBeGreaterThan(0.95)
  })

  test('prefers the agent that has run the models, then the GPU that is wished for', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    const requirements = needs({ models: ['sd.safetensors'], preferredGpu: 'rtx-4090' })
    const cold = freeAgent('cold')
    const warm = freeAgent('warm', { gpuName: 'Tesla T4' })
    await submitted(store, { requirements })
    const [first] = await claim(store, [warm, cold])
    expect(first?.agentId).toBe('cold')
    await submitted(store, { requirements })
    const [second] = await claim(store, [warm])
    if (second !== undefined) await settleAttempt(store, second, completed)
    await submitted(store, { requirements })
    expect((await claim(store, [cold, warm])).map(({ agentId }) => agentId)).toEqual(['warm'])
  })

  test('the place in the queue is the one in which tasks are then claimed', async () => {
    const store = await emptyStore()
    await teamWithWorkflow(store)
    await fill(store, { ada: 7, ben: 3, cem: 1 })
    await submitted(store, { id: 'urgent', submitterId: 'ada', priority: 2 })
    await submitted(store, { id: 'elsewhere', submitterId: 'ben', requirements: needs({ labels: ['h100'] }) })
    await claim(store, [freeAgent('gpu-1', { freeSlots: 2 })])
    const elsewhere = freeAgent('gpu-2', { labels: new Set(['h100']) })
    const placeOf = async (taskId: string, agent: FreeAgent) =>
      (await queuePositions(store, TEAM, [taskId], [agent])).get(taskId)
    expect(await placeOf('elsewhere', freeAgent('gpu-1'))).toBe(1)
    expect(await placeOf('elsewhere', elsewhere)).toBeGreaterThan(1)
    const tasks = await Sql.db(store).selectFrom('task').select('id').where('id', '!=', 'elsewhere').execute()
    const places = new Map<string, number | undefined>()
    for (const { id } of tasks) places.set(id, await placeOf(id, freeAgent('gpu-1')))
    expect([...places.values()].filter((place) => place === undefined)).toHaveLength(2)
    const ids = tasks.map(({ id }) => id)
    const together = await queuePositions(store, TEAM, ids, [freeAgent('gpu-1')])
    expect(together).toEqual(new Map([...places].filter(([, place]) => place !== undefined)))
    const order: string[] = []
    for (;;) {
      const [next] = await claim(store, [freeAgent('gpu-1')])
      if (next === undefined) break
      order.push(next.taskId)
    }
    const expected = [...places].filter(([, place]) => place !== undefined).toSorted(([, a = 0], [, b = 0]) => a - b)
    expect(order).toEqual(expected.map(([taskId]) => taskId))
    expect(expected.map(([, place]) => place)).toEqual(expected.map((_, at) => at + 1))
  })

  test('eight claimers of two thousand tasks claim each once', async () => {
    const open = await ownPlace()
    const first = await open()
    await teamWithWorkflow(first)
    await fill(first, { ada: 1000, ben: 600, cem: 400 })
    // SQLite has one server; on PostgreSQL each claimer is one, with its own connections.
    const isShared = Sql.engine(first) === 'sqlite'
    const stores = [first]
    for (let at = 1; at < 8; at++) stores.push(isShared ? first : await open())
    const claimed: ClaimedTask[] = []
    const claimers = stores.map((store, at) => async () => {
      const agents = [freeAgent(`gpu-${at}-a`, { freeSlots: 5 }), freeAgent(`gpu-${at}-b`, { freeSlots: 3 })]
      const some = await claimFor(store, agents, { gatewayId: `gw-${at}`, limit: 8 })
      claimed.push(...some)
      await Promise.all(some.map((task) => acknowledgeAttempt(store, task)))
      return some.length
    })
    // Nobody goes on before each has had its first: one that is slow would else find nothing left.
    await Promise.all(claimers.map((claimSome) => claimSome()))
    await Promise.all(
      claimers.map(async (claimSome) => {
        while ((await claimSome()) > 0);
      }),
    )
    expect(claimed).toHaveLength(2000)
    expect(new Set(claimed.map(({ taskId }) => taskId)).size).toBe(2000)
    expect(new Set(claimed.map(({ fence }) => fence))).toEqual(new Set([1]))
    expect(new Set(claimed.map(({ agentId }) => agentId)).size, 'every claimer got some').toBe(16)
    const rows = await Sql.db(first).selectFrom('task').select(['status', 'attempt_fence', 'event_count']).execute()
    expect(rows.filter((row) => row.status !== 'running' || row.attempt_fence !== 1 || row.event_count !== 3)).toEqual(
      [],
    )
  })

  test('steps along the index, however many tasks wait', async () => {
    const open = await ownPlace()
    const store = await open()
    await teamWithWorkflow(store)
    await fill(store, { ada: 60_000, ben: 30_000, cem: 10_000 })
    await raw`analyze`.execute(Sql.db(store))
    const lanes = await listLanes(store, TEAM)
    expect(lanes.map(({ submitterId, oldest }) => [submitterId, oldest.taskId])).toEqual([
      ['ada', 'ada-1'],
      ['ben', 'ben-1'],
      ['cem', 'cem-1'],
    ])
    const [lane] = lanes
    const plan = await explain(
      store,
      raw`select id from task where team_id = ${raw.lit(TEAM)} and status in ('pending', 'waiting') and priority = 0
        and submitter_id = 'ada' and requirement_key = ${raw.lit(lane?.requirementKey ?? '')} and refused_by = ''
        order by created_at, id limit 5`,
    )
    expect(plan).toContain('task_lane')
    expect(plan).not.toMatch(/Seq Scan|Sort|TEMP B-TREE/)
    expect(await explain(store, lanesQuery(TEAM))).not.toMatch(/SCAN task\b|Seq Scan on task\b/)
  }, 120_000)
})

async function explain(store: Store, query: RawBuilder<unknown>): Promise<string> {
  const words = Sql.engine(store) === 'sqlite' ? raw`explain query plan` : raw`explain`
  const { rows } = await raw<object>`${words} ${query}`.execute(Sql.db(store))
  return rows.map((row) => Object.values(row).join(' ')).join('\n')
}
