import { type Chunk, encodeLine, type LinkStream, lineEvents, type StreamEvents } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import {
  type AgentTaskLine,
  type DeclineReason,
  FieldError,
  parseAgentTaskLine,
  type ResetCode,
  type ServerTaskLine,
  TASK_LIMITS,
  unreachable,
} from '@cyberun/protocol'
import type { Attempt, ChangeAnswer } from '../model/attempt.ts'
import type { Store } from '../store/store.ts'
import { AttemptReports, type Report } from './attempt-reports.ts'
import { type AttemptEnd, type AttemptState, PLACE_OF } from './attempt-states.ts'
import { type LiveHost, LiveReports } from './live-reports.ts'
import { LogCap } from './log-cap.ts'

export interface AttemptHost extends LiveHost {
  readonly store: Store
  readonly log: Log
  /** Its agent does not take it. Told as it is heard: what the agent says of itself next is of later. */
  onDeclined(attempt: Attempt, reason: DeclineReason): void
  /** Something of it was stored. */
  onStored(attempt: Attempt): void
  /** Once, last. */
  onOver(attempt: AttemptStream, end: AttemptEnd): void
}

/**
 * One attempt at one agent, over one stream of its link (docs/protocol.md, "Tasks"). Takes the stream over. Reads what the
 * agent says, has it stored, and acknowledges it then. Memory is bounded by what the agent is granted: while too much
 * waits for the store no credit goes back.
 */
export class AttemptStream {
  readonly attempt: Attempt
  /** When the agent said that it takes it: a hello of later names it. Undefined before that. */
  acceptedAt: number | undefined
  /** Where its agent says that the run's service listens, for a run with one. */
  exposePort: number | undefined
  readonly #host: AttemptHost
  readonly #stream: LinkStream
  readonly #reports: AttemptReports
  readonly #logCap: LogCap
  readonly #live: LiveReports
  #state: AttemptState
  /** The highest number the agent has used. */
  #sequence: number
  /** What is stored, and what the agent was told is stored. */
  #stored: number
  #told: number

