import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** How a client reaches a service: directly, through a tcp tunnel's relay, or by an upgrade through an http tunnel. */
export type Route =
  | { kind: 'tcp'; port: number }
  /** `from`: the loopback address that the client has, where one visitor alone may not have so many connections. */
  | { kind: 'relay'; port: number; path: string; from?: string }
  | { kind: 'upgrade'; port: number; path: string }

/** What the bulk service does with a connection, told by its first byte. */
export const ERRAND = { download: 'D', upload: 'U', echo: 'E' } as const
export type Errand = keyof typeof ERRAND

/** What both ends of a bulk transfer read into: as much as Node reads at once by itself, but the same bytes each time. */
export const BULK_BUFFER_BYTES = 64 * 1024

export interface ConnectionOptions {
  errand: Errand
  /** Size of the read buffer, which is used again for each read. */
  bufferBytes: number
  /** Bytes of the service, with the relay's WebSocket headers still in them; false stops reading for good. */
  onBytes(count: number): boolean
}

/** Header bytes that the relay puts before a message of one byte: RFC 6455 section 5.2, server to client. */
export const SHORT_HEADER_BYTES = 2

/**
 * A client's end of one connection, as cheap as a Node socket can be so that a measurement shows what lies between.
 * On the relay it speaks just enough WebSocket (RFC 6455): large binary messages with a zero mask; what comes back is
 * counted and not parsed, its headers being 10 bytes in 64 KiB.
 */
export class Connection {
  readonly socket: Socket
  readonly #relay: boolean
  #head: Buffer | undefined = Buffer.alloc(0)

  private constructor(route: Route, options: ConnectionOptions, onReady: () => void, onError: (error: Error) => void) {
    this.#relay = route.kind === 'relay'
    if (route.kind === 'tcp') this.#head = undefined
    this.socket = connect({
      port: route.port,
      host: '127.0.0.1',
      ...('from' in route && { localAddress: route.from }),
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(options.bufferBytes),
        callback: (count, buffer) => {
          if (this.#head === undefined) return options.onBytes(count)
          const rest = this.#readHead(Buffer.from(buffer.subarray(0, count)), onReady, onError)
          return rest === 0 || options.onBytes(rest)
        },
      },
    })
    this.socket.on('error', onError)
    this.socket.on('close', () => onError(new Error('the connection was closed before the errand was told')))
    this.socket.once('connect', () => {
      if (route.kind === 'tcp') onReady()
      else this.socket.write(upgradeHead(route.path))
    })
  }

  /** Resolves when the service was told its errand; rejects when something on the way refuses. */
  static async open(route: Route, options: ConnectionOptions): Promise<Connection> {
    const connection = await new Promise<Connection>((resolve, reject) => {
      const opened: Connection = new Connection(route, options, () => resolve(opened), reject)
    })
    connection.socket.write(connection.message(Buffer.from(ERRAND[options.errand])))
    return connection
  }

  /** `payload` as this connection carries it: bare, or as one WebSocket message. */
  message(payload: Buffer): Buffer {
    return this.#relay ? Buffer.concat([messageHeader(payload.length), payload]) : payload
  }

  /** Returns how many of `bytes` come after the head. */
  #readHead(bytes: Buffer, onReady: () => void, onError: (error: Error) => void): number {
    const head = Buffer.concat([this.#head ?? Buffer.alloc(0), bytes])
    const end = head.indexOf('\r\n\r\n')
    this.#head = head
    if (end < 0) return 0
    this.#head = undefined
    if (head.subarray(0, 13).toString() !== 'HTTP/1.1 101 ') {
      onError(new Error(`upgrade refused: ${head.toString('latin1')}`))
      this.socket.destroy()
      return 0
    }
    onReady()
    return head.length - end - 4
  }
}

function upgradeHead(path: string): string {
  const key = randomBytes(16).toString('base64')
  return [
    `GET ${path} HTTP/1.1`,
    'Host: 127.0.0.1',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${key}`,
    '\r\n',
  ].join('\r\n')
}

/** FIN, binary, masked with zeroes. */
function messageHeader(length: number): Buffer {
  if (length < 126) return Buffer.from([0x82, 0x80 | length, 0, 0, 0, 0])
  const header = Buffer.alloc(14)
  header.writeUInt16BE(0x82ff)
  header.writeBigUInt64BE(BigInt(length), 2)
  return header
}
