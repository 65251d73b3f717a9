import { METHODS } from 'node:http'
import { type BodyFraming, BodyReader } from './body-reader.ts'
import type { Fields } from './fields.ts'
import { parseFields, SectionReader, SyntaxFault } from './message-syntax.ts'
import type { RefusalCode } from './refusal.ts'

/**
 * Reads the requests of a visitor: HTTP/1.1 as RFC 9112 has it, refusing what could be read in two ways rather than
 * mending it. Takes bytes, calls its sink, does no I/O. How the bytes are cut never matters. What the fields mean is
 * judged by request-checks.ts.
 */

/** Bounds on what a visitor may make us hold. */
export const REQUEST_LIMITS = {
  /** Bytes of a request line with its fields, and of a chunked body's trailers; above it 431. */
  headBytes: 64 * 1024,
  headFields: 1_000,
  /** Bytes of one chunk-size line with its extensions. */
  chunkLineBytes: 4 * 1024,
} as const

/** How a request's body is framed: no request ends with its connection. */
export type RequestBody = Exclude<BodyFraming, { kind: 'close' }>

/** A request line and its fields, as sent. */
export interface RequestHead {
  method: string
  target: string
  /** `1.1` */
  httpVersion: string
  fields: Fields
}

/** Is told of each request: one `onHead`, `onBody`s, and one `onComplete` if it has a body. */
export interface RequestSink {
  /** Returns how the body is framed. `rest`: bytes that came together with the head, after it. */
  onHead(head: RequestHead, rest: number): RequestBody
  /** A piece of the body, a view into what is read. */
  onBody(bytes: Uint8Array): void
  onComplete(trailers: Fields): void
}

/** The visitor sent what RFC 9112 does not allow, or more than we hold. It may be out of step with us. */
export class RequestFault extends Error {
  override readonly name = 'RequestFault'
  readonly code: RefusalCode

  constructor(code: RefusalCode, message: string) {
    super(message)
    this.code = code
  }
}

const REQUEST_LINE = /^([A-Z-]+) ([!-~]+) HTTP\/(\d\.\d)$/
/** How a request may begin, when its first line has not ended. The longest method has 11 letters. */
const BEGINNING = /^(?:[A-Z-]{1,20}$|[A-Z-]{1,20} |\r$)/
const BEGINNING_CHARACTERS = 24
const LF = 10
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS)
const NO_TRAILERS: Fields = []

export class RequestParser {
  readonly #sink: RequestSink
  readonly #head = new SectionReader(REQUEST_LIMITS.headBytes)
  readonly #body = new BodyReader(REQUEST_LIMITS)
  #isLineJudged = false

  constructor(sink: RequestSink) {
    this.#sink = sink
  }

  /** Whether some of a head is here and the rest is not. */
  get isWithinHead(): boolean {
    return this.#head.heldBytes > 0
  }

  /** Whether the last request told of is here completely. */
  get isBodyComplete(): boolean {
    return this.#body.isComplete
  }

  /**
   * Reads one step from `at` on, at most a head or a piece of a body, and returns where it ended. The caller decides
   * whether to read on. Throws `RequestFault`, after which nothing more can be read.
   */
  read(bytes: Uint8Array, at: number): number {
    try {
      return this.#body.isComplete ? this.#readHead(bytes, at) : this.#readBody(bytes, at)
    } catch (error) {
      if (!(error instanceof SyntaxFault)) throw error
      throw new RequestFault(error.isTooLong ? 'header_too_large' : 'bad_request', `the request has ${error.message}`)
    }
  }

  #readHead(bytes: Uint8Array, at: number): number {
    const end = this.#head.read(bytes, at)
    if (end === undefined) {
      if (!this.#isLineJudged) this.#judgeBeginning(bytes, at)
      return bytes.length
    }
    this.#isLineJudged = false
    const { text } = this.#head
    // An empty line before a request is skipped (RFC 9112, section 2.2).
    if (text !== '') this.#takeHead(text, bytes.length - end)
    return end
  }

  /** Another protocol may say one line, or less, and wait for ours: it is not kept waiting. */
  #judgeBeginning(bytes: Uint8Array, at: number): void {
    if (bytes.indexOf(LF, at) >= 0) {
      parseRequestLine(this.#head.firstLine.slice(0, -1))
      this.#isLineJudged = true
      return
    }
    const heldBefore = this.#head.heldBytes - (bytes.length - at)
    if (heldBefore > BEGINNING_CHARACTERS) return
    if (!BEGINNING.test(this.#head.firstLine.slice(0, BEGINNING_CHARACTERS))) {
      throw new SyntaxFault('no HTTP/1.1 request line')
    }
  }

  #takeHead(text: string, rest: number): void {
    const lineEnd = text.indexOf('\r')
    const head = parseRequestLine(text.slice(0, lineEnd))
    head.fields = parseFields(text, lineEnd, REQUEST_LIMITS.headFields)
    this.#body.begin(this.#sink.onHead(head, rest))
  }

  #readBody(bytes: Uint8Array, at: number): number {
    const end = this.#body.read(bytes, at, this.#sink)
    if (this.#body.isComplete) this.#sink.onComplete(this.#body.trailers)
    return end
  }
}

/** The head that this line begins, still without its fields. */
function parseRequestLine(line: string): RequestHead {
  const [, method, target, httpVersion] = REQUEST_LINE.exec(line) ?? []
  if (method === undefined || target === undefined || httpVersion === undefined) {
    throw new SyntaxFault('no HTTP/1.1 request line')
  }
  if (!KNOWN_METHODS.has(method)) throw new SyntaxFault('a method that nobody knows')
  return { method, target, httpVersion, fields: NO_TRAILERS }
}
