import type { Log } from '@cyberun/link/log'
import type { Bus } from '../bus.ts'
import type { Store } from '../store/store.ts'
import type { Tally } from '../tally.ts'
import type { AttemptHost } from './attempt-stream.ts'
import type { DispatchLimits } from './limits.ts'
import type { Seats } from './seats.ts'

/** What the parts of dispatch share. */
export interface DispatchContext {
  readonly store: Store
  readonly bus: Bus
  readonly log: Log
  readonly limits: DispatchLimits
  readonly gatewayId: string
  readonly seats: Seats
  readonly host: AttemptHost
  /** Attempts that are over here, by how they ended. */
  readonly over: Tally
  /** Milliseconds since 1970. */
  now(): number
  /** There may be something to claim for agents of this team. */
  wake(teamId: string): void
  /** Does something that nobody waits for but `stop`; what it throws is logged under `event`. */
  run(event: string, work: () => Promise<void>): void
}
