import { type BodyFraming, BodyReader } from './body-reader.ts'
import { type Fields, listOf, valuesOf } from './fields.ts'
import { parseFields, SectionReader, SyntaxFault } from './message-syntax.ts'

/**
 * Reads the answers of a tunnelled service: HTTP/1.1 as RFC 9112 has it, refusing what could be read in two ways
 * rather than mending it. Takes bytes, calls its sink, does no I/O. How the bytes are cut never matters.
 */

/** Bounds on what a service may make us hold. */
export const RESPONSE_LIMITS = {
  /** Bytes of a status line with its fields, and of a chunked body's trailers. */
  headBytes: 64 * 1024,
  /** A field has four bytes at least, so the bytes are the bound. */
  headFields: 16 * 1024,
  /** Bytes of one chunk-size line with its extensions. */
  chunkLineBytes: 4 * 1024,
  /** Interim (1xx) answers before the final one. */
  interimAnswers: 32,
} as const

export interface ResponseHead {
  status: number
  reason: string
  fields: Fields
  framing: BodyFraming
  /** Whether the service keeps the connection open for another request. */
  persistent: boolean
}

/** Is told of an answer: any number of `onInterim`, one `onHead`, `onBody`s, one `onComplete`. */
export interface ResponseSink {
  /** A 1xx answer other than 101. */
  onInterim(status: number, reason: string, fields: Fields): void
  onHead(head: ResponseHead): void
  /** A piece of the body, a view into what was pushed. */
  onBody(bytes: Uint8Array): void
  onComplete(trailers: Fields): void
}

/** What the answer is for; it decides how its framing is read. */
export interface Awaited {
  /** An answer to HEAD has no body, whatever its fields say. */
  toHead: boolean
  /** 101 is only lawful when an upgrade was asked for. */
  toUpgrade: boolean
}

/** The service sent what RFC 9112 does not allow, or more than we hold. Nothing of its connection can be trusted. */
export class ResponseFault extends Error {
  override readonly name = 'ResponseFault'
}

/**
 * `idle`: nothing is awaited. `upgraded`: a 101 was passed on and what follows is another protocol. `failed`: a fault
 * was thrown.
 */
type State = 'idle' | 'head' | 'body' | 'upgraded' | 'failed'

const VERSION = Buffer.from('HTTP/1.')
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/
const LENGTH = /^\d{1,16}$/
const NO_TRAILERS: Fields = []

export class ResponseParser {
  #state: State = 'idle'
  #awaited: Awaited = { toHead: false, toUpgrade: false }
  #sink: ResponseSink = NOBODY
  #interimAnswers = 0
  readonly #head = new SectionReader(RESPONSE_LIMITS.headBytes)
  readonly #body = new BodyReader(RESPONSE_LIMITS)

  /** Nothing is awaited: the last answer, if any, is complete. */
  get idle(): boolean {
    return this.#state === 'idle'
  }

  /** A 101 was told: what follows is another protocol. */
  get upgraded(): boolean {
    return this.#state === 'upgraded'
  }

  /** Expects one more answer, for `sink`. The one before must be complete. */
  expect(awaited: Awaited, sink: ResponseSink): void {
    if (this.#state !== 'idle') throw new Error(`an answer is awaited while the parser is in ${this.#state}`)
    this.#awaited = awaited
    this.#sink = sink
    this.#interimAnswers = 0
    this.#state = 'head'
  }

  /**
   * Takes the next bytes and returns how many were used: all, unless the awaited answer ended before them. What is left
   * belongs to the new protocol after a 101, and to nobody otherwise. Throws `ResponseFault`.
   */
  push(bytes: Uint8Array): number {
    let at = 0
    try {
      while (at < bytes.length && this.#state !== 'idle' && this.#state !== 'upgraded') at = this.#step(bytes, at)
    } catch (error) {
      if (error instanceof SyntaxFault) this.#fail(`sent ${error.message}`)
      throw error
    }
    return at
  }

  /** The service closed its side. Completes a body that ends so; throws `ResponseFault` when an answer is cut short. */
  finish(): void {
    switch (this.#state) {
      case 'idle':
      case 'upgraded':
        return
      case 'body':
        if (this.#body.endsWithConnection) this.#complete(NO_TRAILERS)
        else this.#fail('closed the connection within a body')
        return
      case 'head':
        this.#fail(`closed the connection ${this.#head.heldBytes === 0 ? 'without an answer' : 'within a head'}`)
        break
      case 'failed':
        this.#failAgain()
        break
      default:
        this.#state satisfies never
    }
  }

  #step(bytes: Uint8Array, at: number): number {
    switch (this.#state) {
      case 'head':
        return this.#readHead(bytes, at)
      case 'body':
        return this.#readBody(bytes, at)
      case 'idle':
      case 'upgraded':
        return at
      case 'failed':
        return this.#failAgain()
      default:
        return this.#state satisfies never
    }
  }

  #readHead(bytes: Uint8Array, at: number): number {
    // Another protocol may say one line and wait for ours: it is told from HTTP by its first bytes.
    if (this.#isOtherProtocol(bytes, at)) this.#fail('sent no HTTP/1.1 status line')
    const end = this.#head.read(bytes, at)
    if (end === undefined) return bytes.length
    this.#takeHead(this.#head.text)
    return end
  }

  #isOtherProtocol(bytes: Uint8Array, from: number): boolean {
    let at = from
    for (let i = this.#head.heldBytes; i < VERSION.length && at < bytes.length; i++, at++) {
      if (bytes[at] !== VERSION[i]) return true
    }
    return false
  }

  #takeHead(text: string): void {
    const lineEnd = text.indexOf('\r')
    const [, minor, code, reason = ''] =
      STATUS_LINE.exec(text.slice(0, lineEnd)) ?? this.#fail('sent no HTTP/1.1 status line')
    const status = Number(code)
    const fields = parseFields(text, lineEnd, RESPONSE_LIMITS.headFields)
    if (status === 101) this.#takeSwitch(status, reason, fields)
    else if (status < 200) this.#takeInterim(status, reason, fields)
    else this.#takeFinal(status, reason, fields, minor === '0')
  }

