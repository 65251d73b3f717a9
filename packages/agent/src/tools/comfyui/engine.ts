import type { Log } from '@cyberun/link/log'
import type { Cure } from './health.ts'
import type { Abilities, ComfyuiHttp } from './http.ts'
import type { ComfyuiSettings, ComfyuiTimes } from './settings.ts'
import type { ComfyuiSocket } from './socket.ts'
import type { Watchdog } from './watchdog.ts'

/** One process of ComfyUI, from its start to its end. */
export interface EngineLife {
  /** Why it is certain that nothing runs in it any more: it was ours, and ended. */
  readonly end: string | undefined
}

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
  /** The process that is there now. */
  life(): EngineLife
  /** Ends and starts it anew, when it is ours; else only its owner can, and it counts as unhealthy until it is cured. */
  restart(reason: string, cure: Cure): Promise<void>
  /** Something looks broken: no new run before the smallest one has passed. */
  doubt(): void
}
