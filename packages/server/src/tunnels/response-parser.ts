import { type Fields, listOf, TOKEN, valuesOf } from './fields.ts'
import { SectionBytes } from './section-bytes.ts'

/**
 * Reads the answers of a tunnelled service: HTTP/1.1 as RFC 9112 has it, refusing what could be read in two ways
 * rather than mending it. Takes bytes, calls its sink, does no I/O. How the bytes are cut never matters.
 */

/** Bounds on what a service may make us hold. */
export const RESPONSE_LIMITS = {
  /** Bytes of a status line with its fields, and of a chunked body's trailers. */
  headBytes: 64 * 1024,
  /** Bytes of one chunk-size line with its extensions. */
  chunkLineBytes: 4 * 1024,
  /** Interim (1xx) answers before the final one. */
  interimAnswers: 32,
} as const

/** How a body ends (RFC 9112, section 6.3). */
export type BodyFraming = { kind: 'none' } | { kind: 'length'; bytes: number } | { kind: 'chunked' } | { kind: 'close' }

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
 * `idle`: nothing is awaited. `line_end`: after the bytes of a chunk. `upgraded`: a 101 was passed on and what follows
 * is another protocol. `failed`: a fault was thrown.
 */
type State =
  | 'idle'
  | 'head'
  | 'body_length'
  | 'body_close'
  | 'chunk_size'
  | 'chunk_data'
  | 'line_end'
  | 'trailers'
  | 'upgraded'
  | 'failed'

