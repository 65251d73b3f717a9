import type { StreamEvents } from '@cyberun/protocol'

/** What a reader of lines is told. */
export interface LineHandlers {
  onLine(line: string): void
  /** A line grew beyond the bound; nothing more is read. */
  onOverlong(): void
  /** The stream is over, or will bring no more lines. */
  onOver(): void
}

const NEWLINE = 0x0a
const MOST_PIECES = 256

/**
 * The events of a stream that carries UTF-8 lines, such as a `control` stream. A line without its end is kept up to
 * `maxLineBytes`. Lines are written with `stream.write(encodeLine(…))`.
 */
export function lineEvents(handlers: LineHandlers, maxLineBytes: number): StreamEvents {
  // Joined at the line's end and when they are many: joining at each piece would cost the square of what a peer
  // dribbles, and a piece of one byte weighs a hundred.
  let pieces: Uint8Array[] = []
  let bytesKept = 0
  let isOver = false

  function keep(piece: Uint8Array): boolean {
    bytesKept += piece.length
    if (bytesKept > maxLineBytes) return false
    if (pieces.length === MOST_PIECES) pieces = [Buffer.concat(pieces)]
    if (piece.length > 0) pieces.push(Uint8Array.from(piece))
    return true
  }

  function takeLine(): string {
    const line = Buffer.concat(pieces).toString('utf8')
    pieces = []
    bytesKept = 0
    return line
  }

  function finish(tell: () => void): void {
    if (isOver) return
    isOver = true
    pieces = []
    tell()
  }

  return {
    onData({ bytes }) {
      let from = 0
      while (!isOver) {
        const end = bytes.indexOf(NEWLINE, from)
        if (!keep(bytes.subarray(from, end === -1 ? bytes.length : end))) finish(handlers.onOverlong)
        if (end === -1 || isOver) return
        handlers.onLine(takeLine())
        from = end + 1
      }
    },
    onEnd: () => finish(handlers.onOver),
    onReset: () => finish(handlers.onOver),
    onDrain() {},
  }
}

/** One JSON value as a line. */
export function encodeLine(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}
