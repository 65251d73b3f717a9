import { type AgentOffer, isEligible, isPreferredGpu, type Requirements } from './requirements.ts'

/**
 * Waiting tasks that only differ in age: the same needs, refused by the same agents, of one priority and one submitter.
 * Within a lane the oldest goes first, so choosing among tasks is choosing among lanes.
 */
export interface Lane {
  priority: number
  submitterId: string
  requirementKey: string
  requirements: Requirements
  /** Agents that declined these tasks for something they do not have. */
  refusedBy: readonly string[]
  /** Of its oldest task. */
  oldest: { createdAt: number; taskId: string }
}

export interface FreeAgent extends AgentOffer {
  /** Tasks it can take now. */
  freeSlots: number
}

/** For the oldest tasks of one lane, in order: the agents they go to. */
export interface LanePick {
  lane: Lane
  agents: FreeAgent[]
}

export interface PlanOptions {
  /** Tasks that each submitter has on agents now. */
  held: ReadonlyMap<string, number>
  /** How many of these models an agent has run before. */
  warmth: (agentId: string, models: readonly string[]) => number
  /** Tasks to give away at most. */
  limit: number
}

/**
 * Chooses who gets what: the highest priority, then the submitter with the fewest tasks on agents, then the oldest task;
 * and for that task, of the agents that may run it, the one that has its models warm, then has the preferred GPU, then
 * has the most free slots. A lane may turn out shorter than its picks: then the slots stay free and the plan is made again.
 */
export function planClaims(lanes: readonly Lane[], agents: readonly FreeAgent[], options: PlanOptions): LanePick[] {
  const free = new Map(agents.map((agent) => [agent.agentId, agent.freeSlots]))
  const held = new Map(options.held)
  const open = new Map(lanes.map((lane) => [lane, agents.filter((agent) => mayTake(lane, agent))]))
  const picks = new Map<Lane, LanePick>()
  for (let given = 0; given < options.limit; given++) {
    const lane = nextLane(open, held, free)
    if (lane === undefined) break
    const agent = bestAgent(lane, open.get(lane) ?? [], free, options)
    if (agent === undefined) break
    free.set(agent.agentId, (free.get(agent.agentId) ?? 0) - 1)
    held.set(lane.submitterId, (held.get(lane.submitterId) ?? 0) + 1)
    const pick = picks.get(lane)
    if (pick === undefined) picks.set(lane, { lane, agents: [agent] })
    else pick.agents.push(agent)
  }
  return [...picks.values()]
}

/** Whether an agent may run the tasks of a lane at all. */
export function mayTake(lane: Pick<Lane, 'requirements' | 'refusedBy'>, agent: AgentOffer): boolean {
  return !lane.refusedBy.includes(agent.agentId) && isEligible(lane.requirements, agent)
}

type FreeSlots = ReadonlyMap<string, number>

function nextLane(
  open: ReadonlyMap<Lane, readonly FreeAgent[]>,
  held: ReadonlyMap<string, number>,
  free: FreeSlots,
): Lane | undefined {
  let best: Lane | undefined
  for (const [lane, agents] of open) {
    if (!agents.some((agent) => hasSlot(agent, free))) continue
    if (best === undefined || isBefore(lane, best, held)) best = lane
  }
  return best
}

function isBefore(a: Lane, b: Lane, held: ReadonlyMap<string, number>): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority
  const aHeld = held.get(a.submitterId) ?? 0
  const bHeld = held.get(b.submitterId) ?? 0
  if (aHeld !== bHeld) return aHeld < bHeld
  if (a.oldest.createdAt !== b.oldest.createdAt) return a.oldest.createdAt < b.oldest.createdAt
  return a.oldest.taskId < b.oldest.taskId
}

function bestAgent(lane: Lane, agents: readonly FreeAgent[], free: FreeSlots, options: PlanOptions) {
  let best: { agent: FreeAgent; rank: number[] } | undefined
  for (const agent of agents) {
    if (!hasSlot(agent, free)) continue
    const warmth = options.warmth(agent.agentId, lane.requirements.models)
    const rank = [warmth, isPreferredGpu(lane.requirements, agent) ? 1 : 0, free.get(agent.agentId) ?? 0]
    if (best === undefined || isHigher(rank, best.rank)) best = { agent, rank }
  }
  return best?.agent
}

function hasSlot(agent: FreeAgent, free: FreeSlots): boolean {
  return (free.get(agent.agentId) ?? 0) > 0
}

function isHigher(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, index) => value !== b[index])
  return at !== -1 && (a[at] ?? 0) > (b[at] ?? 0)
}
