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

/**
 * The events of a stream that carries UTF-8 lines, such as a `control` stream. A line without its end is kept up to
 * `maxLineBytes`. Lines are written with `stream.write(encodeLine(…))`.
 */
export function lineEvents(handlers: LineHandlers, maxLineBytes: number): StreamEvents {
  let partial = Buffer.alloc(0)
  let over = false

  function finish(): void {
    if (over) return
    over = true
    partial = Buffer.alloc(0)
    handlers.onOver()
  }

  return {
    onData({ bytes }) {
      if (over) return
      let from = 0
      for (let at = bytes.indexOf(NEWLINE); at !== -1 && !over; at = bytes.indexOf(NEWLINE, from)) {
        const line = Buffer.concat([partial, bytes.subarray(from, at)])
        partial = Buffer.alloc(0)
        from = at + 1
        if (line.length > maxLineBytes) {
          overlong()
          return
        }
        handlers.onLine(line.toString('utf8'))
      }
      if (partial.length + bytes.length - from > maxLineBytes) overlong()
      else if (!over) partial = Buffer.concat([partial, bytes.subarray(from)])
    },
    onEnd: finish,
    onReset: finish,
    onDrain() {},
  }

  function overlong(): void {
    over = true
    partial = Buffer.alloc(0)
    handlers.onOverlong()
  }
}

/** One JSON value as a line. */
export function encodeLine(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}
