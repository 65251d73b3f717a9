import { type LinkStream, type PumpSocket, type RelayOptions, type RelayResult, relaySocket } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { InspectedRequest } from '../inspector/inspector.ts'
import type { OpenTunnel, Visit } from '../open-tunnel.ts'

export interface RelayContext {
  tunnel: OpenTunnel
  /** The visitor's, as its user agent. */
  address: string
  userAgent: string
  now: () => number
  log: Log
}

/**
 * Relays a WebSocket that the service has granted: `head` is our 101, `rest` the first bytes that followed the
 * service's. From here on nobody looks at what passes, but an inspector at the heads of frames.
 */
export function relayUpgraded(
  stream: LinkStream,
  socket: PumpSocket,
  head: Uint8Array,
  rest: Uint8Array,
  context: RelayContext,
  inspected?: InspectedRequest,
): void {
  socket.write(Buffer.concat([head, rest]))
  const frames = inspected?.switched()
  frames?.fromService.push(rest)
  const onPiece =
    frames &&
    ((way: 'in' | 'out', piece: Uint8Array) => (way === 'in' ? frames.fromService : frames.fromVisitor).push(piece))
  relayVisit('websocket', context, async (options) => {
    const result = await relaySocket(stream, socket, onPiece ? { ...options, onPiece } : options)
    inspected?.ended()
    return result
  })
}

/**
 * Runs a relay as a visit of the tunnel: counted, shown, and ended with it. Relays stay for hours and there are many,
 * so what waits for their end holds on to as little as possible.
 */
export function relayVisit(
  kind: 'websocket' | 'tcp',
  { tunnel, address, userAgent, now, log }: RelayContext,
  run: (options: RelayOptions) => Promise<RelayResult>,
): void {
  const began = now()
  const visit: Visit = { address, userAgent }
  tunnel.begin(visit, began)
  const use = tunnel.activity.socket(kind, began)
  const onMoved = (fromService: number, fromVisitor: number): void => {
    tunnel.bytesOut += fromService
    tunnel.bytesIn += fromVisitor
    if (fromVisitor > 0) use.fromVisitor(fromVisitor, now())
    else use.fromService(fromService, now())
  }
  void run({ signal: tunnel.closed, onMoved }).then(({ bytesIn, bytesOut, failure }) => {
    const ended = now()
    tunnel.end(visit, ended)
    const figures = { bytes_in: bytesOut, bytes_out: bytesIn, took_ms: ended - began, failure }
    log.debug({ session_id: tunnel.facts.sessionId, kind, ...figures }, 'tunnel.relay_ended')
  })
}
