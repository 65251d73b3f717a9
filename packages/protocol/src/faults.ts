import type { CloseReason, ResetCode } from './model.ts'

/** What a peer did that ends the whole session. */
export type FaultCode =
  | 'frame_too_large'
  | 'frame_malformed'
  | 'frame_unknown'
  | 'frame_unexpected'
  | 'handshake_invalid'
  | 'limit_exceeded'
  | 'websocket_invalid'

/** The peer broke the session: say go-away, close the link. Never thrown for what a single stream did. */
export class SessionFault extends Error {
  override readonly name = 'SessionFault'
  readonly code: FaultCode

  constructor(code: FaultCode, message: string) {
    super(message)
    this.code = code
  }
}

/** A stream was ended by a reset, ours or the peer's; `code` says why. */
export class StreamResetError extends Error {
  override readonly name = 'StreamResetError'
  readonly code: ResetCode

  constructor(code: ResetCode) {
    super(`the stream was reset: ${code}`)
    this.code = code
  }
}

/** The link is closing or closed, so nothing can be opened on it. */
export class LinkClosedError extends Error {
  override readonly name = 'LinkClosedError'
  readonly reason: CloseReason

  constructor(reason: CloseReason) {
    super(`the link is closed: ${reason.message}`)
    this.reason = reason
  }
}

/** Proves to the compiler that a union has no member left. */
export function unreachable(value: never): never {
  throw new Error(`impossible value: ${JSON.stringify(value)}`)
}