const LF = 10
const CR = 13
const VERSION = Buffer.from('HTTP/1.')
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/
/** A size line: hexadecimal digits, then extensions we skip. 13 digits stay below 2^53. */
const CHUNK_LINE = /^([0-9A-Fa-f]{1,13})(?:[ \t]*;.*)?$/
/** All control characters but tab, CR and LF, which the scan for lines judges. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
const CONTROL = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/
const LENGTH = /^\d{1,16}$/

export class ResponseParser {
  #state: State = 'idle'
  #awaited: Awaited = { toHead: false, toUpgrade: false }
  #sink: ResponseSink = NOBODY
  #interimAnswers = 0
  /** Bytes of the body or chunk still to come. */
  #remaining = 0
  /** What arrived of an unfinished head, trailer section or chunk line. */
  readonly #held = new SectionBytes()

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
    while (at < bytes.length && this.#state !== 'idle' && this.#state !== 'upgraded') at = this.#step(bytes, at)
    return at
  }

  /** The service closed its side. Completes a body that ends so; throws `ResponseFault` when an answer is cut short. */
  finish(): void {
    switch (this.#state) {
      case 'idle':
      case 'upgraded':
        return
      case 'body_close':
        this.#complete([])
        return
      case 'head':
        this.#fail(`closed the connection ${this.#held.length === 0 ? 'without an answer' : 'within a head'}`)
        break
      default:
        this.#fail('closed the connection within a body')
    }
  }

  #step(bytes: Uint8Array, at: number): number {
    switch (this.#state) {
      case 'head':
      case 'trailers':
        return this.#readSection(bytes, at)
      case 'chunk_size':
        return this.#readChunkLine(bytes, at)
      case 'line_end':
        return this.#readLineEnd(bytes, at)
      case 'body_length':
      case 'chunk_data':
        return this.#readCounted(bytes, at)
      case 'body_close':
        this.#sink.onBody(bytes.subarray(at))
        return bytes.length
      case 'idle':
      case 'upgraded':
        return at
      case 'failed':
        throw new ResponseFault('the connection is over after a fault')
      default:
        return this.#state satisfies never
    }
  }

  /** Lines up to and including an empty one: a head or a trailer section. */
  #readSection(bytes: Uint8Array, at: number): number {
    // Another protocol may say one line and wait for ours: it is told from HTTP by its first bytes.
    if (this.#state === 'head' && this.#isOtherProtocol(bytes, at)) this.#fail('sent no HTTP/1.1 status line')
    let lf = bytes.indexOf(LF, at)
    while (lf >= 0) {
      if (this.#byteBefore(bytes, at, lf, 1) !== CR) this.#fail('sent a line that ends in a bare LF')
      if (this.#held.length + (lf - at) > RESPONSE_LIMITS.headBytes) this.#failTooLong('a head')
      const beforeCr = this.#byteBefore(bytes, at, lf, 2)
      if (beforeCr === LF || beforeCr === undefined) {
        // Without the CRLF of the empty line; the one of the last field stays.
        const text = this.#held.take(bytes, at, lf + 1).slice(0, -2)
        if (this.#state === 'head') this.#takeHead(text)
        else this.#takeTrailers(text)
        return lf + 1
      }
      lf = bytes.indexOf(LF, lf + 1)
    }
    this.#hold(bytes, at, bytes.length, RESPONSE_LIMITS.headBytes, 'a head')
    return bytes.length
  }

  #isOtherProtocol(bytes: Uint8Array, at: number): boolean {
    for (let i = this.#held.length; i < VERSION.length && at < bytes.length; i++, at++) {
      if (bytes[at] !== VERSION[i]) return true
    }
    return false
  }

  /** The byte `back` places before `index`, in what came with this push from `at` on or in what is held before it. */
  #byteBefore(bytes: Uint8Array, at: number, index: number, back: number): number | undefined {
    const place = index - back
    return place >= at ? bytes[place] : this.#held.last(at - place)
  }

  #takeHead(text: string): void {
    const lineEnd = text.indexOf('\r')
    const [, minor, code, reason = ''] =
      STATUS_LINE.exec(text.slice(0, lineEnd)) ?? this.#fail('sent no HTTP/1.1 status line')
    const status = Number(code)
    const fields = this.#parseFields(text, lineEnd)
    if (status === 101) this.#takeSwitch(status, reason, fields)
    else if (status < 200) this.#takeInterim(status, reason, fields)
    else this.#takeFinal(status, reason, fields, minor === '0')
  }

  #takeFinal(status: number, reason: string, fields: Fields, oldVersion: boolean): void {
    const framing = this.#framingOf(status, oldVersion, fields)
    const persistent = !oldVersion && framing.kind !== 'close' && !hasMember(fields, 'connection', 'close')
    this.#enterBody(framing)
    this.#sink.onHead({ status, reason, fields, framing, persistent })
    if (framing.kind === 'none' || (framing.kind === 'length' && framing.bytes === 0)) this.#complete([])
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

  #enterBody(framing: BodyFraming): void {
    switch (framing.kind) {
      case 'none':
        return
      case 'length':
        this.#remaining = framing.bytes
        this.#state = 'body_length'
        return
      case 'chunked':
        this.#state = 'chunk_size'
        return
      case 'close':
        this.#state = 'body_close'
        return
      default:
        framing satisfies never
    }
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

  /** The field lines in `text` after the line that ends at `lineEnd`. One scan: this runs for every answer. */
  #parseFields(text: string, lineEnd: number): Fields {
    if (CONTROL.test(text)) this.#fail('sent a control character in its head')
    const fields: Fields = []
    let end = lineEnd
    for (let at = this.#lineAfter(text, end); at < text.length; at = this.#lineAfter(text, end)) {
      end = text.indexOf('\r', at)
      const colon = text.indexOf(':', at)
      const name = text.slice(at, Math.max(at, colon))
      if (colon > end || !TOKEN.test(name)) {
        this.#fail(
          /^[ \t]/.test(text.slice(at, at + 1)) ? 'sent a folded header field' : 'sent a malformed header field',
        )
      }
      fields.push(name, text.slice(skipBlanks(text, colon + 1, end), skipBlanksBack(text, colon + 1, end)))
    }
    return fields
  }

  /** Where the line after the one that ends at `lineEnd` begins. A CR that ends none is refused. */
  #lineAfter(text: string, lineEnd: number): number {
    if (text.charCodeAt(lineEnd + 1) !== LF) this.#fail('sent a CR that ends no line')
    return lineEnd + 2
  }

  #readCounted(bytes: Uint8Array, at: number): number {
    const end = Math.min(bytes.length, at + this.#remaining)
    this.#remaining -= end - at
    this.#sink.onBody(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end))
    if (this.#remaining > 0) return end
    if (this.#state === 'body_length') this.#complete([])
    else this.#state = 'line_end'
    return end
  }

  #readChunkLine(bytes: Uint8Array, at: number): number {
    const lf = bytes.indexOf(LF, at)
    const end = lf < 0 ? bytes.length : lf + 1
    this.#hold(bytes, at, end, RESPONSE_LIMITS.chunkLineBytes, 'a chunk size')
    if (lf < 0) return end
    const line = this.#held.take(bytes, end, end)
    const [, digits] =
      (line.endsWith('\r\n') && !CONTROL.test(line) ? CHUNK_LINE.exec(line.slice(0, -2)) : null) ??
      this.#fail('sent a malformed chunk size')
    this.#remaining = Number.parseInt(digits ?? '', 16)
    this.#state = this.#remaining === 0 ? 'trailers' : 'chunk_data'
    return end
  }

  /** The CRLF after a chunk's bytes. */
  #readLineEnd(bytes: Uint8Array, at: number): number {
    const expected = this.#held.length === 0 ? CR : LF
    if (bytes[at] !== expected) this.#fail('sent more bytes than a chunk was said to have')
    this.#held.append(bytes, at, at + 1)
    if (this.#held.length === 2) {
      this.#held.clear()
      this.#state = 'chunk_size'
    }
    return at + 1
  }

  #takeTrailers(text: string): void {
    const trailers = this.#parseFields(`\r\n${text}`, 0)
    for (let i = 0; i < trailers.length; i += 2) {
      const name = trailers[i]?.toLowerCase()
      if (name === 'content-length' || name === 'transfer-encoding') this.#fail('sent framing fields as trailers')
    }
    this.#complete(trailers)
  }

  #complete(trailers: Fields): void {
    this.#state = 'idle'
    this.#sink.onComplete(trailers)
  }

  #hold(bytes: Uint8Array, from: number, to: number, limit: number, what: string): void {
    if (this.#held.length + (to - from) > limit) this.#failTooLong(what)
    this.#held.append(bytes, from, to)
  }

  #failTooLong(what: string): never {
    return this.#fail(`sent ${what} longer than we take`)
  }

  #fail(what: string): never {
    this.#state = 'failed'
    throw new ResponseFault(`the service ${what}`)
  }
}

function skipBlanks(text: string, from: number, end: number): number {
  let at = from
  while (at < end && isBlank(text.charCodeAt(at))) at++
  return at
}

function skipBlanksBack(text: string, from: number, end: number): number {
  let at = end
  while (at > from && isBlank(text.charCodeAt(at - 1))) at--
  return at
}

/** Space or tab; no other character is white space around a value (RFC 9110, section 5.6.3). */
function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** Hears nothing: in the states before the first answer is expected the parser tells nothing. */
const NOBODY: ResponseSink = { onInterim() {}, onHead() {}, onBody() {}, onComplete() {} }

function hasMember(fields: Fields, lowerName: string, member: string): boolean {
  return listOf(fields, lowerName).some((each) => each.toLowerCase() === member)
}
