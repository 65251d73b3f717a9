import { TLSSocket } from 'node:tls'
import type { LinkStream } from '@cyberun/link'
import type { Routed } from './doors.ts'
import { type Fields, firstOf, formatHead } from './fields.ts'
import { lossRefusal } from './losses.ts'
import type { Visit } from './open-tunnel.ts'
import { isForPerson, refusalAnswer, sendOwn } from './pages.ts'
import { Refusal } from './refusal.ts'
import type { CheckedRequest } from './request-checks.ts'
import { rewriteRequest, rewriteRequestTrailers, type Visitor } from './request-head.ts'
import { type AnswerContext, rewriteInterim, rewriteResponse, rewriteTrailers } from './response-head.ts'
import type { ResponseHead } from './response-parser.ts'
import { switchingHead } from './switching.ts'
import type { Upstream, UpstreamLoss, UpstreamUser } from './upstream.ts'
import { POOL_LIMITS, type UpstreamPool } from './upstream-pool.ts'
import type { BodyReader, VisitorRequest, VisitorResponse } from './visitor-messages.ts'

/** A request that may go to a tunnel's service. */
export interface Admitted {
  checked: CheckedRequest
  routed: Routed
  visitor: Visitor
}

/** What all exchanges of an edge share. */
export interface ExchangeContext {
  now: () => number
  /** Names this edge in `Cyberun-Hop`. */
  hop: string
}

/** The visitor's connection, which has one exchange at a time. */
export interface Turn {
  /** Called once, when the next request may be served. */
  next(): void
}

/** The service granted the upgrade: `head` and then `rest`, valid during the call only, are for the visitor. */
export type OnSwitched = (stream: LinkStream, head: string, rest: Uint8Array) => void

/**
 * `opening`: a connection to the service is awaited. `asking`: the request goes out, no final answer yet.
 * `answering`: the answer's head is with the visitor's side. `over`: nothing more will be written by us.
 */
type Stage = 'opening' | 'asking' | 'answering' | 'over'

/** Methods that may be sent twice (RFC 9110, section 9.2.2). */
const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** Pieces up to this size are copied into text, so that Node writes them in one call with what stands before. */
const COPIED_BYTES = 8 * 1024
/** While the visitor's socket holds less than this, small pieces are copied and their credit goes back at once. */
const SOCKET_SLACK_BYTES = 64 * 1024
const CRLF = Buffer.from('\r\n')

/**
 * One request of a visitor and its answer: from `node:http` to a connection of the pool and back, in both directions at
 * once, nothing gathered but what arrived together. Ends when the answer is complete or either side is gone.
 */
export class Exchange implements UpstreamUser, BodyReader, Visit {
  readonly address: string
  readonly #request: VisitorRequest
  readonly #response: VisitorResponse
  readonly #checked: CheckedRequest
  readonly #routed: Routed
  readonly #visitor: Visitor
  readonly #pool: UpstreamPool
  readonly #context: ExchangeContext
  readonly #turn: Turn
  readonly #onSwitched: OnSwitched | undefined
  #stage: Stage = 'opening'
  #upstream: Upstream | undefined
  /** The connection carried an earlier request, so the service may have closed it just before this one. */
  #reused = false
  #retried = false
  #cancelOpening: AbortController | undefined
  #requestSent: boolean
  /** The answer is complete; its last piece may still have to be written. */
  #answer: { head: ResponseHead; trailers: Fields | undefined } | undefined
  /** The newest piece of the body, a view valid until the push that brought it returns. */
  #piece: Uint8Array | undefined
  /** Gives back, in order, the pieces that wait in the visitor's socket. */
  #held: (() => void)[] = []

  constructor(
    request: VisitorRequest,
    response: VisitorResponse,
    { checked, routed, visitor }: Admitted,
    pool: UpstreamPool,
    context: ExchangeContext,
    turn: Turn,
    onSwitched?: OnSwitched,
  ) {
    this.address = visitor.address
    this.#request = request
    this.#response = response
    this.#checked = checked
    this.#routed = routed
    this.#visitor = visitor
    this.#pool = pool
    this.#context = context
    this.#turn = turn
    this.#onSwitched = onSwitched
    this.#requestSent = checked.body.kind === 'none' || (checked.body.kind === 'length' && checked.body.bytes === 0)
  }

  /** Whether the visitor has sent all of its request. */
  get requestComplete(): boolean {
    return this.#request.complete
  }

  /** Whether the visitor has been sent some of the answer. */
  get answering(): boolean {
    return this.#stage === 'answering'
  }

