import type { Limits } from './limits.ts'
import type { CloseReason, Hello, Welcome } from './model.ts'
import type { PendingWrite } from './pending-write.ts'
import type { StreamHandler } from './stream.ts'

/** The end that dialled opens odd streams, the other one even ones. */
export type SessionRole = 'dialler' | 'acceptor'

/** Who a session works for. Nothing in here may throw. */
export interface SessionHost {
  /** There is output: take it with `nextFrame` as far as the socket has room. */
  outputReady(): void
  /** Takes a short data frame at once, by copying it. False: there is no room, or the frame is not short. */
  takeShort(stream: number, bytes: Uint8Array): boolean
  /** For the acceptor: answer with `welcome` or `close`. */
  onHello(hello: Hello): void
  /** For the dialler: the session is open. */
  onWelcome(welcome: Welcome): void
  readonly onStream: StreamHandler
  /** Either end said go-away. */
  onGoingAway(reason: CloseReason): void
  /** The session is over and every stream has been told. What `nextFrame` still gives should be sent, then no more. */
  onClosed(reason: CloseReason): void
  /** A handler of ours threw. */
  onBug(error: unknown): void
}

export interface SessionOptions {
  role: SessionRole
  limits: Limits
  /** Milliseconds that only go up. */
  now: () => number
  host: SessionHost
  /** Where the ids of our streams begin; a test starts near the end. */
  firstStream?: number
}

/** The next thing to send. Valid until `nextFrame` is called again. */
export type OutFrame =
  /** A whole frame. */
  | { kind: 'control'; bytes: Uint8Array }
  /**
   * A data frame of `length` bytes of `write` from `offset`. Whoever takes it calls `write.pieceWritten()` once the
   * kernel has the bytes, or never will.
   */
  | { kind: 'data'; stream: number; write: PendingWrite; offset: number; length: number }