  /** `acknowledged`: of an attempt that its agent has attached; undefined for one that it is being assigned. */
  constructor(
    host: AttemptHost,
    about: { attempt: Attempt; stream: LinkStream; acknowledged: number | undefined; exposePort?: number },
  ) {
    const { limits } = host
    this.attempt = about.attempt
    this.#host = host
    this.#stream = about.stream
    this.#state = about.acknowledged === undefined ? { kind: 'assigned' } : { kind: 'running' }
    if (about.acknowledged !== undefined) this.acceptedAt = host.now()
    this.exposePort = about.exposePort
    this.#sequence = about.acknowledged ?? 0
    this.#stored = this.#sequence
    this.#told = this.#sequence
    this.#logCap = new LogCap({ lines: limits.logLines, characters: limits.logCharacters })
    this.#live = new LiveReports(host, about.attempt)
    this.#reports = new AttemptReports({
      ...{ store: host.store, log: host.log, limits, attempt: about.attempt },
      onStored: (answer, reports) => this.#onStored(answer, reports),
      onFault: () => this.#fault('what the agent reported could not be stored'),
    })
    about.stream.listen(this.#events())
  }

  get state(): AttemptState['kind'] {
    return this.#state.kind
  }

  /** Milliseconds since 1970; undefined unless the agent winds down a cancelled run. */
  get cancelledAt(): number | undefined {
    return this.#state.kind === 'cancelled' ? this.#state.since : undefined
  }

  get unstored(): number {
    return this.#reports.unstored
  }

  /** Whether its agent holds it, can be told so, and the database has to know. */
  get isLeased(): boolean {
    return this.#state.kind === 'running' || this.#state.kind === 'finishing'
  }

  /** Gives the agent what it is to run: the first thing on a stream that this server opened. */
  assign(line: Uint8Array): void {
    this.#stream.write(line)
  }

  /** Answers `attach`. */
  attached(): void {
    this.#say({ type: 'attached', acknowledged: this.#stored })
  }

  /** Asks the agent to end the run. */
  cancel(): void {
    switch (this.#state.kind) {
      case 'assigned':
      case 'running':
        this.#state = { kind: 'cancelled', since: this.#host.now() }
        this.#reports.stop()
        this.#live.stop()
        this.#say({ type: 'cancel' })
        return
      case 'finishing':
        // Its agent has said its last word and only waits to hear that it may forget the run.
        this.#stored = this.#sequence
        this.#end({ kind: 'cancelled' })
        return
      case 'adrift':
        // It is told that it is late when it attaches.
        this.#over({ kind: 'cancelled' })
        return
      case 'cancelled':
      case 'over':
        return
      default:
        unreachable(this.#state)
    }
  }

  /** Tells the agent that the attempt is no longer its own. */
  late(): void {
    this.#end({ kind: 'late' })
  }

  /** Tells the agent how long it may go on without hearing from a server. */
  lease(remainingMs: number): void {
    if (this.isLeased && this.#hasRoomToSay()) this.#say({ type: 'lease', remaining_ms: remainingMs })
  }

  /** Ends the stream without a word: the attempt goes on at its agent. */
  drop(): void {
    if (this.#state.kind !== 'adrift') this.#stream.reset('cancelled')
    this.#over({ kind: 'dropped' })
  }

  /** Resolves when what the agent has reported until now is stored, or given up. Never rejects. */
  settled(): Promise<void> {
    return this.#reports.settled()
  }

  #events(): StreamEvents {
    const lines = lineEvents(
      {
        onLine: (line) => this.#take(line),
        onOverlong: () => this.#fault(`a line may have ${TASK_LIMITS.agentLineBytes} bytes at most`),
        onOver() {},
      },
      TASK_LIMITS.agentLineBytes,
    )
    return {
      ...lines,
      onData: (chunk: Chunk) => {
        lines.onData(chunk)
        if (this.#reports.isFull) this.#reports.whenRoom(chunk.hold())
      },
      onEnd: () => this.#onAgentEnd(),
      onReset: (code) => this.#onReset(code),
      onDrain: () => this.#acknowledge(),
    }
  }

  #take(text: string): void {
    if (this.#state.kind === 'over' || this.#state.kind === 'adrift') return
    let line: AgentTaskLine | undefined
    try {
      line = parseAgentTaskLine(text)
    } catch (error) {
      if (!(error instanceof FieldError)) throw error
      this.#fault(error.message)
      return
    }
    // Of a type this release does not know.
    if (line === undefined) return
    if (this.#state.kind === 'cancelled') this.#takeCancelled(line)
    else this.#takeLine(line, text.length)
  }

  #takeLine(line: AgentTaskLine, characters: number): void {
    if (PLACE_OF[line.type] !== this.#state.kind) {
      this.#fault(`a line of type ${line.type} has no place while the attempt is ${this.#state.kind}`)
      return
    }
    switch (line.type) {
      case 'accepted':
        this.#state = { kind: 'running' }
        this.acceptedAt = this.#host.now()
        this.exposePort = line.expose_port
        this.#reports.add({ kind: 'accepted' }, characters)
        return
      case 'declined':
        this.#state = { kind: 'finishing' }
        this.#host.onDeclined(this.attempt, line.reason)
        this.#reports.add({ kind: 'declined', reason: line.reason, message: line.message }, characters)
        return
      case 'event':
        if (!this.#isNext(line.sequence)) return
        this.#reports.add({ ...line, kind: 'event', event: this.#logCap.cut(line.event) }, characters)
        return
      case 'finished':
        if (!this.#isNext(line.sequence)) return
        this.#state = { kind: 'finishing' }
        this.#live.stop()
        this.#reports.add({ ...line, kind: 'finished' }, characters)
        return
      case 'progress':
      case 'preview':
        this.#live.take(line)
        return
      case 'cancelling':
      case 'attach':
        return
      default:
        unreachable(line)
    }
  }

  /** What a run still says while it winds down is acknowledged, so that its agent can forget it, and dropped. */
  #takeCancelled(line: AgentTaskLine): void {
    const { attempt, cancelledAt = 0 } = this
    switch (line.type) {
      case 'cancelling': {
        const tookMs = this.#host.now() - cancelledAt
        this.#host.log.debug(
          { task_id: attempt.taskId, agent_id: attempt.agentId, took_ms: tookMs },
          'attempt.cancelling',
        )
        return
      }
      case 'event':
        this.#stored = Math.max(this.#stored, line.sequence)
        this.#acknowledge()
        return
      case 'finished':
        this.#stored = Math.max(this.#stored, line.sequence)
        this.#end({ kind: 'cancelled' })
        return
      case 'declined':
        this.#end({ kind: 'cancelled' })
        return
      default:
        return
    }
  }

  /** False for a number that came before: the agent repeats what it does not know to be stored. */
  #isNext(sequence: number): boolean {
    if (sequence <= this.#sequence) return false
    if (sequence === this.#sequence + 1) {
      this.#sequence = sequence
      return true
    }
    this.#fault(`line ${sequence} follows line ${this.#sequence}`)
    return false
  }

  #onStored(answer: ChangeAnswer, reports: readonly Report[]): void {
    switch (answer.kind) {
      case 'stored': {
        this.#stored = answer.acknowledged
        this.#host.onStored(this.attempt)
        const last = reports.at(-1)
        if (last?.kind === 'finished') {
          this.#end({ kind: 'settled', completed: answer.status === 'completed', outcome: last.outcome })
        } else if (last?.kind === 'declined') this.#end({ kind: 'declined', reason: last.reason })
        else this.#acknowledge()
        return
      }
      case 'late':
      case 'nothing':
        this.late()
        return
      case 'gap':
        this.#fault(`lines after ${answer.acknowledged} are missing`)
        return
      default:
        unreachable(answer)
    }
  }

  /** The agent says nothing more on this stream. Of a run that it has accepted that means nothing: it attaches it again. */
  #onAgentEnd(): void {
    switch (this.#state.kind) {
      case 'running':
        this.#stream.end()
        this.#drift()
        return
      case 'assigned':
        this.#stream.end()
        this.#over({ kind: 'refused' })
        return
      case 'cancelled':
        this.#end({ kind: 'cancelled' })
        return
      case 'finishing':
      case 'adrift':
      case 'over':
        return
      default:
        unreachable(this.#state)
    }
  }

  #onReset(code: ResetCode): void {
    switch (this.#state.kind) {
      case 'running':
      case 'finishing':
        this.#drift()
        return
      case 'assigned':
        // Should the agent have it after all, it attaches it before its time to accept is over.
        if (code === 'link_lost') this.#drift()
        else this.#over({ kind: 'refused' })
        return
      case 'cancelled':
        this.#over({ kind: 'cancelled' })
        return
      case 'adrift':
      case 'over':
        return
      default:
        unreachable(this.#state)
    }
  }

  /** What was reported is still being stored; the agent asks how far that went when it attaches. */
  #drift(): void {
    this.#state = { kind: 'adrift' }
    this.#live.stop()
  }

  #fault(message: string): void {
    this.#end({ kind: 'faulty', message })
  }

  #acknowledge(): void {
    if (this.#stored <= this.#told || !this.#isOpen() || !this.#hasRoomToSay()) return
    this.#told = this.#stored
    this.#say({ type: 'ack', sequence: this.#stored })
  }

  /** Says the last word to the agent and ends this side of the stream. */
  #end(end: AttemptEnd): void {
    if (this.#isOpen()) {
      if (end.kind === 'late' || end.kind === 'faulty') this.#say({ type: 'late' })
      else if (this.#stored > this.#told) this.#say({ type: 'ack', sequence: this.#stored })
      this.#stream.end()
    }
    this.#over(end)
  }

  #over(end: AttemptEnd): void {
    if (this.#state.kind === 'over') return
    this.#state = { kind: 'over' }
    this.#live.stop()
    // A dropped stream's last reports are worth storing; of any other end nothing is left to store.
    if (end.kind !== 'dropped') this.#reports.stop()
    this.#host.onOver(this, end)
  }

  #isOpen(): boolean {
    return this.#state.kind !== 'over' && this.#state.kind !== 'adrift'
  }

  #hasRoomToSay(): boolean {
    return this.#stream.queuedBytes < this.#host.limits.queuedLineBytes
  }

  #say(line: ServerTaskLine): void {
    this.#stream.write(encodeLine(line))
  }
}
