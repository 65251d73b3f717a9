export type { Chunk, LinkStream, StreamEvents, StreamHandler } from '@cyberun/protocol'
export { AcceptError, type AcceptLinkOptions, acceptLink } from './accept-link.ts'
export { type AcceptWebsocketOptions, acceptWebSocket } from './accept-websocket.ts'
export { adoptSocket, tryAdoption } from './adopt.ts'
export { type ByteEnd, type RelayOptions, type RelayResult, relay } from './byte-end.ts'
export type { ByteSocket } from './byte-socket.ts'
export { type DialLinkOptions, dialLink } from './dial-link.ts'
export { type DialWebsocketOptions, dialWebSocket } from './dial-websocket.ts'
export { encodeLine, type LineHandlers, lineEvents } from './lines.ts'
export type { Greeting } from './link-connection.ts'
export { type PumpEvents, PumpSocket } from './pump-socket.ts'
export {
  type DialAndRelayOptions,
  dialAndRelay,
  relaySocket,
  relaySocketToWebSocket,
  relayWebSocket,
} from './relay.ts'
export { SocketChunk } from './socket-end.ts'
export { StreamChannel } from './stream-channel.ts'
export { DialError, type DialFailure } from './transport.ts'
export type { Link, LinkStats } from './types.ts'
export { readUpgrade, refuseUpgrade, TCP_SUBPROTOCOL, type UpgradeHead, type UpgradeRequest } from './upgrade.ts'
