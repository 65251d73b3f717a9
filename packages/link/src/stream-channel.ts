import { type LinkStream, type ResetCode, StreamResetError } from '@cyberun/protocol'

interface Piece {
  bytes: Uint8Array
  release(): void
}
type Ending = { kind: 'ended' } | { kind: 'reset'; code: ResetCode }

/**
 * A stream as awaited reads and writes, for users that carry files: a line first, then bytes. What arrived and was not
 * read yet is held, so the window bounds it: credit goes back when the reader asks for the next piece. One reader and
 * one writer at a time.
 */
export class StreamChannel {
  readonly #stream: LinkStream
  readonly #pieces: Piece[] = []
  /** No more bytes will come. */
  #ending: Ending | undefined
  /** The piece a reader looks at now: not let go of under its eyes. */
  #inUse: Piece | undefined
  #canWrite = true
  /** Nobody reads what is written from now on. */
  #isOver = false
  #onReadable: (() => void) | undefined
  #onWritable: (() => void) | undefined

  /** Takes over the stream: nobody else may listen to it. */
  constructor(stream: LinkStream) {
    this.#stream = stream
    stream.listen({
      onData: (chunk) => {
        const release = chunk.hold()
        this.#pieces.push({ bytes: chunk.bytes, release })
        this.#wake()
      },
      onEnd: () => {
        this.#ending ??= { kind: 'ended' }
        this.#wake()
      },
      onReset: (code) => this.#cut(code),
      onDrain: () => {
        this.#canWrite = true
        this.#wake()
      },
      onClose: () => this.#onClose(),
      onReclaim: () => this.#cut('flow_control'),
    })
  }

  /**
   * The next line of UTF-8 without its end, or undefined when the stream ended before one. Throws `StreamResetError`,
   * and `RangeError` for a line longer than `maxBytes`.
   */
  async readLine(maxBytes: number): Promise<string | undefined> {
    const parts: Uint8Array[] = []
    let length = 0
    for (;;) {
      const piece = await this.#nextPiece()
      if (!piece) return undefined
      const end = piece.bytes.indexOf(NEWLINE)
      const part = piece.bytes.subarray(0, end === -1 ? undefined : end)
      length += part.length
      if (length > maxBytes) throw new RangeError(`a line may have ${maxBytes} bytes at most`)
      parts.push(Uint8Array.from(part))
      this.#consume(piece, part.length + (end === -1 ? 0 : 1))
      if (end !== -1) return Buffer.concat(parts).toString('utf8')
    }
  }

  /**
   * The next `count` bytes, in the pieces they came in, each valid until the next is asked for. Fewer when the stream
   * ends before. Throws `StreamResetError`.
   */
  async *read(count: number = Number.POSITIVE_INFINITY): AsyncGenerator<Uint8Array, void> {
    let left = count
    while (left > 0) {
      const piece = await this.#nextPiece()
      if (!piece) return
      const part = piece.bytes.subarray(0, left)
      left -= part.length
      this.#inUse = piece
      try {
        yield part
      } finally {
        this.#inUse = undefined
        this.#consume(piece, part.length)
      }
    }
  }

  /**
   * Writes `bytes`, which must stay as they are from now on, and resolves when there is room for more. Throws
   * `StreamResetError` when nobody will read them.
   */
  async write(bytes: Uint8Array): Promise<void> {
    this.#throwIfOver()
    this.#canWrite = this.#stream.write(bytes)
    while (!this.#canWrite && !this.#isOver) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#onWritable = resolve
      await promise
    }
    this.#throwIfOver()
  }

  /** No more bytes from this end. */
  end(): void {
    if (!this.#isOver) this.#stream.end()
  }

  /** Ends both directions at once and lets go of what was not read. A read or write under way throws. */
  reset(code: ResetCode): void {
    this.#stream.reset(code)
    this.#cut(code)
  }

  async #nextPiece(): Promise<Piece | undefined> {
    for (;;) {
      const [piece] = this.#pieces
      if (piece) return piece
      if (this.#ending?.kind === 'reset') throw new StreamResetError(this.#ending.code)
      if (this.#ending) return undefined
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#onReadable = resolve
      await promise
    }
  }

  #consume(piece: Piece, count: number): void {
    piece.bytes = piece.bytes.subarray(count)
    const isQueued = this.#pieces[0] === piece
    if (isQueued && piece.bytes.length > 0) return
    // A piece that is not queued any more was in use when a reset let go of the others.
    if (isQueued) this.#pieces.shift()
    piece.release()
  }

  /** Both directions are over at once: what was not read is let go of. */
  #cut(code: ResetCode): void {
    this.#ending = { kind: 'reset', code }
    this.#isOver = true
    for (const piece of this.#pieces.splice(0)) if (piece !== this.#inUse) piece.release()
    this.#wake()
  }

  /** The stream is gone; what it brought before can still be read. */
  #onClose(): void {
    if (!this.#ending) this.#cut('cancelled')
    this.#isOver = true
    this.#wake()
  }

  #throwIfOver(): void {
    if (!this.#isOver) return
    throw new StreamResetError(this.#ending?.kind === 'reset' ? this.#ending.code : 'cancelled')
  }

  #wake(): void {
    this.#onReadable?.()
    this.#onReadable = undefined
    this.#onWritable?.()
    this.#onWritable = undefined
  }
}

const NEWLINE = 0x0a
