import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { ByteSocket } from './byte-socket.ts'
import { PumpSocket } from './pump-socket.ts'
import { readUpgrade, refuseUpgrade, TCP_SUBPROTOCOL, writeSwitch } from './upgrade.ts'

export interface AcceptWebsocketOptions {
  /** The upgrade request, its socket and the bytes that came after it, as `node:http` hands them over. */
  request: IncomingMessage
  socket: Socket
  head: Buffer
}

/**
 * Answers an upgrade with 101, choosing `cyberun.tcp.v1` when it is offered. Undefined when the request is not a
 * WebSocket's, which the other end has then been told. Takes the socket over in every case.
 */
export function acceptWebSocket({ request, socket, head }: AcceptWebsocketOptions): ByteSocket | undefined {
  const upgrade = readUpgrade(request)
  if (upgrade.kind === 'invalid') {
    refuseUpgrade(socket, upgrade.status, { error_message: upgrade.message }, { 'Sec-WebSocket-Version': '13' })
    return undefined
  }
  const subprotocol = upgrade.subprotocols.find((name) => name === TCP_SUBPROTOCOL)
  writeSwitch(socket, upgrade.key, subprotocol, {})
  return new ByteSocket(PumpSocket.from(socket, head), 'none', subprotocol)
}
