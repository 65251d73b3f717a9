import type { Socket } from 'node:net'
import { type LinkStream, type RelayOptions, type RelayResult, relaySocket } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { OpenTunnel, Visit } from './open-tunnel.ts'

export interface RelayContext {
  tunnel: OpenTunnel
  /** The visitor's. */
  address: string
  now: () => number
  log: Log
}

/**
 * Relays a WebSocket that the service has granted: `head` is our 101, `rest` the first bytes that followed the
 * service's. From here on nobody looks at what passes.
 */
export async function relayUpgraded(
  stream: LinkStream,
  socket: Socket,
  head: string,
  rest: Uint8Array,
  context: RelayContext,
): Promise<void> {
  // One write, so that the socket is empty again when the pump takes it over.
  socket.write(Buffer.concat([Buffer.from(head, 'latin1'), rest]))
  await relayVisit('websocket', context, (options) => relaySocket(stream, socket, options))
}

/** Runs a relay as a visit of the tunnel: counted, shown, and ended with it. */
export async function relayVisit(
  kind: 'websocket' | 'tcp',
  { tunnel, address, now, log }: RelayContext,
  run: (options: RelayOptions) => Promise<RelayResult>,
): Promise<void> {
  const began = now()
  const closing = new AbortController()
  const visit: Visit = { address, tunnelClosed: () => closing.abort() }
  tunnel.begin(visit, began)
  const { bytesIn, bytesOut, failure } = await run({
    signal: closing.signal,
    onMoved(fromService, fromVisitor) {
      tunnel.bytesOut += fromService
      tunnel.bytesIn += fromVisitor
    },
  })
  const ended = now()
  tunnel.end(visit, ended)
  const figures = { bytes_in: bytesOut, bytes_out: bytesIn, took_ms: ended - began, failure }
  log.debug({ session_id: tunnel.facts.sessionId, kind, ...figures }, 'tunnel.relay_ended')
}
