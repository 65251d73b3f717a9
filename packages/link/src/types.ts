import type { CloseReason, Hello, OpenInit, ResetCode, Welcome } from '@cyberun/protocol'

/**
 * One live WebSocket between two ends, carrying many streams. Both ends are the same code; only who dialled differs.
 * A link never reconnects: whoever dialled makes a new one.
 */
export interface Link {
  /** What the dialling end said of itself. */
  readonly hello: Hello
  /** What the accepting end answered. */
  readonly welcome: Welcome
  /** Smoothed round trip of the ping frames in milliseconds; undefined before the first pong. */
  readonly roundTripMs: number | undefined
  readonly stats: LinkStats
  /** Resolves, never rejects, when the link is gone and every stream on it has been told. */
  readonly closed: Promise<CloseReason>

  /**
   * Opens a stream. The open frame carries `init`, so bytes may be written at once; `stream.accepted` tells when the
   * peer took it. Throws `LinkClosedError` when the link is closing or closed, and `StreamResetError('refused')`
   * when the stream limit is reached.
   */
  open(init: OpenInit, events: StreamEvents): LinkStream
  /** Says that this end takes no new streams and will close when those open now have ended, or after `deadlineMs`. */
  goAway(reason: string, deadlineMs: number): void
  /** Ends the link now; every stream is reset with `link_lost`. Closing twice is harmless. */
  close(reason: CloseReason): void
}

export interface LinkStats {
  readonly bytesIn: number
  readonly bytesOut: number
  /** Streams open now. */
  readonly streams: number
  /** Bytes queued in memory, not yet in the kernel. */
  readonly queuedBytes: number
}

/** One flow on a link: ordered bytes each way, flow-controlled, half-closable, resettable. */
export interface LinkStream {
  readonly id: number
  readonly init: OpenInit
  /**
   * For the end that opened: resolves when the peer accepted (for `tcp`: the dial succeeded), rejects with
   * `StreamResetError` when it refused. For the other end: resolves once `accept()` was called.
   */
  readonly accepted: Promise<void>
  /** Bytes written here that the kernel has not taken yet. */
  readonly queuedBytes: number

  /** For the end that was asked: says yes. Before it, bytes may arrive but nothing may be written. */
  accept(): void
  /**
   * Queues bytes. False means: stop until `events.onDrain`. `bytes` must stay unchanged until `onWritten` is called,
   * which happens exactly once, also when the stream or link ends first. Writing after `end` throws; after a reset
   * it is ignored, as the other end's reset can cross on the wire.
   */
  write(bytes: Uint8Array, onWritten?: () => void): boolean
  /** No more bytes from this end; the other direction goes on. */
  end(): void
  /** Ends both directions at once. Harmless on a stream that is over. */
  reset(code: ResetCode): void
}

/**
 * What a stream tells its user. Exactly one of `onReset` or (both `onEnd` and our own `end()`) finishes a stream;
 * `onClose` follows, once, always last.
 */
export interface StreamEvents {
  /**
   * Bytes arrived. `chunk.bytes` may be read only during this call, unless `chunk.hold()` was called. Credit goes
   * back to the sender when the chunk is consumed: at the return of this call, or at the release that `hold` gave.
   */
  onData(chunk: Chunk): void
  /** The other end wrote its last byte. */
  onEnd(): void
  /** The other end, or the loss of the link, ended both directions. */
  onReset(code: ResetCode): void
  /** Writing may go on. */
  onDrain(): void
  onClose?(): void
}

export interface Chunk {
  readonly bytes: Uint8Array
  /** Keeps `bytes` valid, and its credit unreturned, until the returned function is called. */
  hold(): () => void
}

/**
 * Decides about a stream the peer opened: return its events and later call `stream.accept()`, or call
 * `stream.reset(code)`. Must not throw.
 */
export type StreamHandler = (stream: LinkStream) => StreamEvents
