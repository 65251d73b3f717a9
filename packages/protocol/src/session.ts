import { CAPABILITIES, OWN_CAPABILITIES } from './capabilities.ts'
import { ControlQueue } from './control-queue.ts'
import type { ByteLender } from './delivered-chunk.ts'
import { LinkClosedError, SessionFault, StreamResetError, unreachable } from './faults.ts'
import { FrameCounts } from './frame-counts.ts'
import { type ControlFrame, encodeFrame, FrameDecoder, type FrameHandler } from './frames.ts'
import { Heartbeat } from './heartbeat.ts'
import type { Limits } from './limits.ts'
import { type CloseReason, type Hello, type OpenInit, PRIORITY, type ResetCode, type Welcome } from './model.ts'
import { RateLimit } from './rate.ts'
import { ReceiveBudget } from './receive-budget.ts'
import { Scheduler } from './scheduler.ts'
import type { OutFrame, SessionHost, SessionOptions, SessionRole } from './session-host.ts'
import { SessionStream, type StreamHost } from './session-stream.ts'
import type { LinkStream, StreamEvents } from './stream.ts'
import { StreamTable } from './stream-table.ts'

/** How long streams may go on once their ids have run out. */
const IDS_SPENT_DEADLINE_MS = 600_000
/** The acceptor asks later, so that on an idle link only the dialler pings. */
const ACCEPTOR_PATIENCE_MS = 400
/** How long an end waits for the other's greeting. */
const GREETING_MS = 10_000
/** How often idle windows are looked at while any is grown. */
const REST_MS = 1_000

type SessionState =
  | { kind: 'greeting'; until: number }
  /** The acceptor's owner is thinking about the hello. */
  | { kind: 'greeted'; hello: Hello; until: number }
  | { kind: 'open' }
  | { kind: 'leaving'; reason: CloseReason; until: number }
  | { kind: 'closed'; reason: CloseReason }

/**
 * One end of a link as pure state: it is given bytes and time, and gives back bytes and events. Both ends are this
 * class. It follows docs/protocol.md.
 */
export class Session implements FrameHandler, StreamHost {
  readonly #role: SessionRole
  readonly #limits: Limits
  readonly #clock: () => number
  readonly #host: SessionHost
  readonly #decoder: FrameDecoder
  readonly #heartbeat: Heartbeat
  readonly #scheduler = new Scheduler<SessionStream>()
  readonly #budget: ReceiveBudget
  readonly #streams: StreamTable
  readonly #control: ControlQueue
  readonly #counts = new FrameCounts()
  #state: SessionState
  #peerTakesAcks = false
  #peerWindow = 0
  #now: number
  #lender: ByteLender | undefined
  /** The stream that the data frame under way belongs to; undefined when it is over and its data is noise. */
  #receiving: SessionStream | undefined
  readonly #opens: RateLimit
  /** Made when the first such reset comes, which is seldom. */
  #unansweredResets: RateLimit | undefined
  readonly #pings: RateLimit

  constructor(options: SessionOptions) {
    const now = options.now()
    this.#role = options.role
    this.#limits = options.limits
    this.#clock = options.now
    this.#now = now
    this.#host = options.host
    this.#decoder = new FrameDecoder(options.limits, this)
    this.#heartbeat = new Heartbeat(now, options.role === 'acceptor' ? ACCEPTOR_PATIENCE_MS : 0)
    this.#budget = new ReceiveBudget(options.limits)
    this.#state = { kind: 'greeting', until: now + GREETING_MS }
    this.#streams = new StreamTable(options.firstStream ?? (options.role === 'dialler' ? 1 : 2))
    this.#control = new ControlQueue(options.limits.queuedControlBytes)
    this.#opens = new RateLimit(options.limits.opensPerSecond, now)
    this.#pings = new RateLimit(options.limits.pingsPerSecond, now)
  }

  get roundTripMs(): number | undefined {
    return this.#heartbeat.roundTripMs
  }

  /** Streams open now. */
  get streams(): number {
    return this.#streams.size
  }

  /** How many of our stream frames the peer has told us it received. */
  get framesAcknowledged(): number {
    return this.#counts.acknowledged
  }

  /** How many bytes may be with the socket at once; takes the time. */
  get handoverBytes(): number {
    this.#now = this.#clock()
    return this.#scheduler.handoverBytes(this.#now)
  }

  // Greeting

  /** The dialler's first words. The capabilities and the window of `hello` are filled in here. */
  hello(software: string, fields: Hello['fields']): Hello {
    const hello = this.#greeting(software, fields)
    this.send({ type: 'hello', hello })
    return hello
  }

