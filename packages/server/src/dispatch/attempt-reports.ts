import { ApiError } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import type { AttemptEvent, AttemptOutcome, DeclineReason } from '@cyberun/protocol'
import type { Attempt, ChangeAnswer } from '../model/attempt.ts'
import { acknowledgeAttempt, appendEvents, declineAttempt, settleAttempt } from '../store/attempts.ts'
import type { Store } from '../store/store.ts'
import type { DispatchLimits } from './limits.ts'

/** One thing that an attempt's agent said and that is to be stored. */
export type Report =
  | { kind: 'accepted' }
  | { kind: 'declined'; reason: DeclineReason; message: string }
  | { kind: 'event'; sequence: number; event: AttemptEvent }
  | { kind: 'finished'; sequence: number; outcome: AttemptOutcome }

export interface ReportsOptions {
  store: Store
  log: Log
  limits: DispatchLimits
  attempt: Attempt
  /** What storing the last of some reports came to. */
  onStored(answer: ChangeAnswer, reports: readonly Report[]): void
  /** The store refused for a reason that will not pass. */
  onFault(error: unknown): void
}

interface Waiting {
  report: Report
  characters: number
}

/**
 * Stores what one agent reports about one attempt, in order. What comes while a write is under way goes with the next
 * one. While the database cannot be used it is tried again; what waits is bounded, because nobody grants the agent credit
 * for it (`isFull`).
 */
export class AttemptReports {
  readonly #options: ReportsOptions
  #waiting: Waiting[] = []
  #unstored = 0
  #writing: Promise<void> | undefined
  #isStopped = false
  /** Ends the pause before the next try. */
  #endPause: (() => void) | undefined
  #onRoom: (() => void)[] = []

  constructor(options: ReportsOptions) {
    this.#options = options
  }

  /** Characters that are not stored yet. */
  get unstored(): number {
    return this.#unstored
  }

  get isFull(): boolean {
    return this.#unstored > this.#options.limits.unstoredCharacters
  }

  /** `characters`: of the line it came in. */
  add(report: Report, characters: number): void {
    this.#waiting.push({ report, characters })
    this.#unstored += characters
    this.#writing ??= this.#write()
  }

  /** Calls back once there is room again, or nothing is stored any more. */
  whenRoom(tell: () => void): void {
    this.#onRoom.push(tell)
  }

  /** Resolves when everything reported until now is stored, or given up. Never rejects. */
  async settled(): Promise<void> {
    await this.#writing
  }

  /** Tries nothing again from here on, and forgets what waits. */
  stop(): void {
    this.#isStopped = true
    this.#endPause?.()
    this.#waiting = []
    this.#unstored = 0
    this.#tellOfRoom()
  }

  async #write(): Promise<void> {
    // What is read in this turn of the loop is one write.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      await this.#store(batch.map(({ report }) => report))
      this.#unstored = Math.max(0, this.#unstored - batch.reduce((sum, { characters }) => sum + characters, 0))
      if (!this.isFull) this.#tellOfRoom()
    }
    this.#writing = undefined
  }

  #tellOfRoom(): void {
    for (const tell of this.#onRoom.splice(0)) tell()
  }

  /** Every report may be stored twice: the second time changes nothing. */
  async #store(reports: readonly Report[]): Promise<void> {
    const { limits, attempt, log, onStored, onFault } = this.#options
    for (let waitMs: number = limits.retryMs; !this.#isStopped; waitMs = Math.min(waitMs * 2, limits.longestRetryMs)) {
      try {
        const answer = await this.#storeOnce(reports)
        if (!this.#isStopped) onStored(answer, reports)
        return
      } catch (error) {
        if (!(error instanceof ApiError && error.code === 'unavailable')) {
          log.error({ error, task_id: attempt.taskId, agent_id: attempt.agentId }, 'attempt.store_failed')
          if (!this.#isStopped) onFault(error)
          return
        }
        log.warn(
          { error: error.cause, task_id: attempt.taskId, agent_id: attempt.agentId, wait_ms: waitMs },
          'attempt.store_waits',
        )
        await this.#pause(waitMs)
      }
    }
  }

  /** The writes are issued together, and the store does them in this order, in one transaction if it can. */
  async #storeOnce(reports: readonly Report[]): Promise<ChangeAnswer> {
    const { store, attempt } = this.#options
    const writes: Promise<ChangeAnswer>[] = []
    const events = reports.flatMap((report) => (report.kind === 'event' ? [report] : []))
    const [first] = reports
    if (first?.kind === 'accepted') writes.push(acknowledgeAttempt(store, attempt))
    if (first?.kind === 'declined') writes.push(declineAttempt(store, attempt, first))
    if (events.length > 0) writes.push(appendEvents(store, attempt, events))
    const last = reports.at(-1)
    if (last?.kind === 'finished') writes.push(settleAttempt(store, attempt, last))
    const answers = await Promise.allSettled(writes)
    for (const answer of answers) if (answer.status === 'rejected') throw answer.reason
    const fulfilled = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
    // The first that was not stored says what is wrong; those after it only follow from that.
    return fulfilled.find(({ kind }) => kind !== 'stored') ?? fulfilled.at(-1) ?? { kind: 'nothing' }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
