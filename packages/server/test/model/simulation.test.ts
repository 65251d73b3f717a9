import { expect, test } from 'vitest'
import { changeTask, type TaskChange, type TaskFacts } from '../../src/model/task-change.ts'
import type { Rules, SimulatedTask } from './simulated-store.ts'
import { keyOf, SimulatedWorld } from './simulated-world.ts'

/** `CYBERUN_TEST_SEED=42` runs that one alone (CONTRIBUTING.md). */
const ONLY = process.env['CYBERUN_TEST_SEED']
const SEEDS = ONLY === undefined ? Array.from({ length: 2_000 }, (_, at) => at + 1) : [Number(ONLY)]
const TASKS = 12
const FAULTS_UNTIL = 90_000
const GIVEN_UP_AT = 3_600_000

const TERMINAL = ['completed', 'failed', 'cancelled']

test('whatever is cut, stopped, killed or repeated, each task ends once and as its last attempt said', () => {
  const reached = new Map<string, number>()
  for (const seed of SEEDS) {
    const world = simulate(seed, changeTask)
    const faults = [...world.store.tasks.values()].flatMap((task) => faultsOf(task, world))
    expect(faults, `run again with CYBERUN_TEST_SEED=${seed}`).toEqual([])
    for (const { facts, journal } of world.store.tasks.values()) {
      count(reached, facts.status)
      if (facts.fence > 1) count(reached, 'assigned again')
      if (facts.retryCount > 0) count(reached, 'retried')
      if (journal.some(({ event }) => event.kind === 'status' && event.message?.includes('out of reach')))
        count(reached, 'lost')
    }
  }
  // What is never reached is never tested.
  if (ONLY === undefined) {
    const least = ['completed', 'failed', 'cancelled', 'assigned again', 'retried', 'lost'].map(
      (what) => reached.get(what) ?? 0,
    )
    expect(Math.min(...least), JSON.stringify(Object.fromEntries(reached))).toBeGreaterThan(100)
  }
}, 120_000)

const PLANTED: Record<string, (task: TaskFacts, change: TaskChange) => TaskFacts> = {
  'a late attempt is taken for the current one': (task, change) =>
    'attempt' in change ? { ...task, fence: change.attempt.fence, agentId: change.attempt.agentId } : task,
  'a task that has ended may end again': (task, change) =>
    change.kind === 'finish' && TERMINAL.includes(task.status) ? { ...task, status: 'running' } : task,
  'what was sent again is kept again': (task, change) =>
    change.kind === 'report' ? { ...task, acknowledged: (change.events[0]?.sequence ?? 1) - 1 } : task,
  'nobody minds that an agent never acknowledged': (task, change) =>
    change.kind === 'expire' && task.status === 'queued' ? { ...task, ackUntil: null, leaseUntil: null } : task,
}

test.each(Object.entries(PLANTED))('a planted fault is found: %s', (_name, plant) => {
  const rules: Rules = (task, change, now) => changeTask(plant(task, change), change, now)
  const found = SEEDS.slice(0, 200).some((seed) => {
    const world = simulate(seed, rules)
    return [...world.store.tasks.values()].some((task) => faultsOf(task, world).length > 0)
  })
  expect(found).toBe(true)
})

function simulate(seed: number, rules: Rules): SimulatedWorld {
  const world = new SimulatedWorld(seed, { agents: 3, faultsUntil: FAULTS_UNTIL, rules })
  for (let at = 0; at < TASKS; at++) {
    const taskId = `task-${at}`
    const submitAt = world.between(0, FAULTS_UNTIL)
    world.submitAt(submitAt, {
      taskId,
      requirements: { tool: 'demo', labels: [], models: [], nodes: [], minVramGb: null, preferredGpu: null },
      priority: world.between(0, 2),
      submitterId: `user-${world.between(0, 3)}`,
      maxRetries: world.between(0, 4),
      taskTimeoutMs: world.between(0, 3) * 10_000,
      resumeWindowMs: world.between(10_000, 30_000),
    })
    if (world.between(0, 10) === 0) world.cancelAt(submitAt + world.between(1, 20_000), taskId)
  }
  const { tasks } = world.store
  world.run(
    () => tasks.size === TASKS && [...tasks.values()].every(({ facts }) => TERMINAL.includes(facts.status)),
    GIVEN_UP_AT,
  )
  return world
}

/** What is wrong with a task's journal, held against what its agents wrote down. */
function faultsOf({ facts, journal }: SimulatedTask, world: SimulatedWorld): string[] {
  const { taskId, status } = facts
  const faults: string[] = []
  const claim = (holds: boolean, fault: string) => {
    if (!holds) faults.push(`${taskId}: ${fault}`)
  }
  claim(TERMINAL.includes(status), `is ${status} long after everything healed`)
  const ends = journal.filter(({ event }) => TERMINAL.includes(event.kind))
  claim(ends.length === 1 && ends[0] === journal.at(-1), `has ${ends.length} ends, or goes on after one`)
  claim(ends[0]?.event.kind === status, `is ${status} but its journal ends otherwise`)
  claim(journal.length === facts.eventCount, 'counts other events than it has')
  claim(facts.retryCount <= facts.maxRetries, `was tried again ${facts.retryCount} times`)

  const agents = world.agents.map(({ journal: written }) => written)
  for (let fence = 1; fence <= facts.fence; fence++) {
    const key = keyOf({ taskId, fence })
    const begun = agents.flatMap(({ begun }) => begun).filter((name) => name === key).length
    claim(begun <= 1, `attempt ${fence} ran ${begun} times`)
    const lines = journal.flatMap(({ event, fence: at }) => (event.kind === 'log' && at === fence ? [event.line] : []))
    const inOrder = lines.map((_, at) => `${key} ${at + 1}`)
    claim(JSON.stringify(lines) === JSON.stringify(inOrder), `attempt ${fence} has the log ${lines.join(', ')}`)
  }
  const ended = agents.flatMap(({ ended }) => ended.get(keyOf({ taskId, fence: facts.fence })) ?? [])
  if (status === 'completed') {
    claim(ended[0]?.outcome.kind === 'completed', 'was completed by nobody')
    claim(facts.output?.['fence'] === facts.fence, 'has the output of another attempt')
    const logs = journal.filter(({ event, fence }) => event.kind === 'log' && fence === facts.fence).length
    claim(logs + 1 === ended[0]?.made, `kept ${logs} lines of ${(ended[0]?.made ?? 0) - 1}`)
  }
  return faults
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}
