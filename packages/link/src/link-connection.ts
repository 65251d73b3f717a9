import {
  type ByteLender,
  type CloseReason,
  FRAME_HEADER_BYTES,
  type Hello,
  type Limits,
  type LinkStream,
  type OpenInit,
  type OutFrame,
  Session,
  type SessionHost,
  type SessionRole,
  type StreamEvents,
  type StreamHandler,
  WEBSOCKET_CLOSE,
  type Welcome,
  writeDataHeader,
} from '@cyberun/protocol'
import { LazyPromise } from './lazy-promise.ts'
import type { Log } from './log.ts'
import type { PumpSocket } from './pump-socket.ts'
import type { Link, LinkStats } from './types.ts'
import { GATHER_BYTES, type Masking, type PipeEnd, type PipeEvents, WebsocketPipe } from './websocket-pipe.ts'

/** A write of which the kernel takes nothing for this long means a dead link. */
const STALL_MS = 10_000
/** How often progress is looked at while something is queued. */
const STALL_CHECK_MS = 2_000

/** What an end says of itself in its hello or welcome; capabilities and window are the session's to add. */
export type Greeting = Pick<Hello, 'software' | 'fields'>

export interface ConnectionOptions {
  socket: PumpSocket
  role: SessionRole
  masking: Masking
  limits: Limits
  onStream: StreamHandler
  log: Log | undefined
  greeting: GreetingEvents
}

/** Let go of once the link is made: an idle link keeps nothing of how it began. */
export interface GreetingEvents {
  /** The peer's greeting, once: a hello for the acceptor, who answers with `accept` or `close`, else a welcome. */
  onHeard(peer: Hello & Welcome): void
  /** The link ended before it was made. */
  onLost(reason: CloseReason): void
}

const now = (): number => performance.now()

/**
 * Runs a session over a WebSocket and the real clock. It is what session and pipe tell, too: closures for that would
 * cost each idle link a kilobyte.
 */
export class LinkConnection implements Link, SessionHost, PipeEvents {
  readonly #socket: PumpSocket
  readonly #pipe: WebsocketPipe
  readonly #session: Session
  readonly #log: Log | undefined
  readonly onStream: StreamHandler
  readonly #closed = new LazyPromise<CloseReason>()
  readonly #goingAway = new LazyPromise<CloseReason>()
  #greeting: GreetingEvents | undefined
  #welcome: Welcome | undefined
  #isPumping = false
  #timer: NodeJS.Timeout | undefined
  #progress = { mark: 0, at: 0 }

  constructor(options: ConnectionOptions) {
    this.#socket = options.socket
    this.onStream = options.onStream
    this.#log = options.log
    this.#greeting = options.greeting
    this.#pipe = new WebsocketPipe(options.socket, options.masking)
    this.#session = new Session({ role: options.role, limits: options.limits, now, host: this })
  }

  /** Starts reading, and the clock. The dialler says hello. */
  start(hello?: Greeting): void {
    if (hello) this.#session.hello(hello.software, hello.fields)
    this.#arm()
    this.#pipe.listen(this)
  }

  /** The acceptor's yes. */
  accept(welcome: Greeting): void {
    this.#greeting = undefined
    this.#welcome = this.#session.welcome(welcome.software, welcome.fields)
    this.#arm()
  }

