import type { Log } from '@cyberun/link/log'
import type { Cure } from './health.ts'
import type { Abilities, ComfyuiHttp } from './http.ts'
import type { ComfyuiSettings, ComfyuiTimes } from './settings.ts'
import type { ComfyuiSocket } from './socket.ts'
import type { Watchdog } from './watchdog.ts'

/** One ComfyUI, as everything that works with it sees it. */
export interface Engine {
  readonly http: ComfyuiHttp
  readonly socket: ComfyuiSocket
  readonly watchdog: Watchdog
  readonly settings: ComfyuiSettings
  readonly times: ComfyuiTimes
  readonly log: Log
  now(): number
  /** What it can do, asked once after each start of it. */
  abilities(signal: AbortSignal): Promise<Abilities>
  /** Why it is certain that nothing runs now: our own process ended. Undefined otherwise. */
  down(): string | undefined
  /** Ends and starts it anew, when it is ours; else only its owner can, and it counts as unhealthy until it is cured. */
  restart(reason: string, cure: Cure): Promise<void>
  /** Something looks broken: no new run before the smallest one has passed. */
  doubt(): void
}
