import type { Attempt, ChangeAnswer, StoredEvent } from '../../src/model/attempt.ts'
import { type FreeAgent, type Lane, planClaims } from '../../src/model/fairness.ts'
import type { Requirements } from '../../src/model/requirements.ts'
import type { changeTask, TaskChange, TaskFacts } from '../../src/model/task-change.ts'

export interface SimulatedTask {
  facts: TaskFacts
  requirements: Requirements
  priority: number
  submitterId: string
  createdAt: number
  /** Every event with the fence that the task had then. */
  journal: { event: StoredEvent; fence: number }[]
}

export interface NewSimulatedTask {
  taskId: string
  requirements: Requirements
  priority: number
  submitterId: string
  maxRetries: number
  taskTimeoutMs: number
  resumeWindowMs: number
}

/** `changeTask`, or a planted fault in its place. */
export type Rules = typeof changeTask

/** The store's part in memory: the rules of `model/` applied to one task at a time, as its transactions do. */
export class SimulatedStore {
  readonly tasks = new Map<string, SimulatedTask>()
  readonly #now: () => number
  readonly #rules: Rules

  constructor(now: () => number, rules: Rules) {
    this.#now = now
    this.#rules = rules
  }

  submit(task: NewSimulatedTask): void {
    const facts: TaskFacts = {
      ...{ taskId: task.taskId, teamId: 'team', status: 'pending', fence: 0, agentId: null, gatewayId: null },
      ...{ retryCount: 0, maxRetries: task.maxRetries, eventCount: 1, acknowledged: 0 },
      ...{ ackUntil: null, leaseUntil: null, deadlineAt: null, startedAt: null, completedAt: null },
      ...{ taskTimeoutMs: task.taskTimeoutMs, resumeWindowMs: task.resumeWindowMs },
      ...{ error: null, output: null, refusedBy: [] },
    }
    const journal = [{ event: { kind: 'status' as const, status: 'pending' as const }, fence: 0 }]
    this.tasks.set(task.taskId, { ...task, facts, createdAt: this.#now(), journal })
  }

  apply(taskId: string, change: TaskChange): ChangeAnswer {
    const task = this.tasks.get(taskId)
    if (task === undefined) return { kind: 'late' }
    const step = this.#rules(task.facts, change, this.#now())
    task.journal.push(...step.events.map((event) => ({ event, fence: task.facts.fence })))
    task.facts = step.task
    return step.answer
  }

  claim(agents: readonly FreeAgent[], gatewayId: string, ackMs: number): Attempt[] {
    const picks = planClaims(this.#lanes(), agents, { held: this.#held(), warmth: () => 0, limit: 1 })
    return picks.flatMap(({ lane, agents: [agent] }) => {
      const task = this.tasks.get(lane.oldest.taskId)
      if (task === undefined || agent === undefined) return []
      const { facts } = task
      task.facts = {
        ...facts,
        status: 'queued',
        fence: facts.fence + 1,
        agentId: agent.agentId,
        gatewayId,
        acknowledged: 0,
        eventCount: facts.eventCount + 1,
        ackUntil: this.#now() + ackMs,
        leaseUntil: this.#now() + facts.resumeWindowMs,
      }
      task.journal.push({ event: { kind: 'status', status: 'queued' }, fence: task.facts.fence })
      return [{ teamId: 'team', taskId: facts.taskId, agentId: agent.agentId, fence: task.facts.fence }]
    })
  }

  renew(attempt: Attempt): boolean {
    const task = this.tasks.get(attempt.taskId)
    if (task === undefined || task.facts.fence !== attempt.fence || !isHeld(task.facts)) return false
    task.facts = { ...task.facts, leaseUntil: this.#now() + task.facts.resumeWindowMs }
    return true
  }

  sweep(): void {
    for (const taskId of this.tasks.keys()) this.apply(taskId, { kind: 'expire' })
  }

  heldBy(agentId: string): TaskFacts[] {
    return [...this.tasks.values()]
      .map(({ facts }) => facts)
      .filter((facts) => isHeld(facts) && facts.agentId === agentId)
  }

  clearRefusals(): void {
    for (const task of this.tasks.values()) task.facts = { ...task.facts, refusedBy: [] }
  }

  #lanes(): Lane[] {
    const lanes = new Map<string, Lane>()
    const waiting = [...this.tasks.values()].filter(
      ({ facts }) => facts.status === 'pending' || facts.status === 'waiting',
    )
    for (const { facts, requirements, priority, submitterId, createdAt } of waiting) {
      const requirementKey = JSON.stringify(requirements)
      const key = JSON.stringify([priority, submitterId, requirementKey, facts.refusedBy])
      if (lanes.has(key)) continue
      const oldest = { createdAt, taskId: facts.taskId }
      lanes.set(key, { priority, submitterId, requirementKey, requirements, refusedBy: facts.refusedBy, oldest })
    }
    return [...lanes.values()]
  }

  #held(): Map<string, number> {
    const held = new Map<string, number>()
    for (const { facts, submitterId } of this.tasks.values()) {
      if (isHeld(facts)) held.set(submitterId, (held.get(submitterId) ?? 0) + 1)
    }
    return held
  }
}

function isHeld({ status }: TaskFacts): boolean {
  return status === 'queued' || status === 'running'
}
