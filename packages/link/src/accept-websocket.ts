import type { Socket } from 'node:net'
import { ByteSocket } from './byte-socket.ts'
import { PumpSocket } from './pump-socket.ts'
import { readUpgrade, refuseUpgrade, TCP_SUBPROTOCOL, type UpgradeHead, writeSwitch } from './upgrade.ts'

export interface AcceptWebsocketOptions {
  /** The upgrade request, its socket and the bytes that came after it, as `node:http` hands them over. */
  request: UpgradeHead
  /** Or one that was taken over and rests. */
  socket: Socket | PumpSocket
  head?: Buffer
}

/**
 * Answers an upgrade with 101, choosing `cyberun.tcp.v1` when it is offered. Undefined when the request is not a
 * WebSocket's, which the other end has then been told. Takes the socket over in every case.
 */
export function acceptWebSocket(options: AcceptWebsocketOptions): ByteSocket | undefined {
  const socket = PumpSocket.from(options.socket, options.head)
  const upgrade = readUpgrade(options.request)
  if (upgrade.kind === 'invalid') {
    refuseUpgrade(socket, upgrade.status, { error_message: upgrade.message }, { 'Sec-WebSocket-Version': '13' })
    return undefined
  }
  const subprotocol = upgrade.subprotocols.find((name) => name === TCP_SUBPROTOCOL)
  writeSwitch(socket, upgrade.key, subprotocol, {})
  return new ByteSocket(socket, 'none', subprotocol)
}
