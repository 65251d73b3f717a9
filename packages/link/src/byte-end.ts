import { type Chunk, RESET_CODES, type ResetCode, type StreamEvents } from '@cyberun/protocol'

/**
 * One end of a relay: an ordered byte stream each way, half-closable and resettable. A `LinkStream` is one; a socket and
 * a WebSocket become one in socket-end.ts and byte-socket.ts. What its source delivers and nobody has released yet is
 * bounded: a stream stops at its window, the others are paused while the other side of the relay says so.
 */
export interface ByteEnd {
  listen(events: StreamEvents): void
  /** See `LinkStream.write`. */
  write(bytes: Uint8Array, onWritten?: () => void, headroom?: number): boolean
  /** See `LinkStream.pass`; absent where everything has to be held. */
  pass?(chunk: Chunk): boolean
  end(): void
  reset(code: ResetCode): void
  /** What it could take at once; absent where nobody knows. */
  readonly room?: number
  /** Delivers nothing until `resume`. Absent where the window does that. */
  pause?(): void
  resume?(): void
  /** Asks to deliver pieces of about what `room` says at that moment: what is passed on at once stays in the cache. */
  paceBy?(room: () => number): void
}

/** What a relay moved. */
export interface RelayResult {
  /** Bytes that came out of the first end, and went into the second. */
  bytesIn: number
  /** Bytes that came out of the second end, and went into the first. */
  bytesOut: number
  /** Why it was cut short; absent when both directions ended. */
  failure?: ResetCode
}

export interface RelayOptions {
  /** Called with each piece, for live counters. */
  onMoved?(bytesIn: number, bytesOut: number): void
  /** Shows each piece before it is passed on, `in` those out of the first end. Only valid during the call. */
  onPiece?(way: 'in' | 'out', piece: Uint8Array): void
  /** Ends the relay at once: both ends are reset with `cancelled`. */
  signal?: AbortSignal
}

/**
 * Joins two ends: bytes, the end of each direction, and resets go across. Resolves, never rejects, when both ends are
 * closed. Nothing is buffered here: what one end delivers is held until the other has taken it.
 */
export function relay(first: ByteEnd, second: ByteEnd, options: RelayOptions = {}): Promise<RelayResult> {
  const { onMoved, onPiece, signal } = options
  const result: RelayResult = { bytesIn: 0, bytesOut: 0 }
  const done = Promise.withResolvers<RelayResult>()
  let open = 2
  const cancel = (): void => {
    result.failure ??= 'cancelled'
    first.reset('cancelled')
    second.reset('cancelled')
  }
  const across = (from: ByteEnd, to: ByteEnd, count: (piece: Uint8Array) => void): StreamEvents => {
    let hasEnded = false
    return {
      onData(chunk) {
        count(chunk.bytes)
        if (!passOn(chunk, to)) from.pause?.()
      },
      onEnd() {
        hasEnded = true
        to.end()
      },
      onReset(code) {
        result.failure ??= code
        to.reset(code)
      },
      onDrain: () => to.resume?.(),
      // What is held of this end waits in the other one.
      onReclaim: () => to.reset('flow_control'),
      onClose() {
        // Whoever reset this end from outside the relay means the other one, too.
        if (!hasEnded) to.reset(result.failure ?? 'cancelled')
        if (--open > 0) return
        signal?.removeEventListener('abort', cancel)
        done.resolve(result)
      },
    }
  }
  if (second.room !== undefined) first.paceBy?.(() => second.room ?? 0)
  if (first.room !== undefined) second.paceBy?.(() => first.room ?? 0)
  first.listen(
    across(first, second, (piece) => {
      result.bytesIn += piece.length
      onMoved?.(piece.length, 0)
      onPiece?.('in', piece)
    }),
  )
  second.listen(
    across(second, first, (piece) => {
      result.bytesOut += piece.length
      onMoved?.(0, piece.length)
      onPiece?.('out', piece)
    }),
  )
  if (signal?.aborted) cancel()
  else signal?.addEventListener('abort', cancel, { once: true })
  return done.promise
}

function passOn(chunk: Chunk, to: ByteEnd): boolean {
  if (to.pass) return to.pass(chunk)
  const release = chunk.hold()
  return to.write(chunk.bytes, release, chunk.headroom)
}

/** The reset code with this number, for those who get numbers from a peer. */
export function resetCodeOf(number: number): ResetCode | undefined {
  return RESET_BY_NUMBER.get(number)
}

const RESET_BY_NUMBER = new Map<number, ResetCode>(
  (Object.keys(RESET_CODES) as ResetCode[]).map((code) => [RESET_CODES[code], code]),
)
