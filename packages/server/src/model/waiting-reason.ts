import { type AgentOffer, type Missing, missingFrom, type Requirements } from './requirements.ts'

/** Why a task that waits may not run here or there. */
export interface WaitingFacts {
  requirements: Requirements
  /** Agents that declined it for something they do not have, and what they said. */
  refusals: readonly { agentId: string; message: string }[]
}

/** A connected agent and what it is doing. */
export interface AgentSituation extends AgentOffer {
  state: 'free' | 'busy' | 'tunnel' | 'unhealthy' | 'syncing'
}

/** Why a task waits, in one sentence for its owner: what is missing, or whom it waits for. */
export function waitingReason(facts: WaitingFacts, agents: readonly AgentSituation[]): string {
  if (agents.length === 0) return 'no agent is connected'
  const judged = agents.map((agent) => ({ agent, missing: missingFrom(facts.requirements, agent) }))
  const fitting = judged.filter(({ missing }) => missing.length === 0).map(({ agent }) => agent)
  if (fitting.length === 0) return nobodyHas(judged.map(({ missing }) => missing))
  const refused = (agent: AgentOffer) => facts.refusals.find(({ agentId }) => agentId === agent.agentId)
  const willing = fitting.filter((agent) => refused(agent) === undefined)
  if (willing.length === 0) {
    const said = fitting
      .flatMap((agent) => refused(agent) ?? [])
      .map(({ agentId, message }) => `${agentId}: ${message}`)
    return `every agent that fits declined it: ${said.slice(0, 3).join('; ')}`
  }
  return occupied(willing)
}

/** Names one thing that no agent has; or, when each lacks something else, what the closest one lacks. */
function nobodyHas(missing: readonly (readonly Missing[])[]): string {
  const [first = [], ...others] = missing
  const everywhere = first.filter(({ kind, name }) =>
    others.every((list) => list.some((other) => other.kind === kind && other.name === name)),
  )
  if (everywhere.length > 0) return `no connected agent has ${words(everywhere)}`
  const [closest = []] = missing.toSorted((a, b) => a.length - b.length)
  return `no connected agent has everything it needs; the closest lacks ${words(closest)}`
}

function words(missing: readonly Missing[]): string {
  const shown = missing.slice(0, 3).map(({ kind, name }) => (kind === 'VRAM' ? `${name} of VRAM` : `${kind} ${name}`))
  const more = missing.length - shown.length
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '')
}

const STATE_WORDS = {
  busy: 'busy',
  tunnel: 'in use through a tunnel',
  unhealthy: 'unhealthy',
  syncing: 'pulling models',
} as const

function occupied(agents: readonly AgentSituation[]): string {
  const counts = Object.entries(STATE_WORDS).flatMap(([state, said]) => {
    const count = agents.filter((agent) => agent.state === state).length
    return count === 0 ? [] : [{ count, said }]
  })
  if (agents.some(({ state }) => state === 'free')) return 'an agent is free: it is about to start'
  const [only] = counts
  if (agents.length === 1 && only !== undefined) return `the only agent that fits is ${only.said}`
  if (counts.length === 1 && only !== undefined) return `all ${agents.length} agents that fit are ${only.said}`
  return `of ${agents.length} agents that fit ${counts.map(({ count, said }) => `${count} ${count === 1 ? 'is' : 'are'} ${said}`).join(', ')}`
}