  start(): void {
    const { tunnel } = this.#routed
    tunnel.begin(this, this.#context.now())
    this.#request.reader = this
    // A fault in a body that came along with its head is found before the next turn: then the service hears nothing.
    if (this.#requestSent) this.#connect()
    else setImmediate(() => this.#connect())
  }

  /** The visitor is gone. */
  visitorGone(): void {
    if (this.#stage !== 'over') {
      this.#upstream?.abort()
      this.#end()
    }
    for (const release of this.#held.splice(0)) release()
  }

  tunnelClosed(): void {
    const { socket } = this.#response
    const answering = this.#stage === 'answering'
    this.#fail(new Refusal('not_found', 'this tunnel has been closed'))
    // Not even what waits for a slow visitor is delivered any more.
    if (answering) socket?.destroy()
  }

  // The request, from the visitor to the service.

  #connect(): void {
    if (this.#stage !== 'opening') return
    const repeatable = this.#requestSent && REPEATABLE.has(this.#checked.method)
    const idle = this.#retried
      ? undefined
      : this.#pool.take(this.#context.now(), repeatable ? POOL_LIMITS.idleMs : POOL_LIMITS.freshMs)
    if (idle) {
      this.#reused = true
      this.#ask(idle)
      return
    }
    this.#reused = false
    this.#cancelOpening = new AbortController()
    void this.#pool.open(this.#cancelOpening.signal).then((opened) => this.#opened(opened))
  }

  #opened(opened: Upstream | Refusal): void {
    if (this.#stage !== 'opening') {
      if (!(opened instanceof Refusal)) opened.abort()
    } else if (opened instanceof Refusal) {
      this.#fail(opened)
    } else {
      this.#ask(opened)
    }
  }

  #ask(upstream: Upstream): void {
    const { tunnel, door, path } = this.#routed
    const checked = this.#checked
    this.#stage = 'asking'
    this.#upstream = upstream
    upstream.begin(this, { toHead: checked.method === 'HEAD', toUpgrade: checked.upgrade !== 'none' })
    const head = rewriteRequest(checked, path, door, tunnel.target, this.#visitor, this.#context.hop)
    upstream.write(Buffer.from(formatHead(`${head.method} ${head.target} HTTP/1.1`, head.fields), 'latin1'))
    if (this.#requestSent) return
    this.#request.on('data', takeRequestBytes)
    this.#request.on('end', takeRequestEnd)
  }

  takeRequestBytes(bytes: Buffer): void {
    const upstream = this.#upstream
    if (!upstream || this.#stage === 'over') return
    const writable = this.#checked.body.kind === 'chunked' ? writeChunk(upstream, bytes) : upstream.write(bytes)
    if (!writable) this.#request.pause()
  }

  takeRequestEnd(): void {
    if (this.#stage === 'over' || !this.#upstream) return
    if (this.#checked.body.kind === 'chunked') {
      const trailers = rewriteRequestTrailers(this.#request.rawTrailers)
      this.#upstream.write(Buffer.from(formatHead('0', trailers), 'latin1'))
    }
    this.#requestSent = true
  }

  onDrain(): void {
    this.#request.resume()
  }

  // The answer, from the service to the visitor.

  onInterim(status: number, reason: string, fields: Fields): void {
    if (this.#checked.oldVersion) return
    const response = this.#response
    if (status === 100) {
      response.writeContinue()
      return
    }
    // Only the answer whose turn it is may write beside Node; others lose a hint that is of no use later.
    response.socket?.write(
      formatHead(`HTTP/1.1 ${status} ${reason}`, rewriteInterim(fields, this.#answerContext(status))),
      'latin1',
    )
  }

  onHead(head: ResponseHead): void {
    const response = this.#response
    this.#answer = { head, trailers: undefined }
    if (head.status === 101) return
    this.#stage = 'answering'
    response.sendDate = false
    // The visitor may or may not send the body it asked about; no next request can be told from it.
    if (this.#checked.awaitsContinue && !this.#requestSent && !this.#request.readableDidRead) {
      response.shouldKeepAlive = false
    }
    response.writeHead(head.status, head.reason, rewriteResponse(head.fields, this.#answerContext(head.status)))
  }

  onBody(bytes: Uint8Array): void {
    if (this.#piece) this.#writePiece(this.#piece)
    this.#piece = bytes
  }

  onComplete(trailers: Fields): void {
    if (this.#answer) this.#answer.trailers = trailers
  }

  onPushed(): void {
    if (this.#stage !== 'answering') return
    const piece = this.#piece
    this.#piece = undefined
    if (this.#answer?.trailers) this.#finish(this.#answer.trailers, piece)
    else if (piece) this.#writePiece(piece)
    // Not flushHeaders(): that would write the bytes of the fields as UTF-8.
    else this.#response.write('', 'latin1')
  }

  onSwitched(rest: Uint8Array): void {
    const granted = this.#answer && switchingHead(this.#checked, this.#answer.head, this.#answerContext(101))
    if (!granted) {
      this.#fail(new Refusal('bad_response', 'the service granted an upgrade that does not answer the request'))
      return
    }
    const stream = this.#upstream?.giveAway()
    this.#end()
    if (stream) this.#onSwitched?.(stream, granted, rest)
  }

  onLost(loss: UpstreamLoss): void {
    const unanswered = this.#stage === 'asking' && this.#upstream?.answerBegan === false
    const repeatable = this.#checked.body.kind === 'none' && REPEATABLE.has(this.#checked.method)
    const ours = this.#reused || (loss.kind === 'reset' && loss.code === 'link_lost')
    if (unanswered && repeatable && ours && !this.#retried) {
      this.#retried = true
      this.#stage = 'opening'
      this.#connect()
      return
    }
    this.#fail(
      loss.kind === 'reset'
        ? lossRefusal(loss.code)
        : new Refusal('bad_response', `${loss.message}, so its answer cannot be passed on`),
    )
  }

  #answerContext(status: number): AnswerContext {
    const { tunnel, door } = this.#routed
    return {
      door,
      target: tunnel.target,
      status,
      chunked: this.#answer?.head.framing.kind === 'chunked' && !this.#checked.oldVersion,
      requestOrigin: firstOf(this.#checked.fields, 'origin'),
    }
  }

  /** Writes a piece at once. Its credit goes back to the service when the visitor's kernel has taken it. */
  #writePiece(piece: Uint8Array): void {
    const response = this.#response
    if (piece.length <= COPIED_BYTES && response.writableLength < SOCKET_SLACK_BYTES) {
      response.write(textOf(piece), 'latin1')
      return
    }
    const release = this.#upstream?.hold()
    if (release) this.#held.push(release)
    response.write(piece, () => this.#held.shift()?.())
  }

  #finish(trailers: Fields, piece: Uint8Array | undefined): void {
    const response = this.#response
    if (trailers.length > 0) response.addTrailers(pairs(rewriteTrailers(trailers)))
    if (piece && piece.length <= COPIED_BYTES) {
      response.end(textOf(piece), 'latin1')
    } else {
      if (piece) this.#writePiece(piece)
      response.end()
    }
    this.#leaveUpstream()
    this.#end()
  }

  #leaveUpstream(): void {
    const upstream = this.#upstream
    if (!upstream) return
    const now = this.#context.now()
    if (!this.#requestSent) upstream.abort()
    else if (this.#answer?.head.persistent && upstream.reusable) this.#pool.give(upstream, now)
    else this.#pool.retire(upstream, now)
  }

  // The end.

  /** Something went wrong: says so when nothing was said yet, else cuts the answer so that it cannot pass for whole. */
  #fail(refusal: Refusal): void {
    if (this.#stage === 'over') return
    const cut = this.#stage === 'answering'
    this.#upstream?.abort()
    this.#end()
    if (cut) this.#cut()
    else
      sendOwn(this.#response, refusalAnswer(refusal, isForPerson(this.#checked.fields)), this.#checked.awaitsContinue)
  }

  /** Ends the visitor's connection within the answer, after what has arrived of it. */
  #cut(): void {
    const socket = this.#response.socket
    const framed = this.#answer?.head.framing.kind === 'length' || !this.#checked.oldVersion
    // Where the end of the connection is the end of the body, only a reset is no clean end; TLS has its own (RFC 8446, 6.1).
    if (framed) socket?.destroySoon()
    else if (socket instanceof TLSSocket) socket.destroy()
    else socket?.resetAndDestroy()
  }

  #end(): void {
    this.#stage = 'over'
    this.#cancelOpening?.abort()
    // What is left of the request is read and dropped, so that the visitor gets to read the answer.
    if (!this.#requestSent) this.#request.resume()
    this.#request.reader = undefined
    this.#routed.tunnel.end(this, this.#context.now())
    this.#turn.next()
  }
}

function takeRequestBytes(this: VisitorRequest, bytes: Buffer): void {
  this.reader?.takeRequestBytes(bytes)
}

function takeRequestEnd(this: VisitorRequest): void {
  this.reader?.takeRequestEnd()
}

function writeChunk(upstream: Upstream, bytes: Buffer): boolean {
  const size = Buffer.from(`${bytes.length.toString(16)}\r\n`, 'latin1')
  if (bytes.length <= COPIED_BYTES) return upstream.write(Buffer.concat([size, bytes, CRLF]))
  upstream.write(size)
  upstream.write(bytes)
  return upstream.write(CRLF)
}

function textOf(piece: Uint8Array): string {
  return Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString('latin1')
}

function pairs(fields: Fields): [string, string][] {
  const list: [string, string][] = []
  for (let i = 0; i < fields.length; i += 2) list.push([fields[i] ?? '', fields[i + 1] ?? ''])
  return list
}
