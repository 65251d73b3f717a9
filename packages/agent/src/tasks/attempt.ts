import type { Link, LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import {
  type AssignLine,
  type AttemptName,
  LinkClosedError,
  type ServerTaskLine,
  StreamResetError,
  unreachable,
} from '@cyberun/protocol'
import { AgentStopping, type Outcome, type Run, type Tool } from '../tools/tool.ts'
import { assignmentOf } from './assignment.ts'
import { AttemptRun } from './attempt-run.ts'
import { CancelLadder } from './cancel-ladder.ts'
import type { CurrentLink } from './current-link.ts'
import type { RunLimits } from './limits.ts'
import { type LiveReports, liveReports } from './live-reports.ts'
import { type LeftToSay, Outbox } from './outbox.ts'
import { CANCELLED, failureOf, fitOutcome, LOST_ON_RESTART, STOPPED } from './outcomes.ts'
import { AttemptFolder, type AttemptRecord } from './records.ts'
import { TaskLog } from './task-log.ts'
import { TaskStream } from './task-stream.ts'
import type { Turns } from './transfers.ts'

/** What all attempts of an agent share. */
export interface AttemptWorld {
  readonly limits: RunLimits
  readonly log: Log
  readonly links: CurrentLink
  readonly turns: Turns
  /** Where attempts have their folders. */
  readonly tasksDir: string
  /** Monotonic milliseconds. */
  now(): number
  /** The time of day in milliseconds. */
  wallMs(): number
  /** A slot came free, or an attempt is over. */
  onChange(): void
}

type AttemptState =
  | { readonly kind: 'running' }
  /** Its outcome is written down and waits to be acknowledged. */
  | { readonly kind: 'finished' }
  /** Acknowledged, or no longer ours. */
  | { readonly kind: 'over' }

const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * One attempt on this machine, from its acceptance until the server has everything of it or has taken it away. It lives
 * on while links come and go: each new link is told of it (docs/protocol.md, "Tasks").
 */
export class Attempt {
  readonly name: AttemptName
  readonly #world: AttemptWorld
  readonly #assign: AssignLine
  readonly #folder: AttemptFolder
  readonly #ladder: CancelLadder
  readonly #outbox: Outbox
  readonly #log: TaskLog
  readonly #live: LiveReports
  readonly #run: Run
  readonly #ended = Promise.withResolvers<void>()
  readonly #gone = Promise.withResolvers<void>()
  #state: AttemptState = { kind: 'running' }
  #outlivesAgent = false
  #holdsSlot = true
  #isCancelled = false
  #stream: TaskStream | undefined
  #attachTimer: NodeJS.Timeout | undefined
  #leaseTimer: NodeJS.Timeout | undefined
  /** Its outcome is being written down. */
  #saving: Promise<void> = Promise.resolve()

  /** `record` is what a former process left of it; else only `assign` is known. */
  constructor(world: AttemptWorld, assign: AssignLine, record?: AttemptRecord) {
    const { limits } = world
    const folder = new AttemptFolder(world.tasksDir, assign, record !== undefined)
    this.#world = world
    this.#assign = assign
    this.#folder = folder
    this.name = { task_id: assign.task_id, fence: assign.fence }
    this.#ladder = new CancelLadder(limits)
    this.#outbox = new Outbox(() => folder.within('events'), limits)
    this.#log = new TaskLog((event) => this.#outbox.push(event), world.wallMs, limits)
    this.#live = liveReports(
      {
        send: (line) => this.#stream?.sendLive(line) ?? false,
        push: (event) => this.#outbox.push(event),
        note: (message) => this.#log.note(message),
      },
      limits,
      world.now,
    )
    this.#run = new AttemptRun({
      assignment: assignmentOf(assign),
      folder,
      remembered: record?.remembered,
      ladder: this.#ladder,
      log: this.#log,
      links: world.links,
      turns: world.turns,
      limits,
      onProgress: (progress) => this.#live.progress(progress),
      onPreview: (contentType, bytes) => this.#live.preview(contentType, bytes),
      onWaitingInTool: (position) => this.#live.waitingInTool(position),
      onLate: () => this.lose('the server said so on the stream of a file'),
    })
  }

  /** Where its service listens, when it has one. */
  get exposePort(): number | undefined {
    return this.#assign.expose?.port
  }

  get #exposed(): { expose_port?: number } {
    return this.exposePort === undefined ? {} : { expose_port: this.exposePort }
  }

  /** Whether the tool still works for it: true until its run has settled, whatever the server thinks of it. */
  get holdsSlot(): boolean {
    return this.#holdsSlot
  }

  /** Whether the next process of this agent can take its run up again. */
  get outlivesAgent(): boolean {
    return this.#outlivesAgent
  }

  get state(): AttemptState['kind'] {
    return this.#state.kind
  }

  /** Resolves when nothing of it is left here. */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  /** Accepts it on the stream that brought it, and runs it. */
  begin(tool: Tool, stream: TaskStream): void {
    this.#outlivesAgent = tool.resume !== undefined
    this.#use(stream)
    stream.send({ type: 'accepted', ...this.#exposed })
    this.#lease(this.#assign.resume_window_ms)
    this.#outbox.connect((json) => stream.sendJson(json), 0)
    void this.#execute(() => tool.run(this.#run, this.#ladder.asked))
  }

  /** Takes up the run that a former process left. */
  resume(resume: NonNullable<Tool['resume']>): void {
    this.#outlivesAgent = true
    this.#log.note('the agent was restarted during this run: what it had not sent by then is missing here')
    this.#lease(this.#assign.resume_window_ms)
    void this.#execute(async () => (await resume(this.#run, this.#ladder.asked)) ?? LOST_ON_RESTART)
  }

  /** Reports what a former process had still to say when it was over. */
  reportLeft(left: LeftToSay): void {
    this.#state = { kind: 'finished' }
    this.#holdsSlot = false
    this.#ladder.stop()
    this.#outbox.takeOver(left)
    void this.#clearUp(Promise.resolve())
  }

  /** Tells the server over a new link that we still have it; what the older link's stream had to say is repeated. */
  attach(link: Link): void {
    if (this.#state.kind === 'over') return
    this.#drop()
    let opened: LinkStream
    try {
      opened = link.open({ target: { kind: 'task' }, priority: 'control' })
    } catch (error) {
      // The next link brings us here again.
      if (error instanceof LinkClosedError) return
      if (!(error instanceof StreamResetError)) throw error
      // It carries as many streams as it can: one of them may be over soon.
      this.#attachLater()
      return
    }
    const stream = new TaskStream(opened, SILENT, this.#world.log)
    this.#use(stream)
    stream.send({
      type: 'attach',
      ...this.name,
      tool_type: this.#assign.tool_type,
      last_sequence: this.#outbox.lastSequence,
      state: this.#state.kind === 'running' ? 'running' : 'finished',
      ...this.#exposed,
    })
  }

  /** It is no longer ours: everything is stopped at once and nothing more is said. Twice is harmless. */
  lose(why: string): void {
    if (this.#state.kind === 'over') return
    this.#world.log.warn({ ...this.name, hint: why }, 'attempt.lost')
    this.#state = { kind: 'over' }
    this.#drop()
    this.#log.stop()
    this.#live.stop()
    this.#ladder.leap(new Error(`the attempt is no longer ours: ${why}`))
    this.#ended.resolve()
  }

  /**
   * The agent stops. A run that the next process can take up is left; any other is ended and reported as one to try
   * again. Resolves when the tool is done with it and the server has heard, or when `signal` aborts.
   */
  async stop(signal: AbortSignal): Promise<void> {
    const { log, limits } = this.#world
    if (this.#state.kind === 'running' && this.#outlivesAgent) {
      log.info({ ...this.name }, 'attempt.left_for_restart')
      this.#state = { kind: 'over' }
      clearTimeout(this.#leaseTimer)
      this.#drop()
      this.#log.stop()
      this.#live.stop()
      this.#ladder.climb(new AgentStopping('the agent stops'))
      this.#ladder.stop()
      return
    }
    const reason = new Error('the agent stops')
    if (this.#state.kind === 'running') this.#ladder.climb(reason)
    const kill = setTimeout(() => this.#ladder.leap(reason), limits.stopKillMs)
    this.#finish(STOPPED)
    await Promise.race([this.#gone.promise, aborted(signal)])
    clearTimeout(kill)
    // Whatever still runs has had its time.
    this.#ladder.leap(reason)
  }

  async #execute(work: () => Promise<Outcome>): Promise<void> {
    const ran = work().catch((error: unknown): Outcome => {
      this.#world.log.info({ ...this.name, error }, 'attempt.threw')
      return failureOf(error)
    })
    void ran.then(() => {
      this.#ladder.stop()
      this.#holdsSlot = false
      this.#world.onChange()
    })
    void this.#clearUp(ran)
    const givenUp = this.#ladder.gaveUp.then(() => {
      this.#world.log.error({ ...this.name, hint: 'its tool did not end it' }, 'attempt.outlives_its_kill')
      return CANCELLED
    })
    this.#finish(await Promise.race([ran, givenUp]))
  }

  #finish(outcome: Outcome): void {
    if (this.#state.kind !== 'running') return
    const told = this.#isCancelled ? CANCELLED : fitOutcome(outcome, this.#world.limits)
    this.#state = { kind: 'finished' }
    clearTimeout(this.#leaseTimer)
    this.#live.end()
    this.#log.end()
    this.#outbox.finish(told)
    this.#saveUnlessHeard()
    this.#world.log.info({ ...this.name, outcome: told.kind }, 'attempt.finished')
    this.#world.onChange()
  }

  /** So that a restart does not forget it; most are acknowledged before that is worth a file. */
  #saveUnlessHeard(): void {
    const save = (): void => {
      this.#saving = this.#folder.saveLeft(this.#outbox.left()).catch((error: unknown) => {
        this.#world.log.warn({ ...this.name, error }, 'attempt.outcome_not_saved')
      })
    }
    const timer = setTimeout(save, this.#world.limits.saveOutcomeMs)
    void Promise.race([this.#outbox.done, this.#ended.promise]).then(() => clearTimeout(timer))
  }

  /** Waits until both the tool and the server are done with it, and removes what is left. */
  async #clearUp(ran: Promise<unknown>): Promise<void> {
    const acknowledged = await Promise.race([this.#outbox.done.then(() => true), this.#ended.promise.then(() => false)])
    this.#state = { kind: 'over' }
    this.#drop()
    await ran
    // Whoever removes a folder that is being written to leaves some of it.
    await this.#saving
    clearTimeout(this.#leaseTimer)
    await this.#folder.remove().catch((error: unknown) => {
      this.#world.log.warn({ ...this.name, error }, 'attempt.folder_stays')
    })
    this.#gone.resolve()
    this.#world.log.debug({ ...this.name, acknowledged }, 'attempt.over')
    this.#world.onChange()
  }

  /** Talks to the server over this stream from now on. */
  #use(stream: TaskStream): void {
    this.#stream = stream
    stream.handle({
      onLine: (line) => this.#onLine(stream, line),
      onOver: () => {
        if (this.#stream !== stream) return
        this.#stream = undefined
        this.#outbox.disconnect()
        // A server that stops or has lost its database ends streams; the link may live on.
        this.#attachLater()
      },
    })
  }

  #attachLater(): void {
    this.#attachTimer = setTimeout(() => {
      const link = this.#world.links.now
      if (link && !this.#stream) this.attach(link)
    }, this.#world.limits.attachAgainMs)
  }

  #drop(): void {
    clearTimeout(this.#attachTimer)
    this.#outbox.disconnect()
    this.#stream?.end()
    this.#stream = undefined
  }

  #onLine(stream: TaskStream, line: ServerTaskLine): void {
    switch (line.type) {
      case 'attached':
        if (line.over) {
          this.#endIsStored()
          return
        }
        this.#outbox.connect((json) => stream.sendJson(json), line.acknowledged)
        this.#live.repeat()
        return
      case 'ack':
        this.#outbox.acknowledge(line.sequence)
        return
      case 'cancel':
        stream.send({ type: 'cancelling' })
        this.#isCancelled = true
        // Nobody else will work on it: the ladder alone says how long it may take.
        clearTimeout(this.#leaseTimer)
        if (this.#state.kind === 'running') this.#ladder.climb(new Error('the task was cancelled'))
        return
      case 'late':
        this.lose('the server has given the task to somebody else, or ended it')
        return
      case 'lease':
        this.#lease(line.remaining_ms)
        return
      case 'assign':
        // Only the runner takes assignments, as the first line of a stream that the server opened.
        return
      default:
        unreachable(line)
    }
  }

  /** How it ended is stored, if need be from a former process: nothing is left to report, and nothing to run. */
  #endIsStored(): void {
    if (this.#state.kind === 'running') this.lose('a former process of this agent has reported its end')
    else this.#outbox.acknowledgeAll()
  }

  /** Our own deadline is earlier than the lease's end, so that two never work on one task. */
  #lease(remainingMs: number): void {
    if (this.#state.kind !== 'running' || this.#isCancelled) return
    clearTimeout(this.#leaseTimer)
    const ownMs = remainingMs - Math.min(5_000, remainingMs / 5)
    const lapse = (): void => this.lose('the server was not heard from until the attempt was about to lapse')
    this.#leaseTimer = setTimeout(lapse, Math.min(ownMs, LONGEST_TIMER_MS))
  }
}

/** For a stream whose attempt is about to name its own handler. */
const SILENT = { onLine() {}, onOver() {} }

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
