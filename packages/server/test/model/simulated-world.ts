import type { AttemptOutcome } from '@cyberun/protocol'
import { randomOf } from '@cyberun/testkit'
import type { Attempt, ChangeAnswer } from '../../src/model/attempt.ts'
import type { FreeAgent } from '../../src/model/fairness.ts'
import { type NewSimulatedTask, type Rules, SimulatedStore } from './simulated-store.ts'

const ACK_MS = 5_000
const SLOTS = 2

/** What an agent has of an attempt: what it made, and how far the server has it. */
interface Work {
  attempt: Attempt
  made: number
  acknowledged: number
  outcome: AttemptOutcome | undefined
}

/** A link: what is sent over it arrives in order, or, once it is cut, not at all. */
interface Link {
  isUp: boolean
  /** When the last message arrives, in each direction. */
  arrival: { up: number; down: number }
}

/** What an agent wrote down itself, for the checker. */
export interface AgentJournal {
  /** `task fence` of every run it began. */
  begun: string[]
  /** `task fence` of every run it ended, with its outcome. */
  ended: Map<string, { outcome: AttemptOutcome; made: number }>
}

class SimulatedAgent {
  readonly agentId: string
  readonly journal: AgentJournal = { begun: [], ended: new Map() }
  work = new Map<string, Work>()
  link: Link | undefined
  pausedUntil = 0

  constructor(agentId: string) {
    this.agentId = agentId
  }
}

/**
 * Servers, agents and the network between them in virtual time, driven by one seed: links are cut, messages repeated,
 * agents stopped and started, servers killed. Until `faultsUntil`; after that everything heals.
 */
export class SimulatedWorld {
  readonly store: SimulatedStore
  readonly agents: SimulatedAgent[]
  readonly #random: () => number
  readonly #faultsUntil: number
  readonly #events: { at: number; order: number; run: () => void }[] = []
  #now = 0
  #order = 0
  #isServerUp = true

  constructor(seed: number, { agents, faultsUntil, rules }: { agents: number; faultsUntil: number; rules: Rules }) {
    this.#random = randomOf(seed)
    this.#faultsUntil = faultsUntil
    this.store = new SimulatedStore(() => this.#now, rules)
    this.agents = Array.from({ length: agents }, (_, at) => new SimulatedAgent(`agent-${at}`))
    for (const agent of this.agents) this.#in(this.between(0, 500), () => this.#dial(agent))
    this.#in(10, () => this.#upkeep())
    this.#in(this.between(100, 2_000), () => this.#fault())
  }

  /** From `least` to just below `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.#random() * (most - least))
  }

  submitAt(at: number, task: NewSimulatedTask): void {
    this.#in(at, () => this.store.submit(task))
  }

  cancelAt(at: number, taskId: string): void {
    this.#in(at, () => {
      const answer = this.store.apply(taskId, { kind: 'cancel' })
      if (answer.kind !== 'stored' || answer.ended === undefined) return
      const { ended } = answer
      const agent = this.agents.find(({ agentId }) => agentId === ended.agentId)
      if (agent !== undefined && this.#isServerUp) this.#send(agent, 'down', () => this.#isLate(agent, ended))
    })
  }

  /** Runs until `isDone` or `until`. */
  run(isDone: () => boolean, until: number): void {
    while (this.#events.length > 0 && this.#now < until && !isDone()) {
      const next = this.#events.reduce((a, b) => (b.at < a.at || (b.at === a.at && b.order < a.order) ? b : a))
      this.#events.splice(this.#events.indexOf(next), 1)
      this.#now = next.at
      next.run()
    }
  }

  #in(ms: number, run: () => void): void {
    this.#events.push({ at: this.#now + ms, order: this.#order++, run })
  }

