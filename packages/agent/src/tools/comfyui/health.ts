import { inTime } from '../../in-time.ts'
import type { ToolHealth } from '../tool.ts'
import type { Activity } from './activity.ts'
import { runCanary } from './canary.ts'
import { type ComfyuiHttp, ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import type { ComfyuiTimes } from './settings.ts'
import type { Turns } from './turns.ts'
import type { Watchdog } from './watchdog.ts'

/** Health is asked for every few seconds and must not take long: a canary that does is looked at next time. */
const PATIENCE_MS = 2_000

type Proof =
  | { readonly kind: 'wanted' }
  | { readonly kind: 'running'; readonly over: Promise<void> }
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed'; readonly reason: string; readonly at: number }

/** Until when a ComfyUI that is beyond our help counts as unhealthy: until it is started anew, or lets go of its prompt. */
export type Cure = 'restart' | 'idle'

export interface HealthOptions {
  readonly http: ComfyuiHttp
  readonly watchdog: Watchdog
  readonly turns: Turns
  readonly times: ComfyuiTimes
  now(): number
  /** What the process has done; undefined when it cannot be looked at. */
  readActivity(): Promise<Activity | undefined>
}

/** Whether a ComfyUI works: it answers, its queue moves, and the smallest prompt ran since something last looked wrong. */
export class Health {
  readonly #options: HealthOptions
  readonly #over = new AbortController()
  #proof: Proof = { kind: 'wanted' }
  #isReborn = false
  #condemned: { reason: string; until: Cure } | undefined

  constructor(options: HealthOptions) {
    this.#options = options
  }

  /** Why it must not be given anything now, as far as is known without asking it. */
  get known(): string | undefined {
    return (
      this.#condemned?.reason ??
      this.#options.watchdog.stuck ??
      (this.#proof.kind === 'failed' ? this.#proof.reason : undefined)
    )
  }

  /** A ComfyUI that was started anew, or looks broken, proves itself before it counts as ready. */
  demandProof(): void {
    if (this.#proof.kind !== 'running') this.#proof = { kind: 'wanted' }
  }

  /** The old one ended: what was wrong with it is over. */
  reborn(): void {
    this.#condemned = undefined
    this.#isReborn = true
    this.#options.watchdog.reset()
    this.demandProof()
  }

  condemn(reason: string, until: Cure): void {
    this.#condemned = { reason, until }
  }

  stop(): void {
    this.#over.abort()
  }

  async ask(signal: AbortSignal): Promise<ToolHealth> {
    const { http, watchdog, readActivity } = this.#options
    try {
      await http.stats(signal)
      const queue = await http.queue(signal)
      watchdog.observeQueue(queue)
      const isIdle = queue.running.length + queue.pending.length === 0
      if (!isIdle) watchdog.observeActivity(await readActivity())
      if (isIdle && this.#condemned?.until === 'idle') this.#condemned = undefined
      const reason = this.#condemned?.reason ?? watchdog.stuck
      if (reason !== undefined) {
        this.demandProof()
        return { state: 'unhealthy', reason }
      }
      return this.#askProof(isIdle)
    } catch (error) {
      if (error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal) {
        this.demandProof()
        return { state: 'unhealthy', reason: `${error.message}.` }
      }
      throw error
    }
  }

  async #askProof(isIdle: boolean): Promise<ToolHealth> {
    const { turns, times, now } = this.#options
    const isDue =
      this.#proof.kind === 'wanted' || (this.#proof.kind === 'failed' && now() - this.#proof.at >= times.canaryAgainMs)
    if (isDue && isIdle && !turns.taken) this.#prove()
    if (this.#isReborn) {
      // Told once, however quick the proof is: what it offers is asked again when it turns ready.
      this.#isReborn = false
      return { state: 'starting' }
    }
    if (this.#proof.kind === 'running') await inTime(this.#proof.over, PATIENCE_MS)
    switch (this.#proof.kind) {
      case 'passed':
        return { state: 'ready' }
      case 'running':
        return { state: 'starting' }
      case 'wanted':
        // Its queue moves with somebody's work: no better proof.
        return { state: 'ready' }
      case 'failed':
        return { state: 'unhealthy', reason: this.#proof.reason }
    }
  }

  #prove(): void {
    const { http, turns, times, now } = this.#options
    const over = (async () => {
      const giveBack = await turns.take(this.#over.signal, () => {})
      if (giveBack === undefined) return
      try {
        const reason = await runCanary(http, times, this.#over.signal)
        this.#proof = reason === undefined ? { kind: 'passed' } : { kind: 'failed', reason, at: now() }
      } catch (error) {
        // Only the end of everything cuts a canary off.
        if (!this.#over.signal.aborted) throw error
      } finally {
        giveBack()
      }
    })()
    this.#proof = { kind: 'running', over }
  }
}
