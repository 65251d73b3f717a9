import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { adoptSocket, tryAdoption } from '@cyberun/link'
import { answerParent } from '../child.ts'
import { BULK_BUFFER_BYTES, ERRAND } from '../connection.ts'

/**
 * The service behind the tunnel, in its own process. A connection's first byte is its errand: download, upload, echo,
 * or the G of GET, which is answered with 1 KiB, or by becoming one of the others after `101 Switching Protocols`.
 * It parses no more than that, so that a comparison shows what lies between it and the client.
 */
export interface ServiceVerbs {
  listen(nothing: null): Promise<{ port: number }>
  /** Bytes uploaded so far, and when that was in milliseconds. */
  received(nothing: null): { bytes: number; atMs: number }
  /** Connections open now. */
  connections(nothing: null): number
}

const CHUNK = Buffer.alloc(256 * 1024, 'cyberun ')
const BODY = Buffer.alloc(1024, 'x')
const ANSWER = Buffer.concat([
  Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${BODY.length}\r\n\r\n`),
  BODY,
])
/** RFC 6455 section 1.3. */
const ACCEPT_SALT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

let receivedBytes = 0
const sockets = new Set<Socket>()

const server = createServer({ noDelay: true }, (socket) => {
  track(socket)
  socket.once('data', (bytes) => begin(socket, bytes))
})

function track(socket: Socket): void {
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  socket.on('error', () => socket.destroy())
}

function begin(socket: Socket, bytes: Buffer): void {
  const rest = bytes.subarray(1)
  switch (String.fromCharCode(bytes[0] ?? 0)) {
    case ERRAND.download:
      pour(socket)
      socket.on('drain', () => pour(socket))
      return
    case ERRAND.upload:
      receivedBytes += rest.length
      sink(socket)
      return
    case ERRAND.echo:
      if (rest.length > 0) socket.write(rest)
      socket.on('data', (more) => socket.write(more))
      return
    case 'G':
      answerRequests(socket, bytes)
      return
    default:
      socket.destroy()
  }
}

/** Takes what comes in the way the clients do, so that neither direction of a bulk transfer is the dearer one for its ends. */
function sink(socket: Socket): void {
  const adopted = adoptSocket(socket, {
    buffer: Buffer.allocUnsafe(BULK_BUFFER_BYTES),
    callback(count) {
      receivedBytes += count
      return true
    },
  })
  if (!adopted) throw new Error('an accepted socket cannot be read into a buffer of ours on this version of Node')
  sockets.delete(socket)
  track(adopted)
  adopted.on('end', () => adopted.destroy())
  adopted.resume()
}

function pour(socket: Socket): void {
  while (!socket.destroyed && socket.write(CHUNK));
}

function upgrade(socket: Socket, head: string): void {
  const key = /\r\nsec-websocket-key: *(\S+)/i.exec(head)?.[1] ?? ''
  const accept = createHash('sha1')
    .update(key + ACCEPT_SALT)
    .digest('base64')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  )
  socket.once('data', (bytes) => begin(socket, bytes))
}

/** One answer for each end of a head: enough for GET without bodies, pipelined or cut in the middle, until an upgrade. */
function answerRequests(socket: Socket, first: Buffer): void {
  let tail = ''
  const answer = (bytes: Buffer) => {
    const heads = (tail + bytes.toString('latin1')).split('\r\n\r\n')
    tail = heads.pop() ?? ''
    for (const head of heads) {
      if (/\r\nupgrade: *websocket/i.test(head)) {
        socket.off('data', answer)
        upgrade(socket, head)
      } else socket.write(ANSWER)
    }
  }
  socket.on('data', answer)
  answer(first)
}

answerParent<ServiceVerbs>({
  async listen() {
    await tryAdoption()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return { port: (server.address() as AddressInfo).port }
  },
  received: () => ({ bytes: receivedBytes, atMs: performance.now() }),
  connections: () => sockets.size,
})
