import type { Activity } from './activity.ts'
import type { QueueState } from './answers.ts'
import type { ComfyuiTimes } from './settings.ts'

/** Activity is judged over at least this long. */
const WINDOW_MS = 5_000
/** Below this share of one core a process does no more than answer our questions. */
const IDLE_CORE_SHARE = 0.03
const IDLE_DISK_BYTES = 1024 * 1024

export interface WatchdogOptions {
  readonly times: Pick<ComfyuiTimes, 'idleWorkerMs' | 'blindStallMs'>
  readonly stallMs: number
  now(): number
}

/**
 * Tells a ComfyUI that works from one that only answers. Its worker can die, or a node hang, while HTTP goes on: then
 * the queue does not move, the socket is silent, and the process uses neither processor nor disk. A node that is merely
 * long and silent (a model of 20 GB being read) does use them, so silence alone condemns nobody.
 */
export class Watchdog {
  readonly #options: WatchdogOptions
  #running: string | undefined
  /** When the running prompt last gave a sign: began, sent a message, used the machine. */
  #signAt = 0
  #lookedAt: number | undefined
  #idleSince: number | undefined
  #window: { at: number; activity: Activity } | undefined
  #isBlind = true
  #verdict: string | undefined

  constructor(options: WatchdogOptions) {
    this.#options = options
  }

  /** One sentence, while it is stuck. */
  get stuck(): string | undefined {
    return this.#verdict
  }

  /** The socket told something of the running prompt. */
  sign(): void {
    this.#signAt = this.#options.now()
  }

  /** A ComfyUI that has been started anew has no past. */
  reset(): void {
    this.#running = undefined
    this.#idleSince = undefined
    this.#window = undefined
    this.#verdict = undefined
  }

  /** Takes a look at what the process has done; `activity` undefined when it cannot be looked at. */
  observeActivity(activity: Activity | undefined): void {
    this.#isBlind = activity === undefined
    if (activity !== undefined && this.#running !== undefined) this.#judgeActivity(this.#options.now(), activity)
  }

  /** Takes a look at the queue. */
  observeQueue(queue: QueueState): void {
    const now = this.#options.now()
    this.#forgive(now)
    const running = queue.running[0]
    if (running !== this.#running) {
      this.#running = running
      this.#signAt = now
      this.#window = undefined
    }
    this.#idleSince = running === undefined && queue.pending.length > 0 ? (this.#idleSince ?? now) : undefined
    this.#verdict = this.#judge(now, queue)
  }

  get #windowMs(): number {
    return Math.min(WINDOW_MS, this.#options.stallMs / 4)
  }

  /** What is beyond the usual pause between two looks was spent by us, held up or suspended: no silence of the prompt. */
  #forgive(now: number): void {
    const unseenMs = now - (this.#lookedAt ?? now) - this.#windowMs
    if (unseenMs > 0) this.#signAt = Math.min(now, this.#signAt + unseenMs)
    this.#lookedAt = now
  }

  #judge(now: number, queue: QueueState): string | undefined {
    const { times, stallMs } = this.#options
    if (this.#idleSince !== undefined && now - this.#idleSince >= times.idleWorkerMs) {
      return `ComfyUI answers, but its worker is dead: ${queue.pending.length} prompts wait and none runs. Restart ComfyUI.`
    }
    if (this.#running === undefined) return undefined
    const silentMs = now - this.#signAt
    if (silentMs < (this.#isBlind ? times.blindStallMs : stallMs)) return undefined
    const seconds = Math.round(silentMs / 1000)
    return `ComfyUI answers, but has not worked on its prompt for ${seconds} s: a dead worker or a frozen node. Restart ComfyUI.`
  }

  #judgeActivity(now: number, activity: Activity): void {
    this.#window ??= { at: now, activity }
    const elapsed = now - this.#window.at
    if (elapsed < this.#windowMs) return
    const cpuShare = (activity.cpuMs - this.#window.activity.cpuMs) / elapsed
    const diskBytes = activity.diskBytes - this.#window.activity.diskBytes
    if (cpuShare > IDLE_CORE_SHARE || diskBytes > IDLE_DISK_BYTES) this.#signAt = now
    this.#window = { at: now, activity }
  }
}
