import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { randomOf } from '../random.ts'
import { Clients } from './clients.ts'
import { type FaultKind, planFaults } from './faults.ts'
import { checkHistory, type History, type KeptAttempt, type Violation } from './history.ts'
import { CampaignWorld } from './world.ts'

export interface CampaignOptions {
  engine: 'sqlite' | 'postgres'
  tasks: number
  faults: number
  seed: number
  /** Mean time between two faults. */
  pauseMs: number
  /** Where the journals go; made if it is not there. */
  directory: string
  /** Told what is going on, a line now and then. */
  say(line: string): void
}

export interface CampaignReport {
  accepted: number
  /** Done, of each kind. */
  faults: Partial<Record<FaultKind, number>>
  faultsDone: number
  statuses: Partial<Record<string, number>>
  /** Attempts after the first, over all tasks. */
  assignedAgain: number
  /** Reports of attempts that were given to another, once everything had ended: written, and refused as late. */
  stale: { written: number; refused: number }
  violations: Violation[]
}

const AGENTS = 4
/** Within this time after the last end an agent has heard of it, on whichever link, and removed what it had. */
const LET_GO_MS = 20_000
/** How long no task may end before those that are left count as stuck: longer than any lease and pause before a retry. */
const STUCK_MS = 240_000
const SAY_MS = 10_000

/**
 * Runs a server with agents and clients through faults, lets everything heal, and holds what everybody wrote down against
 * what was promised. The same seed plans the same faults and the same work; processes race as they like.
 */
export async function runCampaign(options: CampaignOptions): Promise<CampaignReport> {
  const { engine, tasks, faults, seed, pauseMs, directory, say } = options
  await using world = await CampaignWorld.start({ directory, engine, tasks }, AGENTS)
  const clients = new Clients(await world.owner(), randomOf(seed + 1))
  await clients.importWorkflows()
  const submitting = new Clients(await world.client(), randomOf(seed + 2))
  const plan = planFaults(seed, { faults, agents: AGENTS, without: world.impossible })
  say(
    `seed ${seed}: ${tasks} tasks under ${faults} faults on ${engine}; without ${world.impossible.join(', ') || 'none'}`,
  )

  const progress = setInterval(() => say(`${submitting.accepted.size} tasks accepted`), SAY_MS)
  const [done] = await Promise.all([
    inflictAll(world, plan, pauseMs),
    submitting.submitAll(tasks, faults * pauseMs),
  ]).finally(() => clearInterval(progress))
  say('everything heals now')
  await untilSettled(submitting, say)

  const kept = await untilLetGo(world)
  const runs = world.agents.flatMap((agent) => agent.runs())
  const stale = await world.writeAllStale()
  const stored = await submitting.readAll()
  const history: History = { accepted: submitting.accepted, seen: submitting.seen, stored, runs, kept }
  const violations = checkHistory(history)
  writeFileSync(
    join(directory, 'history.json'),
    JSON.stringify({ ...history, accepted: [...history.accepted], stored: [...stored] }),
  )
  return { ...reportOf(history, violations, done), stale }
}

/** One after the other, each lasting as long as it does: several are under way at once. */
async function inflictAll(
  world: CampaignWorld,
  plan: ReturnType<typeof planFaults>,
  pauseMs: number,
): Promise<Map<FaultKind, number>> {
  const done = new Map<FaultKind, number>()
  const underWay: Promise<void>[] = []
  for (const fault of plan) {
    await delay(fault.pause * pauseMs)
    const inflict = async () => {
      const isDone = await world.inflict(fault)
      // Its victim is suffering already: cutting a link can always be done.
      const kind = isDone ? fault.kind : 'cut_link'
      if (!isDone) await world.inflict({ ...fault, kind })
      done.set(kind, (done.get(kind) ?? 0) + 1)
    }
    underWay.push(inflict())
  }
  await Promise.all(underWay)
  return done
}

async function untilSettled(clients: Clients, say: (line: string) => void): Promise<void> {
  let left = -1
  for (let since = performance.now(); left !== 0 && performance.now() - since < STUCK_MS; await delay(500)) {
    const now = await clients.unfinished()
    if (now === left) continue
    say(`${now} tasks have not ended`)
    left = now
    since = performance.now()
  }
}

/** What agents still have when they have had time to let go of it. */
async function untilLetGo(world: CampaignWorld): Promise<KeptAttempt[]> {
  const kept = () => world.agents.flatMap((agent) => agent.kept())
  for (const since = performance.now(); kept().length > 0 && performance.now() - since < LET_GO_MS; ) await delay(200)
  return kept()
}

function reportOf(
  history: History,
  violations: Violation[],
  done: Map<FaultKind, number>,
): Omit<CampaignReport, 'stale'> {
  const statuses: Record<string, number> = {}
  let assignedAgain = 0
  for (const { status, events } of history.stored.values()) {
    statuses[status] = (statuses[status] ?? 0) + 1
    assignedAgain += Math.max(0, events.filter((event) => event.status === 'queued').length - 1)
  }
  return {
    accepted: history.accepted.size,
    faults: Object.fromEntries(done),
    faultsDone: [...done.values()].reduce((sum, count) => sum + count, 0),
    statuses,
    assignedAgain,
    violations,
  }
}
