import type { Socket } from 'node:net'
import type { LinkStream, ResetCode } from '@cyberun/protocol'
import { type RelayOptions, type RelayResult, relay } from './byte-end.ts'
import type { ByteSocket } from './byte-socket.ts'
import { PumpSocket } from './pump-socket.ts'
import { SocketEnd } from './socket-end.ts'
import { timeLimit } from './time-limit.ts'

/**
 * Joins a stream and a connected socket, which nobody else may use any more. FIN and RST of each reach the other.
 * `bytesIn` came out of the stream. Resolves, never rejects, when both are closed.
 */
export function relaySocket(
  stream: LinkStream,
  socket: Socket | PumpSocket,
  options?: RelayOptions,
): Promise<RelayResult> {
  return relay(stream, new SocketEnd(PumpSocket.from(socket)), options)
}

/** Joins a stream and a visitor's WebSocket. `bytesIn` came out of the stream. */
export function relayWebSocket(stream: LinkStream, visitor: ByteSocket, options?: RelayOptions): Promise<RelayResult> {
  return relay(stream, visitor, options)
}

/** Joins a local socket and the WebSocket of a TCP tunnel. `bytesIn` came out of the socket. */
export function relaySocketToWebSocket(
  socket: Socket,
  tunnel: ByteSocket,
  options?: RelayOptions,
): Promise<RelayResult> {
  return relay(new SocketEnd(PumpSocket.from(socket)), tunnel, options)
}

export interface DialAndRelayOptions extends RelayOptions {
  /** Literal addresses, tried in this order until one connects: some services listen on one of the loopback's only. */
  hosts: readonly string[]
  port: number
  /** How long connecting may take, all tries together; then the stream is reset with `target_timeout`. */
  timeoutMs: number
}

/**
 * Dials for a stream that the peer opened: accepts it once connected, and relays; or resets it with the reason, which
 * is also `failure` of the result. Never rejects.
 */
export async function dialAndRelay(stream: LinkStream, options: DialAndRelayOptions): Promise<RelayResult> {
  let socket: PumpSocket
  try {
    using limit = timeLimit(options.timeoutMs)
    socket = await dialFirst(options.hosts, options.port, limit.signal)
  } catch (error) {
    const failure = dialFailure(error)
    stream.reset(failure)
    return { bytesIn: 0, bytesOut: 0, failure }
  }
  stream.accept()
  return relay(stream, new SocketEnd(socket), options)
}

/** The first of `hosts` that answers; the error of the last when none does. */
async function dialFirst(hosts: readonly string[], port: number, signal: AbortSignal): Promise<PumpSocket> {
  let failure: unknown = new Error('there is no address to dial')
  for (const host of hosts) {
    try {
      return await PumpSocket.dial(host, port, signal)
    } catch (error) {
      failure = error
      if (signal.aborted) break
    }
  }
  throw failure
}

function dialFailure(error: unknown): ResetCode {
  const isTimeout =
    error instanceof Error && (error.name === 'TimeoutError' || ('code' in error && error.code === 'ETIMEDOUT'))
  return isTimeout ? 'target_timeout' : 'target_refused'
}
