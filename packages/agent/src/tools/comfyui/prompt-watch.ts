import { AgentStopping } from '../tool.ts'
import type { HistoryEntry, QueueState } from './answers.ts'
import { Bell } from './bell.ts'
import type { Engine, EngineLife } from './engine.ts'
import { ComfyuiRefusal, ComfyuiSilence } from './http.ts'
import type { SocketNews } from './socket.ts'

/** How a prompt ended, as far as queue and history tell. */
export type Verdict =
  | { readonly kind: 'finished'; readonly entry: HistoryEntry }
  /** Cancelled by us, and out of ComfyUI. */
  | { readonly kind: 'cancelled' }
  /** Neither queued nor finished: ComfyUI was started anew, or somebody cleared its queue. */
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'stuck'; readonly reason: string }

/** The steps of the cancel ladder. */
export interface CancelSteps {
  readonly asked: AbortSignal
  readonly again: AbortSignal
  readonly kill: AbortSignal
}

export interface WatchHandlers {
  onNews(news: SocketNews): void
  /** So many prompts are in front of ours inside ComfyUI; 0 when ours runs. */
  onPosition(position: number): void
  /** Whether all that the socket tells of the prompt is here, or never will be. */
  hasAll(): boolean
}

type Place =
  | { readonly kind: 'queued'; readonly queue: QueueState; readonly position: number }
  | { readonly kind: 'finished'; readonly entry: HistoryEntry }
  | { readonly kind: 'absent' }

/**
 * Where a prompt is: in the queue, in history, or nowhere. It may move between two questions, so the queue is asked
 * again when history did not have it.
 */
export async function locate(engine: Engine, promptId: string, signal: AbortSignal): Promise<Place> {
  const { http } = engine
  const abilities = await engine.abilities(signal)
  if (abilities.hasJobs && !(await http.knowsJob(promptId, signal))) return { kind: 'absent' }
  for (const isLastLook of [false, true]) {
    const queue = await http.queue(signal)
    const position = [...queue.running, ...queue.pending].indexOf(promptId)
    if (position >= 0) return { kind: 'queued', queue, position }
    const entry = isLastLook ? undefined : await http.history(promptId, signal)
    if (entry !== undefined) return { kind: 'finished', entry }
  }
  const entry = await http.history(promptId, signal)
  return entry === undefined ? { kind: 'absent' } : { kind: 'finished', entry }
}

/**
 * Watches a submitted prompt to its end. Queue and history are the truth and are asked every second; what comes over the
 * socket only makes the next question come earlier. While `steps.asked` is aborted the prompt is being cancelled, which
 * ends with it gone, or with ComfyUI restarted. `early` is what the socket told between the submission and this call.
 */
export async function watchPrompt(
  engine: Engine,
  promptId: string,
  steps: CancelSteps,
  handlers: WatchHandlers,
  early: readonly SocketNews[] = [],
): Promise<Verdict> {
  const watch = new PromptWatch(engine, promptId, steps, handlers)
  for (const news of early) watch.take(news)
  try {
    return await watch.toEnd()
  } finally {
    watch.stop()
  }
}

class PromptWatch {
  readonly #engine: Engine
  readonly #promptId: string
  readonly #steps: CancelSteps
  readonly #handlers: WatchHandlers
  /** Of the process that has the prompt: the next one may be up before anybody looks. */
  readonly #life: EngineLife
  readonly #bell = new Bell()
  readonly #stops: (() => void)[] = []
  /** Calls go on while a run is cancelled: they are how it is cancelled. */
  readonly #own = new AbortController()
  #absentAt: number | undefined
  #finishedAt: number | undefined
  #silentSince: number | undefined
  #position: number | undefined
  #interruptedAt = Number.NEGATIVE_INFINITY
  #killedAt: number | undefined

  constructor(engine: Engine, promptId: string, steps: CancelSteps, handlers: WatchHandlers) {
    this.#engine = engine
    this.#promptId = promptId
    this.#steps = steps
    this.#handlers = handlers
    this.#life = engine.life()
    this.#stops.push(engine.socket.listen((news) => this.take(news)))
    for (const step of [steps.asked, steps.again, steps.kill]) {
      const climb = () => {
        this.#interruptedAt = Number.NEGATIVE_INFINITY
        this.#bell.ring()
      }
      step.addEventListener('abort', climb, { once: true })
      this.#stops.push(() => step.removeEventListener('abort', climb))
    }
  }