  get welcome(): Welcome {
    if (!this.#welcome) throw new Error('no welcome yet')
    return this.#welcome
  }

  get roundTripMs(): number | undefined {
    return this.#session.roundTripMs
  }

  get stats(): LinkStats {
    return {
      bytesIn: this.#socket.bytesIn,
      bytesOut: this.#socket.bytesOut,
      streams: this.#session.streams,
      queuedBytes: this.#pipe.queuedBytes,
    }
  }

  get closed(): Promise<CloseReason> {
    return this.#closed.promise
  }

  get goingAway(): Promise<CloseReason> {
    return this.#goingAway.promise
  }

  open(init: OpenInit, events?: StreamEvents): LinkStream {
    return this.#session.open(init, events)
  }

  goAway(reason: string, deadlineMs: number, retryAfterMs?: number): void {
    this.#session.goAway(reason, deadlineMs, retryAfterMs)
  }

  close(reason: CloseReason): void {
    this.#session.close(reason)
  }

  // What the session tells

  onHello(hello: Hello): void {
    this.#greeting?.onHeard(hello)
  }

  onWelcome(welcome: Welcome): void {
    this.#welcome = welcome
    this.#greeting?.onHeard(welcome)
    this.#greeting = undefined
    this.#arm()
  }

  onGoingAway(reason: CloseReason): void {
    this.#goingAway.resolve(reason)
    this.#arm()
  }

  onClosed(reason: CloseReason): void {
    clearTimeout(this.#timer)
    this.#isPumping = true
    for (let frame = this.#session.nextFrame(); frame; frame = this.#session.nextFrame()) this.#emit(frame)
    if (reason.code === 'dead') this.#pipe.destroy()
    else this.#pipe.close(WEBSOCKET_CLOSE.normal, '')
    this.#greeting?.onLost(reason)
    this.#greeting = undefined
    this.#goingAway.resolve(reason)
    this.#closed.resolve(reason)
  }

  onBug(error: unknown): void {
    this.#log?.error({ error }, 'stream.handler_threw')
  }

  // What the pipe tells

  onBytes(bytes: Uint8Array, headroom: number, lender: ByteLender): void {
    this.#session.receive(bytes, headroom, lender)
  }

  onEmptyText(): void {
    this.close({ code: 'protocol_fault', message: 'a text message came on a link' })
  }

  onWritten(): void {
    this.outputReady()
  }

  onOver(how: PipeEnd): void {
    this.#session.lost(lossOf(how))
  }

  // The rest

  /** Moves frames to the socket while it holds less than the scheduler allows. */
  outputReady(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#pipe.queuedBytes < this.#session.handoverBytes) {
      const frame = this.#session.nextFrame()
      if (!frame) break
      this.#emit(frame)
    }
    this.#isPumping = false
  }

  takeShort(stream: number, bytes: Uint8Array): boolean {
    if (this.#isPumping || bytes.length > GATHER_BYTES) return false
    if (this.#pipe.queuedBytes >= this.#session.handoverBytes) return false
    this.#gather(stream, bytes)
    return true
  }

  #emit(frame: OutFrame): void {
    if (frame.kind === 'control') {
      this.#pipe.gather(NOTHING, frame.bytes)
      return
    }
    const { stream, write, offset, length } = frame
    const bytes = write.bytes.subarray(offset, offset + length)
    if (length <= GATHER_BYTES) {
      this.#gather(stream, bytes)
      write.pieceWritten()
      return
    }
    writeDataHeader(muxHeader, 0, length, stream)
    this.#pipe.send(muxHeader, bytes, write.headroomAt(offset), write)
  }

  #gather(stream: number, bytes: Uint8Array): void {
    writeDataHeader(muxHeader, 0, bytes.length, stream)
    this.#pipe.gather(muxHeader, bytes)
  }

  #arm(): void {
    clearTimeout(this.#timer)
    const deadline = this.#session.nextDeadline()
    if (deadline === Number.POSITIVE_INFINITY) return
    const wait = deadline - now()
    const most = this.#pipe.queuedBytes > 0 ? Math.min(wait, STALL_CHECK_MS) : wait
    this.#timer = setTimeout(tick, Math.max(1, Math.ceil(most)), this)
  }

  /** For the timer alone. */
  tick(): void {
    this.#session.tick()
    this.#lookForStall(now())
    this.#arm()
  }

  #lookForStall(at: number): void {
    const mark = this.#socket.progress
    if (this.#pipe.queuedBytes === 0 || mark !== this.#progress.mark) this.#progress = { mark, at }
    else if (at - this.#progress.at >= STALL_MS) {
      this.#session.lost({ code: 'dead', message: 'the network took nothing for 10 s' })
    }
  }
}

/** One function for all timers of all links. */
function tick(connection: LinkConnection): void {
  connection.tick()
}

const NOTHING = new Uint8Array(0)

/** Where the header of a data frame is made; it is copied before the next one. */
const muxHeader = new Uint8Array(FRAME_HEADER_BYTES)

/** How the end of the transport reads in a log. */
function lossOf(how: PipeEnd): CloseReason {
  switch (how.kind) {
    case 'closed':
      return { code: 'transport', message: `the other end closed the WebSocket (${how.code})` }
    case 'fault':
      return { code: 'protocol_fault', message: how.fault.message }
    case 'lost':
      return {
        code: 'transport',
        message: how.error ? `the connection broke: ${how.error.message}` : 'the connection ended',
      }
  }
}
