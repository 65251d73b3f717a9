import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { type SocketEnd, SocketReader, writeAll } from '../socket-reader.ts'
import { type Bytes, type Reply, toBuffer } from './build.ts'
import { type Body, type RequestHead, readRequestBody, readRequestHead } from './message.ts'

/** One request as the service met it, and the service's hand on the connection. */
export interface ServedRequest {
  readonly head: RequestHead
  /** The bytes after the head as they come, for what is not HTTP any more. */
  readonly reader: SocketReader
  readonly socket: Socket
  readBody(): Promise<Body>
  /** Resolves when the kernel has the bytes. */
  write(bytes: Bytes): Promise<void>
  reply(reply: Reply): Promise<void>
  /** Waits until the other side is gone. */
  gone(): Promise<SocketEnd>
}

export type RequestHandler = (request: ServedRequest) => Promise<void>

/**
 * A service that is nothing but a socket and a script: it records what it receives and writes exactly the bytes it was
 * told to. One handler at a time; connections live on between cases, so a pool is exercised too.
 */
export class ScriptedOrigin {
  readonly port: number
  /** What went wrong on the service's side: a request that is not HTTP/1.1 by the letter, or a handler that threw. */
  readonly faults: Error[] = []
  readonly #server: Server
  readonly #open = new Set<Socket>()
  readonly #readers: SocketReader[] = []
  #basePath = ''
  #handler: RequestHandler = async () => {
    throw new Error('a request came while no handler was set')
  }

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (socket) => void this.#serve(socket))
  }

  static async listen(): Promise<ScriptedOrigin> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new ScriptedOrigin(server)
  }

  /** Connections accepted so far. */
  get connectionCount(): number {
    return this.#readers.length
  }

  /** Bytes received so far, on all connections. */
  get receivedBytes(): number {
    return this.#readers.reduce((sum, reader) => sum + reader.receivedBytes, 0)
  }

  /** From now on every request goes to `handler`. */
  handle(handler: RequestHandler): void {
    this.#handler = handler
  }

  /**
   * From now on it is a service that was started with `basePath`, without a slash at its end: handlers see targets
   * without it, and a target outside it is a fault.
   */
  mount(basePath: string): void {
    this.#basePath = basePath
  }

  /** Ends every connection open now, as a service does that restarts. */
  dropConnections(): void {
    for (const socket of this.#open) socket.destroy()
  }

  async close(): Promise<void> {
    this.dropConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #serve(socket: Socket): Promise<void> {
    const reader = new SocketReader(socket)
    this.#readers.push(reader)
    this.#open.add(socket)
    socket.on('close', () => this.#open.delete(socket))
    try {
      while (await this.#serveOne(socket, reader)) {
        // The next request on the same connection.
      }
    } catch (error) {
      this.faults.push(error as Error)
    }
    socket.destroySoon()
  }

  #below(target: string): string {
    if (this.#basePath === '') return target
    if (!target.startsWith(`${this.#basePath}/`)) throw new Error(`asked for ${target}, outside its base path`)
    return target.slice(this.#basePath.length)
  }

  /** False when the connection is done with. */
  async #serveOne(socket: Socket, reader: SocketReader): Promise<boolean> {
    const asked = await readRequestHead(reader)
    if (!asked) return false
    const head = { ...asked, target: this.#below(asked.target) }
    let bodyRead = false
    const write = (bytes: Bytes) => writeAll(socket, toBuffer(bytes))
    const request: ServedRequest = {
      head,
      reader,
      socket,
      readBody: () => {
        bodyRead = true
        return readRequestBody(reader, head)
      },
      write,
      reply: async ({ pieces, finish }) => {
        for (const piece of pieces) await write(piece)
        if (finish === 'end') socket.end()
        if (finish === 'reset') socket.resetAndDestroy()
      },
      gone: () => reader.waitEnd(),
    }
    await this.#handler(request)
    return bodyRead && socket.writable
  }
}
