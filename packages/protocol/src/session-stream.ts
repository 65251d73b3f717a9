import { type ByteLender, DeliveredChunk, type ReadingStream } from './delivered-chunk.ts'
import { StreamResetError } from './faults.ts'
import type { ControlFrame } from './frames.ts'
import { type OpenInit, PRIORITY, type ResetCode } from './model.ts'
import { PendingWrite, type WritingStream } from './pending-write.ts'
import type { ReceiveWindow } from './receive-window.ts'
import { type Scheduled, Weight } from './scheduler.ts'
import type { Chunk, LinkStream, StreamEvents } from './stream.ts'

/** `write` says stop while this many bytes wait to be handed to the socket, or the peer's window is used up. */
const HIGH_WATER_BYTES = 256 * 1024
/** `onDrain` comes when no more than this is left. */
const LOW_WATER_BYTES = 64 * 1024

/** What a stream needs of its session. */
export interface StreamHost {
  readonly now: number
  readonly lender: ByteLender | undefined
  send(frame: ControlFrame): void
  /** This stream has data or an end to send, and may. */
  wake(stream: SessionStream): void
  /** Sends `bytes` as one frame if nothing else waits and they can be copied; says whether it did. */
  sendAtOnce(stream: SessionStream, bytes: Uint8Array): boolean
  /** Bytes of this stream were consumed, so that credit may be due. */
  consumed(stream: SessionStream, bytes: number): void
  /** The stream is over and told so: forget it. */
  remove(stream: SessionStream): void
  /** An event handler of a stream threw, which is a bug of its owner. */
  bug(error: unknown): void
}

/** `asked`: by the peer, and not answered. `asking`: by us, and not answered. */
type StreamState = 'asked' | 'asking' | 'open' | 'over'
type SendState = 'open' | 'ending' | 'ended'

/** A stream as its session keeps it; users see the `LinkStream` of it. */
export class SessionStream implements LinkStream, Scheduled, WritingStream, ReadingStream {
  readonly id: number
  readonly init: OpenInit
  readonly window: ReceiveWindow
  readonly #host: StreamHost
  readonly #weight = new Weight()
  #events: StreamEvents | undefined
  /** What happened before anybody listened. */
  #early: ((events: StreamEvents) => void)[] = []
  /** Bytes among that. */
  #earlyBytes = 0
  /** Bytes that the link has let go of before they were consumed. */
  #forgottenBytes = 0
  #state: StreamState
  #sending: SendState = 'open'
  #hasPeerEnded = false
  #wasAccepted = false
  #resetBy: ResetCode | undefined
  /** What the peer lets us send. */
  #credit: number
  readonly #queue: PendingWrite[] = []
  #queuedBytes = 0
  /** Those of them that have not been handed to the socket. */
  #waitingBytes = 0
  #isBlocked = false
  #waiter: { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } | undefined

  rank: number
  turnBytes = 0
  nextScheduled: Scheduled | undefined
  isScheduled = false

  constructor(
    host: StreamHost,
    o: { id: number; init: OpenInit; state: 'asked' | 'asking'; credit: number; window: ReceiveWindow },
  ) {
    this.#host = host
    this.id = o.id
    this.init = o.init
    this.#state = o.state
    this.#credit = o.credit
    this.window = o.window
    this.rank = PRIORITY[o.init.priority]
  }

  // What users call

