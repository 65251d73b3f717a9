import type { Chunk, LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { Tally } from '../../tally.ts'
import type { RequestUse } from '../activity.ts'
import type { Routed } from '../doors/door-search.ts'
import { type Fields, firstOf, formatHead } from '../http/fields.ts'
import { lossRefusal } from '../http/losses.ts'
import { audienceOf, refusalAnswer } from '../http/pages.ts'
import { Refusal } from '../http/refusal.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import { rewriteRequest, rewriteRequestTrailers, type Visitor } from '../http/request-head.ts'
import { type AnswerContext, rewriteInterim, rewriteResponse, rewriteTrailers } from '../http/response-head.ts'
import type { ResponseHead } from '../http/response-parser.ts'
import { switchingHead } from '../http/switching.ts'
import type { InspectedRequest } from '../inspector/inspector.ts'
import { isDownload, seenRequest } from '../inspector/seen-request.ts'
import type { Visit } from '../open-tunnel.ts'
import type { Upstream, UpstreamLoss, UpstreamUser } from './upstream.ts'
import { POOL_LIMITS, type UpstreamPool } from './upstream-pool.ts'
import type { Served, VisitorConnection } from './visitor-connection.ts'

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
  log: Log
  /** Answers of services, by the class of their status. */
  serviceAnswers: Tally
}

/**
 * The service granted the upgrade: `head` and then `rest`, valid during the call only, are for the visitor. `inspected`
 * wants to be told what the WebSocket carries.
 */
export type OnSwitched = (stream: LinkStream, head: Uint8Array, rest: Uint8Array, inspected?: InspectedRequest) => void

/**
 * `opening`: a connection to the service is awaited. `asking`: the request goes out, no final answer yet.
 * `answering`: the answer's head is with the visitor's side. `over`: nothing more will be written by us.
 */
type Stage = 'opening' | 'asking' | 'answering' | 'over'

/** Methods that may be sent twice (RFC 9110, section 9.2.2). */
const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** Chunks of a request up to this size are copied, so that their size, bytes and end are one write. */
const COPIED_BYTES = 8 * 1024
const CRLF = Buffer.from('\r\n')
const CONTINUE = 'HTTP/1.1 100 Continue'

/**
 * One request of a visitor and its answer: from the visitor's connection to one of the pool and back, in both directions
 * at once, nothing gathered but what arrived together. Ends when the answer is complete or either side is gone.
 */
export class Exchange implements UpstreamUser, Served, Visit {
  readonly address: string
  readonly userAgent: string
  readonly #connection: VisitorConnection
  readonly #checked: CheckedRequest
  readonly #routed: Routed
  readonly #visitor: Visitor
  readonly #pool: UpstreamPool
  readonly #context: ExchangeContext
  readonly #onSwitched: OnSwitched | undefined
  /** Present while the tunnel is being inspected. */
  #inspected: InspectedRequest | undefined
  /** What of this keeps the tunnel open; there from `start` on. */
  #use: RequestUse | undefined
  #stage: Stage = 'opening'
  #upstream: Upstream | undefined
  /** The connection carried an earlier request, so the service may have closed it just before this one. */
  #reused = false
  #retried = false
  #cancelOpening: AbortController | undefined
  #isRequestSent: boolean
  #hasBodyArrived = false
  #answer: ResponseHead | undefined
  /** The answer is complete and still has to leave. */
  #isAnswered = false

  constructor(
    connection: VisitorConnection,
    { checked, routed, visitor }: Admitted,
    pool: UpstreamPool,
    context: ExchangeContext,
    onSwitched?: OnSwitched,
  ) {
    this.address = visitor.address
    this.userAgent = visitor.userAgent
    this.#connection = connection
    this.#checked = checked
    this.#routed = routed
    this.#visitor = visitor
    this.#pool = pool
    this.#context = context
    this.#onSwitched = onSwitched
    this.#isRequestSent = checked.body.kind === 'none' || (checked.body.kind === 'length' && checked.body.bytes === 0)
  }

