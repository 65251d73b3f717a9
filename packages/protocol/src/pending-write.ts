/** The stream that a write belongs to. */
export interface WritingStream {
  /** All bytes of one write have left, or never will. */
  written(bytes: number): void
}

/** Bytes on their way out. They may leave in several pieces; their owner is told once, after the last. */
export class PendingWrite {
  readonly bytes: Uint8Array
  readonly #stream: WritingStream
  readonly #onWritten: (() => void) | undefined
  /** Bytes in front of the payload that are ours to overwrite. More than none: the buffer is ours altogether. */
  readonly headroom: number
  /** Bytes handed to the socket. */
  handed = 0
  #piecesOut = 0
  #state: 'waiting' | 'abandoned' | 'told' = 'waiting'

  constructor(stream: WritingStream, bytes: Uint8Array, onWritten: (() => void) | undefined, headroom: number) {
    this.#stream = stream
    this.bytes = bytes
    this.#onWritten = onWritten
    this.headroom = headroom
  }

  get left(): number {
    return this.bytes.length - this.handed
  }

  /**
   * Bytes in front of the piece handed over last, which began at `offset`, that may be overwritten: in a buffer of ours
   * the pieces before it, once the kernel has them all.
   */
  headroomAt(offset: number): number {
    if (offset === 0) return this.headroom
    return this.headroom > 0 && this.#piecesOut === 1 ? offset : 0
  }

  hand(bytes: number): void {
    this.handed += bytes
    this.#piecesOut++
  }

  /** The kernel took a piece, or never will. */
  pieceWritten(): void {
    this.#piecesOut--
    this.#settle()
  }

  /** What is left will not be sent. */
  abandon(): void {
    if (this.#state === 'waiting') this.#state = 'abandoned'
    this.#settle()
  }

  #settle(): void {
    if (this.#piecesOut > 0 || this.#state === 'told') return
    if (this.#state === 'waiting' && this.left > 0) return
    this.#state = 'told'
    this.#onWritten?.()
    this.#stream.written(this.bytes.length)
  }
}
