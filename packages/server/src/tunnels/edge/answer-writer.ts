import type { PumpSocket } from '@cyberun/link'
import { type Fields, formatHead } from '../http/fields.ts'

/** Pieces up to this size are copied, so that one write takes them with what stands before. */
const COPIED_BYTES = 8 * 1024
/** While the visitor's kernel has refused less than this, small pieces are copied and their credit goes back at once. */
const SOCKET_SLACK_BYTES = 64 * 1024
/** What is gathered leaves when it is more than this, so that many small pieces stay few. */
const GATHERED_BYTES = 64 * 1024

/** A piece of a body where it stays until `release` is called, once. */
export interface KeptPiece {
  bytes: Uint8Array
  release(): void
}

/** Whoever owns a piece of a body. */
export interface PieceOwner {
  /** Keeps the piece being told of, if need be somewhere else, until `socket` has taken it. */
  keep(piece: Uint8Array, socket: PumpSocket): KeptPiece
}

/** Whether the visitor's connection goes on after an answer. */
export type Afterwards = 'keep' | 'close'

/** Says how long a connection without a request is kept, so that clients do not begin one as we close it. */
const lastLines = (keepAliveMs: number): Readonly<Record<Afterwards, string>> => ({
  keep: `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n`,
  close: 'Connection: close\r\n',
})
const CHUNKED_LINE = 'Transfer-Encoding: chunked\r\n'

/**
 * Writes answers to one visitor. What arrived together leaves in one write, at `flush`: until then views of it are kept,
 * so whoever gave them calls `flush` before they end.
 */
export class AnswerWriter {
  readonly #socket: PumpSocket
  readonly #lastLines: Readonly<Record<Afterwards, string>>
  #gathered: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #isChunked = false

  constructor(socket: PumpSocket, keepAliveMs: number) {
    this.#socket = socket
    this.#lastLines = lastLines(keepAliveMs)
  }

  /** An interim (1xx) answer. */
  interim(startLine: string, fields: Fields): void {
    this.#gather(formatHead(startLine, fields))
  }

  /** The head of the final answer. Its body is chunked here, or framed by what `fields` say and the connection's end. */
  head(startLine: string, fields: Fields, afterwards: Afterwards, isChunked: boolean): void {
    this.#isChunked = isChunked
    const last = this.#lastLines[afterwards]
    this.#gather(formatHead(startLine, fields, isChunked ? last + CHUNKED_LINE : last))
  }

  /** A piece of the body. `owner` is asked to keep one that is not copied, until the kernel has taken it. */
  body(piece: Uint8Array, owner: PieceOwner): void {
    if (this.#isChunked) this.#gather(`${piece.length.toString(16)}\r\n`)
    if (piece.length <= COPIED_BYTES && this.#socket.refusedBytes < SOCKET_SLACK_BYTES) this.#gather(piece)
    else this.#send(owner.keep(piece, this.#socket))
    if (this.#isChunked) this.#gather('\r\n')
  }

  /** The body is complete; `trailers` are for bodies in chunks. */
  end(trailers: Fields): void {
    if (this.#isChunked) this.#gather(formatHead('0', trailers))
  }

  /** Writes what was gathered. */
  flush(): void {
    const bytes = this.#take()
    if (bytes) this.#socket.write(bytes)
  }

  #gather(part: string | Uint8Array): void {
    this.#gathered.push(part)
    this.#gatheredBytes += part.length
    if (this.#gatheredBytes > GATHERED_BYTES) this.flush()
  }

  #send({ bytes, release }: KeptPiece): void {
    this.flush()
    this.#socket.write(bytes, { pieceWritten: release })
  }

  /** All that was gathered, as one array of its own. */
  #take(): Buffer | undefined {
    if (this.#gatheredBytes === 0) return undefined
    const bytes = Buffer.allocUnsafe(this.#gatheredBytes)
    let at = 0
    for (const part of this.#gathered) {
      if (typeof part === 'string') bytes.write(part, at, 'latin1')
      else bytes.set(part, at)
      at += part.length
    }
    this.#gathered = []
    this.#gatheredBytes = 0
    return bytes
  }
}
