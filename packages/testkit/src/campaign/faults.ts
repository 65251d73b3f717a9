import { randomOf } from '../random.ts'

/** What a campaign does to processes and networks, with how often it does it. */
const WEIGHTS = {
  cut_link: 30,
  kill_agent: 14,
  black_hole: 12,
  kill_agent_in_black_hole: 8,
  duplicate_link: 8,
  stop_agent: 8,
  stop_agent_past_lease: 7,
  kill_server: 6,
  stop_server_past_lease: 1,
  kill_database: 6,
  fill_disk: 6,
} as const

export type FaultKind = keyof typeof WEIGHTS

export interface PlannedFault {
  kind: FaultKind
  /** Which agent, of those there are; faults of servers pass it over. */
  agent: number
  /** From 0 to 1: how long it lasts, between the shortest and the longest of its kind. */
  extent: number
  /** After the one before, as a share of the mean pause. */
  pause: number
}

/** The faults of a seed: the same for the same, whatever happened meanwhile. Kinds that cannot be done here are left out. */
export function planFaults(
  seed: number,
  { faults, agents, without }: { faults: number; agents: number; without: readonly FaultKind[] },
): PlannedFault[] {
  const random = randomOf(seed)
  const kinds = Object.entries(WEIGHTS).filter(([kind]) => !without.some((left) => left === kind))
  const total = kinds.reduce((sum, [, weight]) => sum + weight, 0)
  const draw = (): FaultKind => {
    let left = random() * total
    for (const [kind, weight] of kinds) {
      left -= weight
      if (left < 0) return kind as FaultKind
    }
    return 'cut_link'
  }
  return Array.from({ length: faults }, () => ({
    kind: draw(),
    agent: Math.floor(random() * agents),
    extent: random(),
    pause: 0.5 + random(),
  }))
}
