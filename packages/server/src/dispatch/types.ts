import type { Log } from '@cyberun/link/log'
import type { Agents, AgentTasks } from '../agents/types.ts'
import type { Bus } from '../bus.ts'
import type { Files } from '../files/types.ts'
import type { Attempt } from '../model/attempt.ts'
import type { AgentSituation } from '../model/waiting-reason.ts'
import type { Store } from '../store/store.ts'
import type { NewTask, Submission } from '../store/submissions.ts'
import type { Tally } from '../tally.ts'
import type { DispatchLimits } from './limits.ts'

export interface DispatchOptions {
  store: Store
  bus: Bus
  log: Log
  /** Milliseconds since 1970, the same clock as that of `agents`. */
  now(): number
  agents: Pick<Agents, 'hasTunnel'>
  files: Pick<Files, 'serveArtifactStream' | 'serveInputStream'>
  gatewayId: string
  limits?: Partial<DispatchLimits>
}

/** Takes accepted tasks to agents and brings back what becomes of them. */
export interface Dispatch extends AgentTasks {
  /**
   * Stores a run as `submitTask` does. When an agent that is linked here could take it and nobody of its team waits, the
   * agent has it by the same transaction; else it waits to be claimed, for which `wake` is to be called.
   */
  submit(task: NewTask): Promise<Submission>
  /** There may be something to do for agents of this team. Cheap, and may be called as often as one likes. */
  wake(teamId: string): void
  /** Tells the agent that has this attempt to stop; the task is cancelled already. */
  cancel(attempt: Pick<Attempt, 'taskId' | 'fence'>): void
  /** The agents of a team that are linked here and what they are doing, for the reason why a task waits. */
  situations(teamId: string): AgentSituation[]
  /** The runs under way here whose agents say that they have a service, and where it is to listen. */
  exposed(): { attempt: Attempt; port: number }[]
  readonly counts: DispatchCounts
  /**
   * Claims nothing more, stores what agents have reported until `signal` aborts, and lets go of the attempts: they go on
   * at their agents, which attach them again when there is a server.
   */
  stop(signal: AbortSignal): Promise<void>
}

/** For metrics. */
export interface DispatchCounts {
  /** Attempts of agents that are linked here. */
  readonly attempts: number
  /** Characters that agents reported and the store has not taken yet. */
  readonly unstored: number
  /** Attempts that are over here, by how they ended. */
  readonly over: Tally
}
