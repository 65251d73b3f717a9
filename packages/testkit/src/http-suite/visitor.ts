import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type SocketEnd, SocketReader, writeAll } from '../socket-reader.ts'
import { type Bytes, buildRequest, type RequestSpec, toBuffer } from './build.ts'
import { type Answer, type Field, readAnswer } from './message.ts'

/** Where a visitor connects and what it must say to be let in. */
export interface Visitor {
  host: string
  port: number
  /** Whence it connects, where that is not the usual address of this machine. */
  localAddress?: string
  /** The authority of the certificate, PEM, where the door speaks TLS. */
  ca?: string
  hostHeader: string
  /** Goes before every target, without a slash at its end; empty on a host of one's own. */
  pathPrefix: string
  extraHeaders: readonly Field[]
}

/** What a service is asked by: by whom it is asked without the tunnel, too, so that both can be compared. */
export type ServiceAddress = Pick<Visitor, 'hostHeader' | 'pathPrefix'>

/** An open way to a service. */
export interface OpenDoor {
  visitor: Visitor
  /** By what the service is asked through this door, where that is not its local address. */
  service?: ServiceAddress
  stop(): Promise<void>
}

/** A way to the service: directly, through a tunnel's host door, through its path door… */
export interface DoorFactory {
  name: string
  /** Whether an HTTP hop stands between, which judges what the service answers. */
  parses: boolean
  /** Whether its visitors speak TLS. */
  tls?: boolean
  start(origin: { port: number }): Promise<OpenDoor>
}

/** The way without any tunnel. */
export const directDoor: DoorFactory = {
  name: 'direct',
  parses: false,
  start: async ({ port }) => ({
    visitor: { host: '127.0.0.1', port, hostHeader: `localhost:${port}`, pathPrefix: '', extraHeaders: [] },
    stop: async () => {},
  }),
}

/** One raw connection of a visitor. */
export class VisitorConnection {
  readonly socket: Socket
  readonly reader: SocketReader
  readonly #tcp: Socket
  readonly #visitor: Visitor

  private constructor(tcp: Socket, socket: Socket, visitor: Visitor) {
    this.#tcp = tcp
    this.socket = socket
    this.reader = new SocketReader(socket)
    this.#visitor = visitor
  }

  static async open(visitor: Visitor): Promise<VisitorConnection> {
    const { host, port, localAddress } = visitor
    const tcp = connect({ host, port, ...(localAddress && { localAddress }), allowHalfOpen: true, noDelay: true })
    await once(tcp, 'connect')
    if (visitor.ca === undefined) return new VisitorConnection(tcp, tcp, visitor)
    const socket = connectTls({ socket: tcp, ca: visitor.ca, host: visitor.host })
    await once(socket, 'secureConnect')
    return new VisitorConnection(tcp, socket, visitor)
  }

  /** Leaves by an RST. */
  reset(): void {
    this.#tcp.resetAndDestroy()
  }

  /** The bytes that `spec` becomes at this door. */
  build(spec: RequestSpec): Buffer {
    return buildRequest(spec, this.#visitor)
  }

  write(bytes: Bytes): Promise<void> {
    return writeAll(this.socket, toBuffer(bytes))
  }

  /** Sends a request and reads what answers it. */
  async exchange(spec: RequestSpec): Promise<Answer> {
    await this.write(this.build(spec))
    return this.readAnswer(spec.method)
  }

  readAnswer(method = 'GET'): Promise<Answer> {
    return readAnswer(this.reader, method)
  }

  waitEnd(): Promise<SocketEnd> {
    return this.reader.waitEnd()
  }
}

/** `http` or `https`. */
export const schemeOf = (visitor: Visitor): string => (visitor.ca === undefined ? 'http' : 'https')
