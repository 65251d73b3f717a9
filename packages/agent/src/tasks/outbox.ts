import type { AttemptEvent, AttemptOutcome } from '@cyberun/protocol'
import { EventQueue } from './event-queue.ts'
import type { RunLimits } from './limits.ts'

/** Writes one line of JSON, without its end, to the server. */
export type SendLine = (json: string) => void

interface Sent {
  readonly sequence: number
  readonly json: string
}

/** What a former process of this agent had still to say of an attempt that is over. */
export interface LeftToSay {
  /** The number before the first of `events`: everything up to it is stored. */
  readonly after: number
  readonly events: readonly AttemptEvent[]
  readonly outcome: AttemptOutcome
}

/**
 * What one attempt has to tell the server for good: events, then the outcome, numbered from 1 without holes and kept
 * until the server has stored them (docs/protocol.md, "Tasks"). An event gets its number when it is first sent, so that
 * what waits may still be dropped without leaving a hole.
 */
export class Outbox {
  readonly #limits: RunLimits
  readonly #makeFolder: () => string
  #queue: EventQueue
  /** How many events of the queue a former process may have sent. */
  #inherited = 0
  #unacknowledged: Sent[] = []
  #unacknowledgedBytes = 0
  #lastSequence = 0
  #outcome: AttemptOutcome | undefined
  #send: SendLine | undefined
  readonly #done = Promise.withResolvers<void>()
  /** The number of the outcome, once it has one. */
  #lastOfAll: number | undefined

  /** `makeFolder` makes the folder for what does not fit into memory. */
  constructor(makeFolder: () => string, limits: RunLimits) {
    this.#limits = limits
    this.#makeFolder = makeFolder
    this.#queue = new EventQueue(makeFolder, limits)
  }

  /** The highest number given so far. */
  get lastSequence(): number {
    return this.#lastSequence
  }

  /** Resolves when the server has everything, the outcome too. */
  get done(): Promise<void> {
    return this.#done.promise
  }

  push(event: AttemptEvent): void {
    if (this.#outcome) return
    this.#queue.push(event)
    this.#pump()
  }

  /** The last thing that is said; what is pushed afterwards is dropped. */
  finish(outcome: AttemptOutcome): void {
    if (this.#outcome) return
    this.#outcome = outcome
    this.#pump()
  }

  /** Says what a former process had still to say. The first thing that is done with it. */
  takeOver({ after, events, outcome }: LeftToSay): void {
    // All of it was within the bounds of that process, and by its numbers is told what of it is stored: none may be dropped,
    // as a full disk would have it.
    this.#queue = new EventQueue(this.#makeFolder, { ...this.#limits, queueBytes: Number.POSITIVE_INFINITY })
    this.#lastSequence = after
    this.#inherited = events.length
    for (const event of events) this.#queue.push(event)
    this.finish(outcome)
  }

  /** What the server has not acknowledged, as lines of JSON, `finished` the last of them. Asked when all was said. */
  left(): string[] {
    const sent = this.#unacknowledged.map(({ json }) => json)
    if (this.#lastOfAll !== undefined) return sent
    const events = this.#queue.all().map((event, at) => eventLine(this.#lastSequence + 1 + at, event))
    return [...sent, ...events, this.#lastLine(this.#lastSequence + events.length + 1)]
  }

  /**
   * There is a stream to the server, who has stored everything up to `acknowledged`: repeats what it has not and goes on.
   * `acknowledged` may be more than was sent from here, when a former process of this agent had begun.
   */
  connect(send: SendLine, acknowledged: number): void {
    for (; this.#inherited > 0 && this.#lastSequence < acknowledged; this.#inherited--) {
      this.#queue.shift()
      this.#lastSequence += 1
    }
    this.#inherited = 0
    this.#lastSequence = Math.max(this.#lastSequence, acknowledged)
    // Nothing new before what is repeated.
    this.#send = undefined
    this.acknowledge(acknowledged)
    this.#send = send
    for (const { json } of this.#unacknowledged) send(json)
    this.#pump()
  }

  disconnect(): void {
    this.#send = undefined
  }

  /** The server has everything of a former process, the outcome too. */
  acknowledgeAll(): void {
    this.disconnect()
    this.#done.resolve()
  }

  acknowledge(sequence: number): void {
    const stillOpen = this.#unacknowledged.findIndex((sent) => sent.sequence > sequence)
    const stored = this.#unacknowledged.splice(0, stillOpen === -1 ? this.#unacknowledged.length : stillOpen)
    for (const { json } of stored) this.#unacknowledgedBytes -= json.length
    if (this.#lastOfAll !== undefined && sequence >= this.#lastOfAll) this.#done.resolve()
    this.#pump()
  }

  #pump(): void {
    const { unacknowledgedEvents, unacknowledgedBytes } = this.#limits
    while (
      this.#send &&
      this.#lastOfAll === undefined &&
      this.#unacknowledged.length < unacknowledgedEvents &&
      this.#unacknowledgedBytes < unacknowledgedBytes
    ) {
      const event = this.#queue.shift()
      if (event === undefined && !this.#outcome) return
      const sequence = ++this.#lastSequence
      const json = event === undefined ? this.#lastLine(sequence) : eventLine(sequence, event)
      if (event === undefined) this.#lastOfAll = sequence
      this.#unacknowledged.push({ sequence, json })
      this.#unacknowledgedBytes += json.length
      this.#send(json)
    }
  }
  #lastLine(sequence: number): string {
    return JSON.stringify({ type: 'finished', sequence, outcome: this.#outcome })
  }
}

function eventLine(sequence: number, event: string): string {
  return `{"type":"event","sequence":${sequence},"event":${event}}`
}