  get accepted(): Promise<void> {
    if (!this.#waiter) {
      const waiter = Promise.withResolvers<void>()
      // Not everybody waits for it: a refusal is told by `onReset` as well.
      waiter.promise.catch(() => {})
      this.#waiter = waiter
      this.#settleWaiter()
    }
    return this.#waiter.promise
  }

  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** What could be sent at once, for those who can choose how much they read. */
  get room(): number {
    return Math.max(0, this.#credit - this.#waitingBytes)
  }

  listen(events: StreamEvents): void {
    this.#events = events
    const early = this.#early
    this.#early = []
    this.#earlyBytes = 0
    for (const tell of early) this.#tell(tell)
  }

  accept(): void {
    if (this.#state === 'over') return
    if (this.#state !== 'asked') throw new Error('this stream is accepted already, or not for us to accept')
    this.#state = 'open'
    this.#settleWaiter()
    this.#host.send({ type: 'credit', stream: this.id, bytes: this.window.takeCredit() })
    this.#wakeIfReady()
  }

  write(bytes: Uint8Array, onWritten?: () => void, headroom = 0): boolean {
    if (this.#sending !== 'open') throw new Error('write after end')
    if (this.#state === 'asked') throw new Error('write before accept')
    if (this.#state === 'over' || bytes.length === 0) {
      onWritten?.()
      return this.#state !== 'over'
    }
    if (this.#wentAtOnce(bytes)) {
      onWritten?.()
      return !this.#isBlocked
    }
    this.#queue.push(new PendingWrite(this, bytes, onWritten, headroom))
    this.#queuedBytes += bytes.length
    this.#waitingBytes += bytes.length
    this.#wakeIfReady()
    this.#isBlocked ||= this.#waitingBytes >= HIGH_WATER_BYTES || this.#credit === 0
    return !this.#isBlocked
  }

  pass(chunk: Chunk): boolean {
    if (
      this.#sending === 'open' &&
      this.#state !== 'asked' &&
      this.#state !== 'over' &&
      this.#wentAtOnce(chunk.bytes)
    ) {
      return !this.#isBlocked
    }
    const release = chunk.hold()
    return this.write(chunk.bytes, release, chunk.headroom)
  }

  /** The short way of what is short: nothing is queued, so nothing has to be kept. */
  #wentAtOnce(bytes: Uint8Array): boolean {
    const { length } = bytes
    if (this.#queue.length > 0 || this.#credit < length || !this.#host.sendAtOnce(this, bytes)) return false
    this.#credit -= length
    this.#isBlocked ||= this.#credit === 0
    return true
  }

  end(): void {
    if (this.#sending !== 'open' || this.#state === 'over') return
    if (this.#state === 'asked') throw new Error('end before accept')
    this.#sending = 'ending'
    this.#host.wake(this)
  }

  reset(code: ResetCode): void {
    if (this.#state === 'over') return
    this.#host.send({ type: 'reset', stream: this.id, code })
    this.#finish(code)
  }

  // What the session calls

  get state(): StreamState {
    return this.#state
  }

  /** True when there is something to send that may be sent. */
  get isReady(): boolean {
    if (this.#state === 'over') return false
    return this.#queue.length > 0 ? this.#credit > 0 : this.#sending === 'ending'
  }

  /** The write to take the next frame from; undefined when only the end is left. */
  get nextWrite(): PendingWrite | undefined {
    return this.#queue[0]
  }

  /** How many bytes of `write` the next frame may carry. */
  frameBytes(write: PendingWrite, most: number): number {
    return Math.min(write.left, this.#credit, most)
  }

  /** Accounts for a frame of `bytes` taken from `write`. */
  handed(write: PendingWrite, bytes: number): void {
    write.hand(bytes)
    this.#waitingBytes -= bytes
    this.#credit -= bytes
    if (write.left === 0) this.#queue.shift()
    this.moved(bytes)
  }

  /** Counts bytes of either direction: an interactive stream that moves many is bulk until it rests. */
  moved(bytes: number): void {
    const isHeavy = this.#weight.add(bytes, this.#host.now)
    const rank = PRIORITY[this.init.priority]
    this.rank = isHeavy && rank === PRIORITY.interactive ? PRIORITY.bulk : rank
  }

  /** The end frame is on its way. */
  endHanded(): void {
    this.#sending = 'ended'
    this.#finishIfBothEnded()
  }

  written(bytes: number): void {
    this.#queuedBytes -= bytes
    this.#unblock()
  }

  #unblock(): void {
    const canGoOn = this.#waitingBytes <= LOW_WATER_BYTES && this.#credit > 0 && this.#state !== 'over'
    if (!this.#isBlocked || !canGoOn) return
    this.#isBlocked = false
    this.#tell((events) => events.onDrain())
  }

  /** Returns false when the sum of all credit is more than anybody can mean. */
  credited(bytes: number): boolean {
    if (this.#state === 'asking') {
      this.#state = 'open'
      this.#settleWaiter()
    }
    this.#credit += bytes
    if (this.#credit > Number.MAX_SAFE_INTEGER) return false
    this.#wakeIfReady()
    this.#unblock()
    return true
  }

  get hasPeerEnded(): boolean {
    return this.#hasPeerEnded
  }

  received(bytes: Uint8Array, headroom: number): void {
    const events = this.#events
    if (!events) {
      // Not `slice`: of a Node Buffer that is no copy.
      const copy = new Uint8Array(bytes)
      this.#earlyBytes += copy.length
      this.#early.push((later) => this.#deliver(later, copy, 0, undefined))
    } else {
      this.#deliver(events, bytes, headroom, this.#host.lender)
    }
  }

  consumed(bytes: number): void {
    const forgotten = Math.min(bytes, this.#forgottenBytes)
    this.#forgottenBytes -= forgotten
    this.#host.consumed(this, bytes - forgotten)
  }

  peerEnded(): void {
    this.#hasPeerEnded = true
    this.#tell((events) => events.onEnd())
    this.#finishIfBothEnded()
  }

  /** The peer broke this stream: it is told so, and our user too. */
  fail(code: ResetCode): void {
    if (this.#state === 'over') return
    this.#host.send({ type: 'reset', stream: this.id, code })
    this.wasReset(code)
  }

  /** The link needs what is held of this stream: it is over, and what is held counts no longer. */
  giveUp(): void {
    this.fail('flow_control')
    this.#forget(this.window.held)
    this.#tell((events) => events.onReclaim?.())
  }

  /** The peer's reset, or the loss of the link. */
  wasReset(code: ResetCode): void {
    if (this.#state === 'over') return
    this.#tell((events) => events.onReset(code))
    this.#finish(code)
  }

  // The rest

  #wakeIfReady(): void {
    if (this.isReady) this.#host.wake(this)
  }

  #deliver(events: StreamEvents, bytes: Uint8Array, headroom: number, lender: ByteLender | undefined): void {
    const chunk = new DeliveredChunk(bytes, headroom, lender, this)
    try {
      events.onData(chunk)
    } catch (error) {
      this.#host.bug(error)
    }
    chunk.delivered()
  }

  #tell(what: (events: StreamEvents) => void): void {
    if (!this.#events) {
      this.#early.push(what)
      return
    }
    try {
      what(this.#events)
    } catch (error) {
      this.#host.bug(error)
    }
  }

  #finishIfBothEnded(): void {
    if (this.#sending === 'ended' && this.#hasPeerEnded) this.#finish(undefined)
  }

  #finish(code: ResetCode | undefined): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#resetBy = code
    this.#settleWaiter()
    for (const write of this.#queue.splice(0)) write.abandon()
    // A refused stream is never listened to.
    this.#forget(this.#earlyBytes)
    this.#host.remove(this)
    this.#tell((events) => events.onClose?.())
  }

  /** Lets go of bytes on behalf of whoever will never consume them, or not in time. */
  #forget(bytes: number): void {
    this.#host.consumed(this, bytes)
    this.#forgottenBytes += bytes
  }

  #settleWaiter(): void {
    if (this.#state === 'open') this.#wasAccepted = true
    if (this.#wasAccepted) this.#waiter?.resolve()
    else if (this.#state === 'over') this.#waiter?.reject(new StreamResetError(this.#resetBy ?? 'cancelled'))
  }
}
