import { STATUS_CODES } from 'node:http'
import { type Chunk, type PumpEvents, type PumpSocket, SocketChunk } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { ByteLender } from '@cyberun/protocol'
import type { Tally } from '../../tally.ts'
import type { Fields } from '../http/fields.ts'
import { type OwnAnswer, refusalAnswer } from '../http/pages.ts'
import { Refusal } from '../http/refusal.ts'
import {
  type RequestBody,
  RequestFault,
  type RequestHead,
  RequestParser,
  type RequestSink,
} from '../http/request-parser.ts'
import { SectionBytes } from '../http/section-bytes.ts'
import { type Afterwards, AnswerWriter, type PieceOwner } from './answer-writer.ts'

/** How long a visitor may keep us waiting, and what it may send before it is its turn. */
export const CONNECTION_LIMITS = {
  /** From the first byte of a head to its last, and from a connection's begin to its first byte. */
  headMs: 10_000,
  /** How long a connection without a request stays open, or one whose answered request sends nothing more of its body. */
  keepAliveMs: 75_000,
  /** How long a visitor may take nothing of an answer that waits for it. */
  stalledMs: 300_000,
  /**
   * How long nothing of a request's body may move to the service, while it sends nothing either. Credit and the kernels'
   * buffers move in steps of MiB, so a service that takes little at a time looks for long as if it took nothing. Nothing else
   * bounds how long a request and its answer take.
   */
  bodyStalledMs: 3_600_000,
  /** How long a visitor has to close its side after we closed ours; until then what it sends is dropped. */
  lingerMs: 2_000,
  /** Bytes kept of what comes before it can be used; the read that goes beyond it is the last. */
  aheadBytes: 64 * 1024,
  /** While more of its answers waits for a visitor than this, its next request is not begun. */
  untakenBytes: 8 * 1024,
} as const

/** Whoever serves the request whose turn it is. */
export interface Served {
  /** Whether the visitor has been sent some of the answer. */
  readonly answering: boolean
  /** A piece of the request's body. Comes only after `VisitorConnection.readBody`. */
  onRequestBytes(chunk: Chunk): void
  onRequestEnd(trailers: Fields): void
  /** The service has taken nothing of the body for too long. */
  bodyStalled(): void
  /** The visitor left, or cannot be understood any more. */
  visitorGone(): void
}

/** What becomes of a request: how its body is framed, and what answers it. */
export interface Examined {
  body: RequestBody
  serve(): void
}

/** What a connection needs of the front. */
export interface ConnectionHost {
  readonly now: () => number
  readonly log: Log
  /** Answers of the edge's own, by their status. */
  readonly ownAnswers: Tally
  /** Judges a request whose turn it is. `rest`: bytes that came together with its head, after it. */
  examine(connection: VisitorConnection, head: RequestHead, rest: number): Examined
  /** The connection is closed or was handed over. */
  forget(connection: VisitorConnection): void
}

/**
 * `fresh`: nothing came yet. `idle`: between two requests. `head`: some of a head is here. `serving`: a request has its
 * turn. `draining`: it was answered before its body was here, which is dropped. `closing`: our last byte is out, what
 * comes is dropped. `over`: closed, or somebody else's.
 */
type Phase = 'fresh' | 'idle' | 'head' | 'serving' | 'draining' | 'closing' | 'over'

/**
 * One connection of a visitor: its requests are served one after the other (RFC 9112, section 9.3.2). What comes while
 * one is served is kept unread, in bytes, so that pipelining costs no more than those.
 */
