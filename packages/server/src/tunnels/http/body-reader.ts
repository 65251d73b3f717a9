import type { Fields } from './fields.ts'
import { parseChunkLine, parseFields, SectionReader, SyntaxFault } from './message-syntax.ts'
import { SectionBytes } from './section-bytes.ts'

/** How a body ends (RFC 9112, section 6.3). */
export type BodyFraming = { kind: 'none' } | { kind: 'length'; bytes: number } | { kind: 'chunked' } | { kind: 'close' }

export interface BodyBounds {
  /** Bytes of the trailers, and how many there may be. */
  headBytes: number
  headFields: number
  /** Bytes of one chunk-size line with its extensions. */
  chunkLineBytes: number
}

/** `close`: until the connection ends. `line_end`: after the bytes of a chunk. `complete`: nothing more belongs to it. */
type State = 'length' | 'close' | 'chunk_size' | 'chunk_data' | 'line_end' | 'trailers' | 'complete'

const LF = 10
const CR = 13
const NO_TRAILERS: Fields = []

/** Reads one body after the other, of either side. Takes bytes; how they are cut never matters. Throws `SyntaxFault`. */
export class BodyReader {
  readonly #bounds: BodyBounds
  readonly #section: SectionReader
  /** What arrived of an unfinished chunk line. */
  readonly #line = new SectionBytes()
  #state: State = 'complete'
  /** Bytes of the body or chunk still to come. */
  #remaining = 0
  /** Of the last body that was complete. */
  trailers: Fields = NO_TRAILERS

  constructor(bounds: BodyBounds) {
    this.#bounds = bounds
    this.#section = new SectionReader(bounds.headBytes)
  }

  get isComplete(): boolean {
    return this.#state === 'complete'
  }

  /** Whether the end of the connection is the end of the body. */
  get endsWithConnection(): boolean {
    return this.#state === 'close'
  }

  begin(framing: BodyFraming): void {
    this.trailers = NO_TRAILERS
    switch (framing.kind) {
      case 'none':
        this.#state = 'complete'
        return
      case 'length':
        this.#remaining = framing.bytes
        this.#state = framing.bytes === 0 ? 'complete' : 'length'
        return
      case 'chunked':
        this.#state = 'chunk_size'
        return
      case 'close':
        this.#state = 'close'
        return
      default:
        framing satisfies never
    }
  }

  /** Reads a step from `at` on and returns where it ended. `onBody` gets views into `bytes`. */
  read(bytes: Uint8Array, at: number, sink: { onBody(bytes: Uint8Array): void }): number {
    switch (this.#state) {
      case 'length':
      case 'chunk_data':
        return this.#readCounted(bytes, at, sink)
      case 'close':
        sink.onBody(at === 0 ? bytes : bytes.subarray(at))
        return bytes.length
      case 'chunk_size':
        return this.#readChunkLine(bytes, at)
      case 'line_end':
        return this.#readLineEnd(bytes, at)
      case 'trailers':
        return this.#readTrailers(bytes, at)
      case 'complete':
        return at
      default:
        return this.#state satisfies never
    }
  }

  #readCounted(bytes: Uint8Array, at: number, sink: { onBody(bytes: Uint8Array): void }): number {
    const end = Math.min(bytes.length, at + this.#remaining)
    this.#remaining -= end - at
    if (this.#remaining === 0) this.#state = this.#state === 'length' ? 'complete' : 'line_end'
    sink.onBody(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end))
    return end
  }

  #readChunkLine(bytes: Uint8Array, at: number): number {
    const lf = bytes.indexOf(LF, at)
    const end = lf < 0 ? bytes.length : lf + 1
    if (this.#line.length + (end - at) > this.#bounds.chunkLineBytes) {
      throw new SyntaxFault('a chunk size longer than we take')
    }
    if (lf < 0) {
      this.#line.append(bytes, at, end)
      return end
    }
    this.#remaining = parseChunkLine(this.#line.take(bytes, at, end))
    this.#state = this.#remaining === 0 ? 'trailers' : 'chunk_data'
    return end
  }

  /** The CRLF after a chunk's bytes. */
  #readLineEnd(bytes: Uint8Array, at: number): number {
    if (bytes[at] !== (this.#line.length === 0 ? CR : LF)) {
      throw new SyntaxFault('more bytes than a chunk was said to have')
    }
    this.#line.append(bytes, at, at + 1)
    if (this.#line.length === 2) {
      this.#line.clear()
      this.#state = 'chunk_size'
    }
    return at + 1
  }

  #readTrailers(bytes: Uint8Array, at: number): number {
    const end = this.#section.read(bytes, at)
    if (end === undefined) return bytes.length
    const trailers = parseFields(`\r\n${this.#section.text}`, 0, this.#bounds.headFields)
    for (let i = 0; i < trailers.length; i += 2) {
      const name = trailers[i]?.toLowerCase()
      if (name === 'content-length' || name === 'transfer-encoding') {
        throw new SyntaxFault('framing fields as trailers')
      }
    }
    this.trailers = trailers
    this.#state = 'complete'
    return end
  }
}