  /** Once a second: times, leases, claims. Every server does the same; which of them does it here never matters. */
  #upkeep(): void {
    this.#in(1_000, () => this.#upkeep())
    if (!this.#isServerUp) return
    this.store.sweep()
    for (const agent of this.agents.filter(({ link }) => link?.isUp)) {
      for (const work of agent.work.values()) {
        // The lease is the server's word that it hears the agent: a stopped one does not answer its pings.
        if (agent.pausedUntil <= this.#now) this.store.renew(work.attempt)
      }
    }
    this.#claim()
  }

  #claim(): void {
    for (;;) {
      const free = this.agents.filter(({ link }) => link?.isUp).map((agent) => this.#freeAgent(agent))
      const [attempt] = this.store.claim(free, 'gw-1', ACK_MS)
      const agent = this.agents.find(({ agentId }) => agentId === attempt?.agentId)
      if (attempt === undefined || agent === undefined) return
      this.#send(agent, 'down', () => this.#begin(agent, attempt))
    }
  }

  #freeAgent({ agentId }: SimulatedAgent): FreeAgent {
    return {
      ...{ agentId, labels: new Set<string>(), tools: new Set(['demo'] as const), models: 'any', nodeClasses: 'any' },
      ...{ vramGb: 0, gpuName: null, freeSlots: SLOTS - this.store.heldBy(agentId).length },
    }
  }

