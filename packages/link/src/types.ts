import type { CloseReason, LinkStream, OpenInit, StreamEvents, Welcome } from '@cyberun/protocol'

/**
 * One live WebSocket between two ends, carrying many streams. Both ends are the same code; only who dialled differs.
 * A link never reconnects: whoever dialled makes a new one.
 */
export interface Link {
  /** What the accepting end answered. */
  readonly welcome: Welcome
  /** Smoothed round trip of the ping frames in milliseconds; undefined before the first pong. */
  readonly roundTripMs: number | undefined
  readonly stats: LinkStats
  /** Resolves, never rejects, when the link is gone and every stream on it has been told. */
  readonly closed: Promise<CloseReason>
  /**
   * Resolves when either end said go-away, or the link closed: no new stream will be taken, and who dialled should
   * dial the next link now, before this one ends.
   */
  readonly goingAway: Promise<CloseReason>

  /**
   * Opens a stream. The open frame carries `init`, so bytes may be written at once; `stream.accepted` tells when the
   * peer took it. Throws `LinkClosedError` when the link is closing or closed, and `StreamResetError('refused')`
   * when the stream limit is reached. Without `events` the stream keeps what arrives until `stream.listen`.
   */
  open(init: OpenInit, events?: StreamEvents): LinkStream
  /**
   * Says that this end takes no new streams and will close when those open now have ended, or after `deadlineMs`.
   * `retryAfterMs` asks the peer not to dial again before.
   */
  goAway(reason: string, deadlineMs: number, retryAfterMs?: number): void
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
