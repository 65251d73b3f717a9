import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { PumpSocket } from './pump-socket.ts'

/** The subprotocol of a link. */
export const LINK_SUBPROTOCOL = 'cyberun.v1'
/** The subprotocol in which an empty text message ends one direction of a TCP relay (protocol.md, "TCP over WebSocket"). */
export const TCP_SUBPROTOCOL = 'cyberun.tcp.v1'
/** Carries the bytes an agent signs to prove which machine it is. */
export const CHALLENGE_HEADER = 'cyberun-challenge'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** 16 bytes in base64 (RFC 6455, section 4.1). */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/

export const newWebsocketKey = (): string => randomBytes(16).toString('base64')

/** The answer to a key (RFC 6455, section 4.2.2). */
export const acceptValue = (key: string): string =>
  createHash('sha1')
    .update(key + GUID)
    .digest('base64')

/** What is asked of a request to become a WebSocket: as `node:http` has it. */
export type UpgradeHead = Pick<IncomingMessage, 'method' | 'headers'>

/** A request to become a WebSocket, judged: what to answer with, or why not and with which status. */
export type UpgradeRequest =
  | { kind: 'valid'; key: string; subprotocols: readonly string[] }
  | { kind: 'invalid'; status: 400 | 405 | 426; message: string }

/** Judges a request by RFC 6455, section 4.2.1. Who may connect is not asked here. */
export function readUpgrade(request: UpgradeHead): UpgradeRequest {
  const { headers, method } = request
  const key = headers['sec-websocket-key'] ?? ''
  if (method !== 'GET') return { kind: 'invalid', status: 405, message: 'A WebSocket begins with GET.' }
  if (headers.upgrade?.toLowerCase() !== 'websocket') {
    return { kind: 'invalid', status: 426, message: 'This address only speaks WebSocket: send Upgrade: websocket.' }
  }
  if (headers['sec-websocket-version'] !== '13') {
    return { kind: 'invalid', status: 426, message: 'Only version 13 of WebSocket is spoken here.' }
  }
  if (!KEY.test(key)) return { kind: 'invalid', status: 400, message: 'Sec-WebSocket-Key is missing or malformed.' }
  if (Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined) {
    return { kind: 'invalid', status: 400, message: 'A request to become a WebSocket has no body.' }
  }
  const subprotocols = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  return { kind: 'valid', key, subprotocols: subprotocols.filter((name) => name !== '') }
}

/** Writes the 101 that answers `key`. */
export function writeSwitch(
  socket: PumpSocket,
  key: string,
  subprotocol: string | undefined,
  headers: Record<string, string>,
): void {
  const fields = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Accept': acceptValue(key),
    ...(subprotocol !== undefined && { 'Sec-WebSocket-Protocol': subprotocol }),
    ...headers,
  }
  socket.write(Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${renderHeaders(fields)}\r\n`, 'latin1'))
}

/** Answers an upgrade with an ordinary HTTP response, as JSON, and closes. The socket must not be used afterwards. */
export function refuseUpgrade(
  socket: PumpSocket,
  status: number,
  body: { error_message: string; error_code?: string },
  headers: Record<string, string> = {},
): void {
  const json = JSON.stringify(body)
  const fields = {
    'Content-Type': 'application/json',
    'Content-Length': String(Buffer.byteLength(json)),
    Connection: 'close',
    ...headers,
  }
  socket.write(
    Buffer.from(`HTTP/1.1 ${status} ${STATUS_TEXT[status] ?? 'Refused'}\r\n${renderHeaders(fields)}\r\n${json}`),
  )
  socket.destroySoon()
}

const STATUS_TEXT: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
}

function renderHeaders(fields: Record<string, string>): string {
  return Object.entries(fields)
    .map(([name, value]) => {
      if (/[\r\n\0]/.test(name + value)) throw new Error(`the header ${JSON.stringify(name)} has a control character`)
      return `${name}: ${value}\r\n`
    })
    .join('')
}