export class VisitorConnection implements PumpEvents, RequestSink {
  readonly socket: PumpSocket
  /** The port door's port, when it came to one. */
  readonly edgePort: number | undefined
  /** Writes to the visitor, for whoever serves. */
  readonly answer: AnswerWriter
  readonly #host: ConnectionHost
  readonly #parser = new RequestParser(this)
  readonly #ahead = new SectionBytes()
  #phase: Phase = 'fresh'
  /** When the phase began. */
  #since: number
  /** The request whose head was just read, until it is served. */
  #examined: Examined | undefined
  #current: Served | undefined
  /** Whoever serves takes the body now. */
  #isBodyWanted = false
  #wasBodyWanted = false
  /** The request asks for another protocol: until that is granted the visitor has nothing to say. */
  #isSwitching = false
  /** No request is taken after this one. */
  #isLast = false
  #isToHead = false
  /** Whose bytes are being read. */
  #lender: ByteLender = OWN_BYTES
  /** What the visitor's socket has taken while something waits for it. */
  readonly #answering = new Standstill()
  /** What has moved either way while the body waits for the service. Nothing is read then: a visitor who leaves is not seen. */
  readonly #uploading = new Standstill()
  #wasHeard = false

  constructor(socket: PumpSocket, host: ConnectionHost, edgePort?: number) {
    this.socket = socket
    this.edgePort = edgePort
    this.answer = new AnswerWriter(socket, CONNECTION_LIMITS.keepAliveMs)
    this.#host = host
    this.#since = host.now()
  }

  // What whoever serves calls.

  /** Names who serves the request just told of. `isSwitching`: it asks for another protocol. */
  serveBy(served: Served, isSwitching: boolean): void {
    this.#current = served
    this.#isSwitching = isSwitching
  }

  /** Whether the visitor has sent all of its request. */
  get isRequestComplete(): boolean {
    return this.#parser.isBodyComplete
  }

  /** The body may come, until `pauseBody`. */
  readBody(): void {
    this.#isBodyWanted = true
    this.#wasBodyWanted = true
    this.#readOn()
  }

  pauseBody(): void {
    this.#isBodyWanted = false
    this.socket.pause()
  }

  /** Decides whether the connection goes on after the answer whose head is about to be written. */
  conclude(mayKeep: boolean): Afterwards {
    if (!mayKeep) this.#isLast = true
    return this.#isLast ? 'close' : 'keep'
  }