  #begin(agent: SimulatedAgent, attempt: Attempt): void {
    const key = keyOf(attempt)
    if (agent.work.has(key)) return
    if (this.#random() < 0.05) {
      const reason = this.#random() < 0.5 ? 'missing_model' : 'no_slot'
      this.#report(agent, () => this.store.apply(attempt.taskId, { kind: 'decline', attempt, reason, message: 'no' }))
      return
    }
    const work: Work = { attempt, made: 0, acknowledged: 0, outcome: undefined }
    agent.work.set(key, work)
    agent.journal.begun.push(key)
    this.#report(agent, () => this.store.apply(attempt.taskId, { kind: 'accept', attempt }), work)
    this.#in(this.between(10, 3_000), () => this.#step(agent, work))
  }

  /** One more event of a run, or its end. */
  #step(agent: SimulatedAgent, work: Work): void {
    if (agent.work.get(keyOf(work.attempt)) !== work || work.outcome !== undefined) return
    if (agent.pausedUntil > this.#now) {
      this.#in(agent.pausedUntil - this.#now, () => this.#step(agent, work))
      return
    }
    work.made++
    if (this.#random() < 0.3) {
      work.outcome = this.#anyOutcome(work)
      agent.journal.ended.set(keyOf(work.attempt), { outcome: work.outcome, made: work.made })
    } else this.#in(this.between(10, 3_000), () => this.#step(agent, work))
    this.#sendLine(agent, work, work.made)
  }

  #anyOutcome({ attempt }: Work): AttemptOutcome {
    const drawn = this.#random()
    if (drawn < 0.8) return { kind: 'completed', output: { agent: attempt.agentId, fence: attempt.fence } }
    const fault = drawn < 0.9 ? 'tool' : drawn < 0.95 ? 'missing' : 'client'
    return { kind: 'failed', code: 'drawn', message: 'drawn', fault }
  }

  #sendLine(agent: SimulatedAgent, work: Work, sequence: number): void {
    const { attempt, outcome, made } = work
    const isLast = outcome !== undefined && sequence === made
    const timestamp = '2026-01-01T00:00:00Z'
    const line = { stream: 'stdout' as const, line: `${keyOf(attempt)} ${sequence}`, timestamp }
    const events = [{ sequence, event: { kind: 'log' as const, lines: [line] } }]
    const apply = () =>
      isLast
        ? this.store.apply(attempt.taskId, { kind: 'finish', attempt, sequence, outcome })
        : this.store.apply(attempt.taskId, { kind: 'report', attempt, events })
    this.#report(agent, apply, work)
    if (this.#now < this.#faultsUntil && this.#random() < 0.05) this.#report(agent, apply, work)
  }

  /** A line to the server and its answer back. */
  #report(agent: SimulatedAgent, apply: () => ChangeAnswer, work?: Work): void {
    this.#send(agent, 'up', () => {
      const answer = apply()
      if (work !== undefined) this.#send(agent, 'down', () => this.#hear(agent, work, answer))
      if (answer.kind === 'stored') this.#claim()
    })
  }

  #hear(agent: SimulatedAgent, work: Work, answer: ChangeAnswer): void {
    switch (answer.kind) {
      case 'late':
        this.#isLate(agent, work.attempt)
        break
      case 'gap':
        for (let at = answer.acknowledged + 1; at <= work.made; at++) this.#sendLine(agent, work, at)
        break
      case 'stored':
        work.acknowledged = Math.max(work.acknowledged, answer.acknowledged)
        if (work.outcome !== undefined && work.acknowledged >= work.made) agent.work.delete(keyOf(work.attempt))
        break
      case 'nothing':
        break
    }
  }

  #isLate(agent: SimulatedAgent, attempt: Attempt): void {
    agent.work.delete(keyOf(attempt))
  }

  /** A new link: the server compares what the agent has with what it should have; the agent attaches what it has. */
  #dial(agent: SimulatedAgent): void {
    if (agent.link?.isUp) return
    if (!this.#isServerUp || agent.pausedUntil > this.#now) {
      this.#in(500, () => this.#dial(agent))
      return
    }
    agent.link = { isUp: true, arrival: { up: this.#now, down: this.#now } }
    for (const { taskId, fence, status } of this.store.heldBy(agent.agentId)) {
      const attempt = { teamId: 'team', taskId, agentId: agent.agentId, fence }
      if (agent.work.has(keyOf(attempt)) || status !== 'running') continue
      this.store.apply(taskId, { kind: 'release', attempt, cause: 'agent_restarted', message: 'restarted' })
    }
    for (const work of agent.work.values()) this.#attach(agent, work)
    this.#claim()
  }

  #attach(agent: SimulatedAgent, work: Work): void {
    const { attempt } = work
    this.#send(agent, 'up', () => {
      const answer = this.store.apply(attempt.taskId, { kind: 'attach', attempt, gatewayId: 'gw-2' })
      this.#send(agent, 'down', () => {
        this.#hear(agent, work, answer)
        if (answer.kind !== 'stored') return
        for (let at = answer.acknowledged + 1; at <= work.made; at++) this.#sendLine(agent, work, at)
      })
    })
  }

  /** Arrives in order and only while this link and the server live; a stopped agent hears it when it goes on. */
  #send(agent: SimulatedAgent, direction: 'up' | 'down', arrive: () => void): void {
    const { link } = agent
    if (!link?.isUp || !this.#isServerUp) return
    const stopped = Math.max(0, agent.pausedUntil - this.#now)
    const at = Math.max(link.arrival[direction], this.#now + this.between(1, 100) + stopped)
    link.arrival[direction] = at
    this.#in(at - this.#now, () => {
      if (agent.link === link && link.isUp) arrive()
    })
  }

  #cut(agent: SimulatedAgent): void {
    if (agent.link !== undefined) agent.link.isUp = false
    // Sometimes back at once, sometimes after its attempts were lost.
    this.#in(this.#random() < 0.7 ? this.between(100, 3_000) : this.between(10_000, 40_000), () => this.#dial(agent))
  }

  #fault(): void {
    if (this.#now >= this.#faultsUntil) {
      this.#heal()
      return
    }
    this.#in(this.between(200, 5_000), () => this.#fault())
    const agent = this.agents[this.between(0, this.agents.length)]
    if (agent === undefined) return
    const drawn = this.#random()
    if (drawn < 0.4) this.#cut(agent)
    else if (drawn < 0.6) agent.pausedUntil = this.#now + this.between(100, 40_000)
    else if (drawn < 0.8) {
      // Restarted: what it ran is gone with it.
      agent.work = new Map()
      this.#cut(agent)
    } else this.#killServer()
  }

  #killServer(): void {
    if (!this.#isServerUp) return
    this.#isServerUp = false
    for (const agent of this.agents) this.#cut(agent)
    this.#in(this.between(100, 15_000), () => {
      this.#isServerUp = true
    })
  }

  #heal(): void {
    this.store.clearRefusals()
    for (const agent of this.agents) this.#in(0, () => this.#dial(agent))
    this.#in(20_000, () => this.#heal())
  }
}

export function keyOf({ taskId, fence }: { taskId: string; fence: number }): string {
  return `${taskId} ${fence}`
}