  #takeFinal(status: number, reason: string, fields: Fields, oldVersion: boolean): void {
    const framing = this.#framingOf(status, oldVersion, fields)
    const persistent = !oldVersion && framing.kind !== 'close' && !hasMember(fields, 'connection', 'close')
    this.#body.begin(framing)
    this.#state = 'body'
    this.#sink.onHead({ status, reason, fields, framing, persistent })
    if (this.#body.isComplete) this.#complete(NO_TRAILERS)
  }

  #readBody(bytes: Uint8Array, at: number): number {
    const end = this.#body.read(bytes, at, this.#sink)
    if (this.#body.isComplete) this.#complete(this.#body.trailers)
    return end
  }

  #takeSwitch(status: number, reason: string, fields: Fields): void {
    if (!this.#awaited.toUpgrade) this.#fail('switched protocols (101) unasked')
    this.#state = 'upgraded'
    this.#sink.onHead({ status, reason, fields, framing: { kind: 'none' }, persistent: false })
  }

  #takeInterim(status: number, reason: string, fields: Fields): void {
    this.#interimAnswers += 1
    if (this.#interimAnswers > RESPONSE_LIMITS.interimAnswers) this.#fail('sent too many interim (1xx) answers')
    this.#sink.onInterim(status, reason, fields)
  }

  #framingOf(status: number, oldVersion: boolean, fields: Fields): BodyFraming {
    const codings = valuesOf(fields, 'transfer-encoding')
    const lengths = valuesOf(fields, 'content-length')
    if (codings.length > 0 && lengths.length > 0) this.#fail('sent both Content-Length and Transfer-Encoding')
    if (lengths.length > 1) this.#fail('sent Content-Length twice')
    const [length] = lengths
    if (length !== undefined && (!LENGTH.test(length) || !Number.isSafeInteger(Number(length)))) {
      this.#fail('sent a Content-Length that is no number')
    }
    if (codings.length > 0 && oldVersion) this.#fail('sent Transfer-Encoding in HTTP/1.0')
    if (codings.length > 0 && codings.join(',').toLowerCase() !== 'chunked') {
      this.#fail('sent a Transfer-Encoding other than chunked')
    }
    if (this.#awaited.toHead || status === 204 || status === 304) return { kind: 'none' }
    if (codings.length > 0) return { kind: 'chunked' }
    return length === undefined ? { kind: 'close' } : { kind: 'length', bytes: Number(length) }
  }

  #complete(trailers: Fields): void {
    this.#state = 'idle'
    this.#sink.onComplete(trailers)
  }

  #failAgain(): never {
    throw new ResponseFault('the connection is over after a fault')
  }

  #fail(what: string): never {
    this.#state = 'failed'
    throw new ResponseFault(`the service ${what}`)
  }
}

/** Hears nothing: in the states before the first answer is expected the parser tells nothing. */
const NOBODY: ResponseSink = { onInterim() {}, onHead() {}, onBody() {}, onComplete() {} }

function hasMember(fields: Fields, lowerName: string, member: string): boolean {
  return listOf(fields, lowerName).some((each) => each.toLowerCase() === member)
}