  get answering(): boolean {
    return this.#stage === 'answering'
  }

  start(): void {
    const { tunnel, path } = this.#routed
    const now = this.#context.now()
    tunnel.begin(this, now)
    this.#use = tunnel.activity.request(seenRequest(this.#checked, path), now)
    this.#inspected = tunnel.inspector?.begin({
      method: this.#checked.method,
      path,
      address: this.address,
      replayOf: null,
    })
    this.#connect()
  }

  visitorGone(): void {
    if (this.#stage === 'over') return
    this.#upstream?.abort()
    this.#inspected?.ended({ code: 'visitor_gone' })
    this.#end()
  }

  bodyStalled(): void {
    this.#fail(new Refusal('target_timeout', 'the service behind this tunnel takes nothing of the request'))
  }

  tunnelClosed(): void {
    const answering = this.#stage === 'answering'
    this.#fail(new Refusal('not_found', 'this tunnel has been closed'))
    // Not even what waits for a slow visitor is delivered any more.
    if (answering) this.#connection.destroy()
  }

  // The request, from the visitor to the service.

  #connect(): void {
    if (this.#stage !== 'opening') return
    const repeatable = this.#isRequestSent && REPEATABLE.has(this.#checked.method)
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
    this.#pool
      .open(this.#cancelOpening.signal)
      .then((opened) => this.#opened(opened))
      .catch((error: unknown) => this.onBug(error))
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
    this.#inspected?.asked(head.fields, !this.#isRequestSent, this.#reused ? undefined : upstream.reached)
    upstream.write(formatHead(`${head.method} ${head.target} HTTP/1.1`, head.fields))
    if (!this.#isRequestSent) this.#connection.readBody()
  }

  onRequestBytes(chunk: Chunk): void {
    const upstream = this.#upstream
    if (!upstream || this.#stage === 'over') return
    this.#hasBodyArrived = true
    this.#use?.uploaded(chunk.bytes.length, this.#context.now())
    this.#inspected?.requestBytes(chunk.bytes)
    const isChunked = this.#checked.body.kind === 'chunked'
    const writable = isChunked ? writeChunk(upstream, chunk) : upstream.pass(chunk)
    if (!writable) this.#connection.pauseBody()
  }

  onRequestEnd(trailers: Fields): void {
    if (this.#stage === 'over' || !this.#upstream) return
    this.#inspected?.requestEnded()
    if (this.#checked.body.kind === 'chunked') {
      this.#upstream.write(formatHead('0', rewriteRequestTrailers(trailers)))
    }
    this.#isRequestSent = true
  }

  onDrain(): void {
    if (!this.#isRequestSent) this.#connection.readBody()
  }

  // The answer, from the service to the visitor.

  onInterim(status: number, reason: string, fields: Fields): void {
    if (this.#checked.oldVersion) return
    const passed = status === 100 ? [] : rewriteInterim(fields, this.#answerContext(status, false))
    this.#connection.answer.interim(status === 100 ? CONTINUE : `HTTP/1.1 ${status} ${reason}`, passed)
  }

  onHead(head: ResponseHead): void {
    this.#answer = head
    this.#context.serviceAnswers.add(`${Math.floor(head.status / 100)}xx`)
    this.#use?.answered(head.status, isDownload(head), this.#context.now())
    this.#inspected?.answered(head.status, head.fields)
    if (head.status === 101) return
    this.#stage = 'answering'
    const { oldVersion, persistent, awaitsContinue } = this.#checked
    const isUnbounded = head.framing.kind === 'chunked' || head.framing.kind === 'close'
    // The visitor may or may not send the body it asked about; no next request can be told from it.
    const isBodyInDoubt = awaitsContinue && !this.#isRequestSent && !this.#hasBodyArrived
    const afterwards = this.#connection.conclude(persistent && !isBodyInDoubt && !(isUnbounded && oldVersion))
    const isChunked = isUnbounded && !oldVersion
    const context = this.#answerContext(head.status, head.framing.kind === 'chunked' && !oldVersion)
    const fields = rewriteResponse(head.fields, context)
    this.#connection.answer.head(`HTTP/1.1 ${head.status} ${head.reason}`, fields, afterwards, isChunked)
  }

  onBody(bytes: Uint8Array): void {
    if (this.#use?.isDownload) this.#use.downloaded(bytes.length, this.#context.now())
    if (this.#upstream) this.#connection.answer.body(bytes, this.#upstream)
    this.#inspected?.responseBytes(bytes, this.#connection.socket.refusedBytes > 0)
  }

  onComplete(trailers: Fields): void {
    if (!this.#answer || this.#answer.status === 101) return
    this.#connection.answer.end(rewriteTrailers(trailers))
    this.#isAnswered = true
  }

  onPushed(): void {
    if (this.#stage === 'over') return
    this.#connection.answer.flush()
    if (!this.#isAnswered) return
    this.#leaveUpstream()
    this.#end()
    this.#connection.next()
  }

  onSwitched(rest: Uint8Array): void {
    const granted = this.#answer && switchingHead(this.#checked, this.#answer, this.#answerContext(101, false))
    if (!granted) {
      this.#fail(new Refusal('bad_response', 'the service granted an upgrade that does not answer the request'))
      return
    }
    // An interim answer may have come together with the 101.
    this.#connection.answer.flush()
    const stream = this.#upstream?.giveAway()
    const inspected = this.#inspected
    this.#inspected = undefined // it goes on with the WebSocket
    this.#end()
    if (stream) this.#onSwitched?.(stream, granted, rest, inspected)
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

  /** A fault of ours: this request fails, and nothing else does. */
  onBug(error: unknown): void {
    this.#context.log.error({ error }, 'edge.request_failed')
    this.#fail(new Refusal('internal', 'this is a fault of the server; see its log'))
  }

  #answerContext(status: number, chunked: boolean): AnswerContext {
    const { tunnel, door } = this.#routed
    const requestOrigin = firstOf(this.#checked.fields, 'origin')
    return { door, target: tunnel.target, status, chunked, requestOrigin }
  }

  #leaveUpstream(): void {
    const upstream = this.#upstream
    if (!upstream) return
    const now = this.#context.now()
    if (!this.#isRequestSent) upstream.abort()
    else if (this.#answer?.persistent && upstream.reusable) this.#pool.give(upstream, now)
    else this.#pool.retire(upstream, now)
  }

  // The end.

  /** Something went wrong: says so when nothing was said yet, else cuts the answer so that it cannot pass for whole. */
  #fail(refusal: Refusal): void {
    if (this.#stage === 'over') return
    const cut = this.#stage === 'answering'
    const { oldVersion, persistent, awaitsContinue } = this.#checked
    this.#upstream?.abort()
    this.#inspected?.ended({ code: refusal.code, status: refusal.status })
    this.#end()
    if (cut) this.#connection.cut(this.#answer?.framing.kind === 'length' || !oldVersion)
    else this.#connection.answerOwn(refusalAnswer(refusal, audienceOf(this.#checked)), persistent && !awaitsContinue)
  }

  #end(): void {
    this.#stage = 'over'
    this.#inspected?.ended()
    this.#cancelOpening?.abort()
    const now = this.#context.now()
    this.#use?.ended(now)
    this.#routed.tunnel.end(this, now)
  }
}

function writeChunk(upstream: Upstream, chunk: Chunk): boolean {
  const { bytes } = chunk
  const size = Buffer.from(`${bytes.length.toString(16)}\r\n`, 'latin1')
  if (bytes.length <= COPIED_BYTES) return upstream.write(Buffer.concat([size, bytes, CRLF]))
  upstream.write(size)
  upstream.pass(chunk)
  return upstream.write(CRLF)
}