  stop(): void {
    for (const stop of this.#stops) stop()
    this.#own.abort()
  }

  async toEnd(): Promise<Verdict> {
    for (;;) {
      const verdict = await this.#look()
      if (verdict !== undefined) return verdict
      await this.#bell.wait(this.#engine.times.pollMs)
    }
  }

  take(news: SocketNews): void {
    const isOurs = 'promptId' in news && (news.promptId === this.#promptId || news.promptId === undefined)
    if (isOurs) this.#engine.watchdog.sign()
    if (isOurs || news.kind === 'closed' || news.kind === 'log') this.#handlers.onNews(news)
    // History is complete when the worker is done with the prompt, not when it says how it went.
    const mayBeOver = (news.kind === 'executing' && news.node === undefined) || news.kind === 'ended'
    if (mayBeOver || news.kind === 'status' || news.kind === 'closed') this.#bell.ring()
  }

  async #look(): Promise<Verdict | undefined> {
    try {
      const place = await locate(this.#engine, this.#promptId, this.#own.signal)
      this.#silentSince = undefined
      // ComfyUI goes on without this process; the next one looks for the prompt.
      if (isLeft(this.#steps.asked)) return { kind: 'cancelled' }
      return await this.#judge(place)
    } catch (error) {
      if (isLeft(this.#steps.asked)) return { kind: 'cancelled' }
      if (!(error instanceof ComfyuiSilence || error instanceof ComfyuiRefusal)) throw error
      return await this.#judgeSilence(error)
    }
  }

  async #judge(place: Place): Promise<Verdict | undefined> {
    switch (place.kind) {
      case 'finished':
        return this.#judgeFinished(place.entry)
      case 'absent':
        return this.#judgeAbsence()
      case 'queued': {
        this.#absentAt = undefined
        if (place.position !== this.#position) this.#handlers.onPosition(place.position)
        this.#position = place.position
        if (this.#steps.asked.aborted) return this.#cancel(place.queue)
        this.#engine.watchdog.observeQueue(place.queue)
        const { stuck } = this.#engine.watchdog
        return stuck === undefined ? undefined : { kind: 'stuck', reason: stuck }
      }
    }
  }

  /** History may be ahead of the socket, over which some nodes send what they make: its end is waited for. */
  #judgeFinished(entry: HistoryEntry): Verdict | undefined {
    const now = this.#engine.now()
    this.#finishedAt ??= now
    const mayWait = !this.#steps.asked.aborted && now - this.#finishedAt < this.#engine.times.unreachableMs
    return mayWait && !this.#handlers.hasAll() ? undefined : { kind: 'finished', entry }
  }

  /** A prompt that we removed leaves no trace; any other is looked for once more, as it may just be between two places. */
  #judgeAbsence(): Verdict | undefined {
    const over = this.#judgeLife()
    if (over !== undefined) return over
    if (this.#steps.asked.aborted) return { kind: 'cancelled' }
    const now = this.#engine.now()
    this.#absentAt ??= now
    if (now - this.#absentAt < this.#engine.times.lostMs) return undefined
    return { kind: 'lost', reason: 'ComfyUI no longer knows the prompt: it was restarted, or its queue was cleared.' }
  }

  #judgeLife(): Verdict | undefined {
    const { end } = this.#life
    if (end === undefined) return undefined
    return this.#steps.asked.aborted ? { kind: 'cancelled' } : { kind: 'lost', reason: end }
  }

  async #judgeSilence(error: Error): Promise<Verdict | undefined> {
    const over = this.#judgeLife()
    if (over !== undefined) return over
    const now = this.#engine.now()
    this.#silentSince ??= now
    if (this.#steps.kill.aborted) return this.#kill()
    if (now - this.#silentSince < this.#engine.times.unreachableMs) return undefined
    return { kind: 'lost', reason: `${error.message}.` }
  }

  /** Asks as often as it takes: an interrupt that comes between two prompts is forgotten by ComfyUI. */
  async #cancel(queue: QueueState): Promise<Verdict | undefined> {
    const { http, times } = this.#engine
    const now = this.#engine.now()
    if (now - this.#interruptedAt >= times.interruptAgainMs) {
      this.#interruptedAt = now
      const { hasJobs } = await this.#engine.abilities(this.#own.signal)
      if (hasJobs) await http.cancelJob(this.#promptId, this.#own.signal)
      else if (queue.running.includes(this.#promptId)) await http.interrupt(this.#promptId, this.#own.signal)
      else await http.dequeue(this.#promptId, this.#own.signal)
      this.#bell.ring()
    }
    return this.#steps.kill.aborted ? this.#kill() : undefined
  }

  async #kill(): Promise<Verdict | undefined> {
    const now = this.#engine.now()
    this.#killedAt ??= now
    if (now - this.#killedAt < this.#engine.times.killGraceMs) return undefined
    await this.#engine.restart('A cancelled prompt does not end.', 'idle')
    return { kind: 'cancelled' }
  }
}

/** Whether a run ends only because the agent does. */
export function isLeft(asked: AbortSignal): boolean {
  return asked.aborted && asked.reason instanceof AgentStopping
}
