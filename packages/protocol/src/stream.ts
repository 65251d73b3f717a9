import type { OpenInit, ResetCode } from './model.ts'

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

  /**
   * Names who is told what happens from now on. Until the first call everything is kept, within the window: events
   * of before are delivered during this call.
   */
  listen(events: StreamEvents): void
  /** For the end that was asked: says yes. Before it, bytes may arrive but nothing may be written. */
  accept(): void
  /**
   * Queues bytes. False means: stop until `events.onDrain`. `bytes` must stay unchanged until `onWritten` is called,
   * which happens exactly once, also when the stream or link ends first, and may happen during this call. Writing
   * after `end` throws; after a reset it is ignored, as the other end's reset can cross on the wire. `headroom`: so
   * many bytes in front of `bytes`, in the same buffer, may be overwritten, and so may `bytes` once they were sent.
   */
  write(bytes: Uint8Array, onWritten?: () => void, headroom?: number): boolean
  /** Writes what another stream or socket delivered, during its `onData`; it is held for as long as that takes. */
  pass(chunk: Chunk): boolean
  /** No more bytes from this end; the other direction goes on. */
  end(): void
  /** Ends both directions at once. Harmless on a stream that is over. */
  reset(code: ResetCode): void
}

/**
 * What a stream tells its user. Exactly one of `onReset` or (both `onEnd` and our own `end()`) finishes a stream;
 * `onClose` follows, once, and only `onReclaim` may come after it. A stream that this end resets is only told `onClose`.
 */
export interface StreamEvents {
  /**
   * Bytes arrived. `chunk` and its bytes may be used only during this call, unless `chunk.hold()` was called. Credit
   * goes back to the sender when the chunk is consumed: at the return of this call, or at the release `hold` gave.
   */
  onData(chunk: Chunk): void
  /** The other end wrote its last byte. */
  onEnd(): void
  /** The other end, or the loss of the link, ended both directions. */
  onReset(code: ResetCode): void
  /** Writing may go on. */
  onDrain(): void
  onClose?(): void
  /**
   * The link is full of what readers that stopped have left, and most of it came on this stream, which is over now if it
   * was not before. It counts no longer: whoever still holds chunks of it releases them at once.
   */
  onReclaim?(): void
}

export interface Chunk {
  /** To be read after `hold`, by whoever holds the chunk: what cannot be lent is copied then, and only then. */
  readonly bytes: Uint8Array
  /** How many bytes in front of `bytes` belong to the chunk and mean nothing. To be read after `hold`, too. */
  readonly headroom: number
  /** Keeps `bytes` valid, and its credit unreturned, until the returned function is called. Once for each chunk. */
  hold(): () => void
}

/**
 * Decides about a stream the peer opened: calls `stream.listen(…)` and `stream.accept()`, now or later, or
 * `stream.reset(code)`. May return the events instead of calling `listen`. Must not throw.
 */
export type StreamHandler = (stream: LinkStream) => StreamEvents | undefined