  /** Answers in full, in our own name. */
  answerOwn({ status, fields, body }: OwnAnswer, mayKeep: boolean): void {
    this.#host.ownAnswers.add(String(status))
    const dated = [...fields, 'Date', new Date(this.#host.now()).toUTCString()]
    this.answer.head(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, dated, this.conclude(mayKeep), false)
    if (!this.#isToHead) this.answer.body(body, OWN_PIECE)
    this.answer.flush()
    this.next()
  }

  /** The request being served has its answer: the next one's turn. Harmless when that was said before. */
  next(): void {
    if (this.#phase !== 'serving') return
    this.#current = undefined
    this.#isSwitching = false
    if (this.#isLast) {
      this.#close()
      return
    }
    this.#enter(this.isRequestComplete ? 'idle' : 'draining')
    this.#readOn()
  }

  /**
   * Ends the connection within an answer, after what was written of it. `isFramed`: a visitor can tell that something is
   * missing. Where the end of the connection is the end of the body, only a reset is no clean end; TLS has its own
   * (RFC 8446, section 6.1).
   */
  cut(isFramed: boolean): void {
    this.#enter('over')
    this.#current = undefined
    this.answer.flush()
    if (isFramed) this.socket.destroySoon()
    else this.socket.reset()
  }

  /** Gives the connection away, with nothing of it read or written from here on. */
  handOver(): PumpSocket {
    this.#enter('over')
    this.#current = undefined
    this.socket.rest()
    this.#host.forget(this)
    return this.socket
  }

  // What the front calls.

  /** Serves no request after the one being served, if any. */
  stop(): void {
    this.#isLast = true
    if (this.#phase === 'fresh' || this.#phase === 'idle') this.#closeIdle()
    else if (this.#phase === 'draining') this.#close()
  }

  destroy(): void {
    this.#leave()
    this.socket.destroy()
  }

  /** Ends what has kept us waiting for too long. Called about once a second. */
  sweep(now: number): void {
    if (this.#wasHeard && this.#phase === 'draining') this.#since = now
    this.#wasHeard = false
    const waited = now - this.#since
    if (this.#isStalled(now)) this.destroy()
    else if (this.#isBodyStalled(now)) this.#current?.bodyStalled()
    else if (this.#phase === 'fresh' && waited > CONNECTION_LIMITS.headMs) this.#closeIdle()
    else if (this.#phase === 'idle' && this.#ahead.length === 0 && waited > CONNECTION_LIMITS.keepAliveMs)
      this.#closeIdle()
    else if (this.#phase === 'draining' && waited > CONNECTION_LIMITS.keepAliveMs) this.#close()
    else if (this.#phase === 'head' && waited > CONNECTION_LIMITS.headMs) this.#refuse(TOO_SLOW)
    else if (this.#phase === 'closing' && waited > CONNECTION_LIMITS.lingerMs) this.socket.destroy()
  }

  // What the socket tells.

  onBytes(bytes: Uint8Array, _headroom: number, lender: ByteLender): void {
    this.#wasHeard = true
    if (this.#isSwitching) {
      // Bytes before the grant would belong to nobody.
      this.destroy()
    } else if (this.#ahead.length > 0) {
      this.#keep(bytes, 0)
    } else {
      this.#lender = lender
      this.#read(bytes)
      this.#lender = OWN_BYTES
    }
  }

  /** Whether a visitor that ended its direction still listens cannot be seen: it has left (docs/http.md). */
  onEnd(): void {
    const wasServed = this.#phase === 'serving'
    this.#leave()
    if (wasServed) this.socket.destroy()
    else this.socket.destroySoon()
  }

  onWritten(): void {
    if (this.#phase === 'idle' && this.#ahead.length > 0 && this.#mayRead) this.#readOn()
  }

  onClose(): void {
    this.#leave()
    this.#host.forget(this)
  }

  // What the parser tells.

  onHead(head: RequestHead, rest: number): RequestBody {
    this.#enter('serving')
    this.#isToHead = head.method === 'HEAD'
    this.#isBodyWanted = false
    this.#wasBodyWanted = false
    this.#examined = this.#host.examine(this, head, rest)
    return this.#examined.body
  }

  onBody(bytes: Uint8Array): void {
    this.#current?.onRequestBytes(new SocketChunk(bytes, 0, this.#lender))
  }

  onComplete(trailers: Fields): void {
    if (this.#phase === 'draining') this.#enter('idle')
    else this.#current?.onRequestEnd(trailers)
  }

  // Reading.

  /** Whether the next bytes can be used now. */
  get #mayRead(): boolean {
    switch (this.#phase) {
      case 'fresh':
      case 'head':
      case 'draining':
        return true
      case 'idle':
        return this.socket.queuedBytes <= CONNECTION_LIMITS.untakenBytes
      case 'serving':
        return this.#isBodyWanted && !this.isRequestComplete
      case 'closing':
      case 'over':
        return false
      default:
        return this.#phase satisfies never
    }
  }

  #read(bytes: Uint8Array): void {
    let at = 0
    try {
      while (at < bytes.length && this.#mayRead) {
        at = this.#parser.read(bytes, at)
        this.#serveExamined()
      }
    } catch (error) {
      this.#fault(error)
      return
    }
    if (at < bytes.length) this.#keep(bytes, at)
    else if (this.#parser.isWithinHead && this.#phase !== 'head') this.#enter('head')
  }

  /** Not before the parser knows of the body: an answer may be complete at once. */
  #serveExamined(): void {
    const examined = this.#examined
    this.#examined = undefined
    examined?.serve()
  }

  #keep(bytes: Uint8Array, from: number): void {
    if (this.#phase === 'closing' || this.#phase === 'over') return
    this.#ahead.append(bytes, from, bytes.length)
    if (this.#ahead.length >= CONNECTION_LIMITS.aheadBytes) this.socket.pause()
  }

  /** Reads what was kept, and then on from the socket. */
  #readOn(): void {
    if (this.#ahead.length > 0) this.#read(this.#ahead.takeBytes())
    if (this.#mayListen) this.socket.resume()
  }

  /** Whether the body waits for the service. */
  get #isBlocked(): boolean {
    return this.#phase === 'serving' && this.#wasBodyWanted && !this.#isBodyWanted && !this.isRequestComplete
  }

  get #mayListen(): boolean {
    return !this.#isBlocked && this.#phase !== 'over' && this.#ahead.length < CONNECTION_LIMITS.aheadBytes
  }

  /** What came cannot be understood, or made us fail: nothing further on this connection can. */
  #fault(error: unknown): void {
    if (error instanceof RequestFault) {
      this.#refuse(new Refusal(error.code, error.message))
      return
    }
    this.#host.log.error({ error }, 'edge.request_failed')
    this.#refuse(OWN_FAULT)
  }

  // The end.

  /** Says why and closes; without a word where an answer has begun, or would belong to nobody. */
  #refuse(refusal: Refusal): void {
    // What cannot be read as a request is no HEAD, whatever the one before it was.
    if (this.#phase !== 'serving') this.#isToHead = false
    const mayAnswer = this.#current ? !this.#current.answering : this.#phase !== 'draining'
    this.#leave()
    if (!mayAnswer) {
      this.socket.destroySoon()
      return
    }
    this.#enter('serving')
    this.answerOwn(refusalAnswer(refusal, 'program'), false)
  }

  /** Closes a connection on which the visitor owes us nothing. */
  #closeIdle(): void {
    this.#enter('over')
    this.socket.destroySoon()
  }

  /** Sends what is written and our end; drops what still comes, as a reset could overtake the answer (RFC 9112, 9.6). */
  #close(): void {
    this.#enter('closing')
    this.#ahead.clear()
    this.socket.end()
    this.socket.resume()
  }

  /** Nobody serves the visitor any more. */
  #leave(): void {
    const current = this.#current
    this.#current = undefined
    this.#examined = undefined
    this.#isSwitching = false
    this.#enter('over')
    current?.visitorGone()
  }

  #enter(phase: Phase): void {
    this.#phase = phase
    this.#since = this.#host.now()
  }

  /** Whether the visitor has taken nothing for too long of what waits for it. */
  #isStalled(now: number): boolean {
    if (this.socket.queuedBytes === 0) this.#answering.end()
    else if (this.#answering.lasts(this.socket.progress, now) > CONNECTION_LIMITS.stalledMs) return true
    // Its end comes when it has read the rest.
    else if (this.#phase === 'closing') this.#since = now
    return false
  }

  #isBodyStalled(now: number): boolean {
    const { bytesIn, bytesOut } = this.socket
    if (this.#isBlocked) return this.#uploading.lasts(bytesIn + bytesOut, now) > CONNECTION_LIMITS.bodyStalledMs
    this.#uploading.end()
    return false
  }
}

/** How long a count has not changed, as far as it was looked at. */
class Standstill {
  #count: number | undefined
  #since = 0

  /** Milliseconds since `count` was first seen. */
  lasts(count: number, now: number): number {
    if (count !== this.#count) {
      this.#count = count
      this.#since = now
    }
    return now - this.#since
  }

  end(): void {
    this.#count = undefined
  }
}

const TOO_SLOW = new Refusal(
  'request_timeout',
  `the request's head did not arrive within ${CONNECTION_LIMITS.headMs} ms`,
)
const OWN_FAULT = new Refusal('internal', 'this is a fault of the server; see its log')

/** Bytes that nobody writes over. */
const OWN_BYTES: ByteLender = { lend: () => () => {}, isTooDear: () => false, copy: (bytes) => bytes }

const OWN_PIECE: PieceOwner = { keep: (bytes) => ({ bytes, release() {} }) }