  /** The acceptor's yes. */
  welcome(software: string, fields: Welcome['fields']): Welcome {
    const welcome = this.#greeting(software, fields)
    if (this.#state.kind !== 'greeted') return welcome
    this.#begin(this.#state.hello)
    this.send({ type: 'welcome', welcome })
    this.#ping()
    return welcome
  }

  #greeting(software: string, fields: Hello['fields']): Hello & Welcome {
    return { software, capabilities: OWN_CAPABILITIES, initialWindow: this.#limits.initialWindowBytes, fields }
  }

  #begin(peer: Hello | Welcome): void {
    this.#peerTakesAcks = peer.capabilities.includes(CAPABILITIES.ack)
    this.#peerWindow = peer.initialWindow
    this.#state = { kind: 'open' }
  }

  // Commands

  /** See `Link.open`. */
  open(init: OpenInit, events?: StreamEvents): LinkStream {
    if (this.#state.kind === 'leaving' || this.#state.kind === 'closed') throw new LinkClosedError(this.#state.reason)
    if (this.#state.kind !== 'open') throw new Error('open before the handshake ended')
    if (this.#streams.size >= this.#limits.streams) throw new StreamResetError('refused')
    const id = this.#streams.takeId()
    const window = this.#budget.forOwnStream()
    const stream = new SessionStream(this, {
      id,
      init,
      state: 'asking',
      credit: this.#peerWindow,
      window,
    })
    this.#streams.add(stream)
    if (events) stream.listen(events)
    this.send({ type: 'open', stream: id, window: window.size, priority: init.priority, target: init.target })
    if (this.#streams.isNearEndOfIds) this.goAway('stream ids ran out', IDS_SPENT_DEADLINE_MS)
    return stream
  }

  /** Says go-away: no new streams, and closed when the present ones have ended or `deadlineMs` has passed. */
  goAway(message: string, deadlineMs: number, retryAfterMs?: number): void {
    if (this.#state.kind !== 'open') return
    const reason: CloseReason = { code: 'going_away', message, ...(retryAfterMs !== undefined && { retryAfterMs }) }
    this.send({ type: 'goAway', reason, deadlineMs })
    this.#leave(reason, deadlineMs)
  }

  /** Ends the session now and tells the peer why. Harmless when it is over. */
  close(reason: CloseReason): void {
    if (this.#state.kind === 'closed') return
    this.send({ type: 'goAway', reason, deadlineMs: 0 })
    this.#end(reason)
  }

  /** The transport is gone: ends the session without a word. */
  lost(reason: CloseReason): void {
    if (this.#state.kind !== 'closed') this.#end(reason)
  }

  // Time

  /** When `tick` wants to be called. */
  nextDeadline(): number {
    const beat = this.#heartbeat.nextDeadline()
    switch (this.#state.kind) {
      case 'greeting':
      case 'greeted':
        return this.#state.until
      case 'leaving':
        return Math.min(beat, this.#state.until)
      case 'open':
        return this.#budget.hasGrown ? Math.min(beat, this.#now + REST_MS) : beat
      case 'closed':
        return Number.POSITIVE_INFINITY
      default:
        return unreachable(this.#state)
    }
  }

  tick(): void {
    const now = this.#clock()
    this.#now = now
    const state = this.#state
    if (state.kind === 'closed') return
    if (state.kind === 'greeting' || state.kind === 'greeted') {
      if (now >= state.until)
        this.close({ code: 'dead', message: 'the other end did not finish the handshake in 10 s' })
      return
    }
    if (state.kind === 'leaving' && now >= state.until) {
      this.close(state.reason)
      return
    }
    this.#budget.rest(now)
    const pulse = this.#heartbeat.tick(now)
    if (pulse === 'ping') this.#ping()
    if (pulse === 'dead') this.#end({ code: 'dead', message: 'nothing was heard from the other end for 4.5 s' })
  }

  // Output

  /** The next frame to send, or undefined: control, then streams by priority. */
  nextFrame(): OutFrame | undefined {
    const control = this.#control.take()
    if (control) return { kind: 'control', bytes: control }
    for (let stream = this.#scheduler.take(); stream; stream = this.#scheduler.take()) {
      // One that was reset, or used up its credit, since it was put in line has nothing to say.
      if (stream.isReady) return this.#frameOf(stream)
    }
    return undefined
  }

  #frameOf(stream: SessionStream): OutFrame {
    const write = stream.nextWrite
    this.#counts.sent++
    if (!write) {
      stream.endHanded()
      return { kind: 'control', bytes: encodeFrame({ type: 'end', stream: stream.id }) }
    }
    const length = stream.frameBytes(write, this.#scheduler.frameBytes(stream, this.#now, this.#limits.frameBytes))
    const offset = write.handed
    stream.handed(write, length)
    this.#scheduler.moved(stream, this.#now)
    if (stream.isReady) this.#scheduler.sent(stream, length)
    return { kind: 'data', stream: stream.id, write, offset, length }
  }

  // Input

  /**
   * Takes bytes of the peer, cut anywhere. `lender` keeps them valid for streams that hold on to them, and with them
   * `headroom` bytes in front that mean nothing. A fault of the peer closes the session; nothing is thrown.
   */
  receive(bytes: Uint8Array, headroom = 0, lender?: ByteLender): void {
    if (this.#state.kind === 'closed') return
    this.#now = this.#clock()
    this.#heartbeat.heard(this.#now)
    this.#lender = lender
    try {
      this.#decoder.push(bytes, headroom)
    } catch (error) {
      if (error instanceof SessionFault) this.close({ code: 'protocol_fault', message: error.message })
      else if (!(error instanceof SessionOver)) throw error
    } finally {
      this.#lender = undefined
    }
  }

  // What the decoder calls

  frame(frame: ControlFrame): void {
    this.#expect(frame.type)
    if ('stream' in frame) this.#counts.received++
    switch (frame.type) {
      case 'hello':
        this.#state = { kind: 'greeted', hello: frame.hello, until: this.#now + GREETING_MS }
        this.#host.onHello(frame.hello)
        break
      case 'welcome':
        this.#begin(frame.welcome)
        this.#ping()
        this.#host.onWelcome(frame.welcome)
        break
      case 'open':
        this.#receiveOpen(frame)
        break
      case 'credit': {
        const stream = this.#streams.find(frame.stream)
        if (stream?.credited(frame.bytes) === false) stream.fail('flow_control')
        break
      }
      case 'end':
        this.#receiveEnd(frame.stream)
        break
      case 'reset':
        this.#receiveReset(frame.stream, frame.code)
        break
      case 'ping':
        if (!this.#pings.take(this.#now)) throw new SessionFault('limit_exceeded', 'too many pings')
        this.#acknowledge()
        this.send({ type: 'pong', token: frame.token })
        break
      case 'pong':
        this.#heartbeat.pong(frame.token, this.#now)
        if (this.#heartbeat.isBeginning) this.#ping()
        break
      case 'goAway':
        this.#receiveGoAway(frame.reason, frame.deadlineMs)
        break
      case 'ack':
        this.#counts.acknowledge(frame.frames)
        break
      default:
        unreachable(frame)
    }
  }

  /** Before the greetings nothing else may come, and afterwards no greeting. */
  #expect(type: ControlFrame['type']): void {
    const { kind } = this.#state
    if (kind === 'closed') throw new SessionOver()
    const greeting = this.#role === 'dialler' ? 'welcome' : 'hello'
    const isGreeting = type === 'hello' || type === 'welcome'
    const isRight = kind === 'greeting' ? type === greeting || type === 'goAway' : kind !== 'greeted' && !isGreeting
    if (!isRight) throw new SessionFault('frame_unexpected', `${type} while ${kind}`)
  }

  #receiveOpen(frame: ControlFrame & { type: 'open' }): void {
    const { stream: id, target, priority } = frame
    this.#streams.peerTakes(id)
    const isRefused = this.#state.kind !== 'open' || this.#streams.size >= this.#limits.streams
    if (!this.#opens.take(this.#now) || isRefused || !target) {
      this.send({ type: 'reset', stream: id, code: target ? 'refused' : 'unsupported' })
      return
    }
    const stream = new SessionStream(this, {
      id,
      init: { target, priority },
      state: 'asked',
      credit: frame.window,
      window: this.#budget.forPeerStream(),
    })
    this.#streams.add(stream)
    const events = this.#host.onStream(stream)
    if (events) stream.listen(events)
  }

  dataBegins(id: number, length: number): void {
    if (this.#state.kind === 'closed') throw new SessionOver()
    if (this.#state.kind === 'greeting' || this.#state.kind === 'greeted') {
      throw new SessionFault('frame_unexpected', `data while ${this.#state.kind}`)
    }
    this.#counts.received++
    const stream = this.#streams.find(id)
    this.#receiving = stream
    if (!stream) return
    if (stream.state === 'asking' || stream.hasPeerEnded || !stream.window.arrived(length, this.#now)) {
      this.#receiving = undefined
      stream.fail('flow_control')
      return
    }
    this.#budget.hold(length)
    this.#heartbeat.dataArrived()
    stream.moved(length)
    this.#scheduler.moved(stream, this.#now)
    // Full of what readers that stopped have left: the stream that holds most is given up.
    if (this.#budget.isExceeded) this.#streams.fullest()?.giveUp()
  }

  data(_id: number, bytes: Uint8Array, headroom: number): void {
    if (this.#state.kind === 'closed') throw new SessionOver()
    const stream = this.#receiving
    if (stream && stream.state !== 'over') stream.received(bytes, headroom)
    else stream?.consumed(bytes.length)
  }

  #receiveEnd(id: number): void {
    const stream = this.#streams.find(id)
    if (!stream) return
    if (stream.state === 'asking' || stream.hasPeerEnded) stream.fail('flow_control')
    else stream.peerEnded()
  }

  #receiveReset(id: number, code: ResetCode): void {
    const stream = this.#streams.find(id)
    if (stream?.state === 'asked') {
      this.#unansweredResets ??= new RateLimit(this.#limits.unansweredResetsPerSecond, this.#now)
      if (!this.#unansweredResets.take(this.#now)) {
        throw new SessionFault('limit_exceeded', 'too many streams were opened and reset at once')
      }
    }
    stream?.wasReset(code)
  }

  /** The peer leaves: with a deadline it lets present streams end, without one it is over. */
  #receiveGoAway(reason: CloseReason, deadlineMs: number): void {
    if (deadlineMs === 0 || this.#state.kind === 'greeting') this.#end(reason)
    else if (this.#state.kind === 'open') this.#leave(reason, deadlineMs)
  }

  // What streams call

  get now(): number {
    return this.#now
  }

  get lender(): ByteLender | undefined {
    return this.#lender
  }

  wake(stream: SessionStream): void {
    this.#scheduler.add(stream)
    this.#host.outputReady()
  }

  sendAtOnce(stream: SessionStream, bytes: Uint8Array): boolean {
    if (this.#state.kind === 'closed' || bytes.length > this.#limits.frameBytes) return false
    if (!this.#control.isEmpty || !this.#scheduler.isEmpty || !this.#host.takeShort(stream.id, bytes)) return false
    this.#counts.sent++
    stream.moved(bytes.length)
    this.#scheduler.moved(stream, this.#now)
    return true
  }

  bug(error: unknown): void {
    this.#host.onBug(error)
  }

  consumed(stream: SessionStream, bytes: number): void {
    if (stream.state === 'over') {
      this.#budget.letGo(stream.window, bytes)
      this.#streams.released(stream)
      return
    }
    this.#budget.consumed(stream.window, bytes, this.#now, this.#heartbeat.shortestMs)
    if (stream.state !== 'open' || stream.hasPeerEnded) return
    const isBesideLight = stream.rank === PRIORITY.bulk && this.#scheduler.isLight(this.#now)
    const credit = stream.window.takeCredit(isBesideLight)
    if (credit > 0) this.send({ type: 'credit', stream: stream.id, bytes: credit })
  }

  remove(stream: SessionStream): void {
    this.#streams.delete(stream)
    this.#budget.end(stream.window)
    if (this.#state.kind === 'leaving' && this.#streams.size === 0) this.close(this.#state.reason)
  }

  send(frame: ControlFrame): void {
    if (this.#state.kind === 'closed') return
    if ('stream' in frame) this.#counts.sent++
    if (this.#control.push(encodeFrame(frame))) this.#host.outputReady()
    else this.#end({ code: 'protocol_fault', message: 'the other end makes us answer and does not read' })
  }

  // The rest

  #ping(): void {
    this.#acknowledge()
    this.send({ type: 'ping', token: this.#heartbeat.ping(this.#now) })
  }

  #acknowledge(): void {
    if (!this.#peerTakesAcks) return
    const frames = this.#counts.takeNews()
    if (frames !== undefined) this.send({ type: 'ack', frames })
  }

  #leave(reason: CloseReason, deadlineMs: number): void {
    this.#state = { kind: 'leaving', reason, until: this.#now + deadlineMs }
    this.#host.onGoingAway(reason)
    if (this.#streams.size === 0) this.close(reason)
  }

  #end(reason: CloseReason): void {
    this.#state = { kind: 'closed', reason }
    for (const stream of this.#streams.all()) stream.wasReset('link_lost')
    this.#host.onClosed(reason)
  }
}

/** Stops the decoder in the middle of its bytes, once the session ended because of something in them. */
class SessionOver extends Error {}
