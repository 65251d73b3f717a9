import { createServer, type Server, type ServerOptions } from 'node:http'
import { createServer as createTlsServer, Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { PumpSocket, tryAdoption } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { Agents } from '../agents/types.ts'
import type { Routing } from '../routing/routing.ts'
import type { VisitorAddress } from '../visitor-address.ts'
import type { TunnelIndex } from './doors.ts'
import { listOf } from './fields.ts'
import { rawAnswer, refusalAnswer } from './pages.ts'
import { Refusal, type RefusalCode } from './refusal.ts'
import { parseHost } from './target.ts'
import { readCertificate, reloadOnChange, type TlsFiles } from './tls-files.ts'
import { VisitorConnection } from './visitor-connection.ts'
import { VisitorFront } from './visitor-front.ts'
import { VisitorRequest, VisitorResponse } from './visitor-messages.ts'

/** What a visitor may make us hold or wait for. */
export const EDGE_LIMITS = {
  /** Bytes of a request's head; above it 431. */
  headBytes: 64 * 1024,
  headFields: 1_000,
  /** From the first byte of a head to its last. There is no limit on how long a body or an answer takes. */
  headMs: 10_000,
  /** How long a connection without a request stays open. */
  keepAliveMs: 75_000,
  sweepMs: 1_000,
} as const

export interface EdgeOptions {
  host: string
  port: number
  tls?: TlsFiles
  /** Below it each tunnel has a host of its own. */
  tunnelDomain: string
  /** `https://edge.example.org`, when it differs from where we listen. */
  publicUrl?: string
  visitorAddress: VisitorAddress
  agents: Pick<Agents, 'handleUpgrade'>
  routing: Routing
  tunnels: TunnelIndex
  /** Names this edge in requests it passes on, so that one that comes back is noticed. */
  hop: string
  log: Log
  now: () => number
}

/** The listener that agents dial and visitors use. */
export interface Edge {
  /** Where it is reached, without a slash at its end: `http://localhost:8788`. */
  readonly url: string
  readonly port: number
  /** Connections to services behind tunnels, for gauges. */
  readonly upstreams: number
  /** Takes no more connections, lets requests finish until `signal` aborts, then closes what is left. */
  stop(signal: AbortSignal): Promise<void>
}

/** Opens the listener. Rejects with the system's error when the port is taken, or one that names unusable TLS files. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  const { tls, log } = options
  const settings: ServerOptions<typeof VisitorRequest, typeof VisitorResponse> = {
    IncomingMessage: VisitorRequest,
    ServerResponse: VisitorResponse,
    maxHeaderSize: EDGE_LIMITS.headBytes,
    headersTimeout: EDGE_LIMITS.headMs,
    requestTimeout: 0,
    keepAliveTimeout: EDGE_LIMITS.keepAliveMs,
    connectionsCheckingInterval: EDGE_LIMITS.sweepMs,
    noDelay: true,
    // A request without a body then costs no stream that ends; nobody listens to one (Exchange).
    optimizeEmptyRequests: true,
    shouldUpgradeCallback: isUpgradeOfOurs,
  }
  const secure =
    tls && createTlsServer({ ...settings, allowHalfOpen: true, ...(await readCertificate(tls)), minVersion: 'TLSv1.2' })
  const server: Server<typeof VisitorRequest, typeof VisitorResponse> = secure ?? createServer(settings)
  server.maxHeadersCount = EDGE_LIMITS.headFields
  await tryAdoption()
  const stopLooking = secure && tls ? reloadOnChange(secure, tls, log) : () => {}
  const port = await listen(server, options.host, options.port)
  const url = options.publicUrl ?? `${tls ? 'https' : 'http'}://${nameOf(options.host)}:${port}`
  const front = frontOf(options, url)
  const sockets = handle(server, front, options)
  const sweeping = setInterval(() => front.sweep(), EDGE_LIMITS.sweepMs)
  sweeping.unref()
  return {
    url,
    port,
    get upstreams() {
      return front.upstreams
    },
    async stop(signal) {
      stopLooking()
      clearInterval(sweeping)
      await closeServer(server, sockets, signal)
    },
  }
}

/** While stopping: how soon a connection is closed once its last answer is out. */
const CLOSE_IDLE_EVERY_MS = 50

type EdgeServer = Server<typeof VisitorRequest, typeof VisitorResponse>

/** Upgrades other than to WebSocket are served as plain requests (RFC 9110, section 7.8). */
function isUpgradeOfOurs(request: VisitorRequest): boolean {
  return listOf(request.rawHeaders, 'upgrade').some((protocol) => protocol.toLowerCase() === 'websocket')
}

function frontOf(options: EdgeOptions, url: string): VisitorFront {
  const { protocol, host } = new URL(url)
  return new VisitorFront({
    tunnels: options.tunnels,
    routing: options.routing,
    doors: { tunnelDomain: options.tunnelDomain, publicHost: parseHost(host)?.name ?? host },
    publicScheme: protocol === 'https:' ? 'https' : 'http',
    visitorAddress: options.visitorAddress,
    hop: options.hop,
    now: options.now,
    log: options.log,
  })
}

/** Joins the server's events with the front. Returns the connections that `stop` waits for. */
function handle(server: EdgeServer, front: VisitorFront, options: EdgeOptions): ReadonlySet<Socket> {
  const connections = new WeakMap<Socket, VisitorConnection>()
  const sockets = new Set<Socket>()
  const connectionOf = (socket: Socket): VisitorConnection => {
    const known = connections.get(socket)
    if (known) return known
    const connection = new VisitorConnection(socket)
    connections.set(socket, connection)
    return connection
  }
  const onRequest = (request: VisitorRequest, response: VisitorResponse): void => {
    const connection = connectionOf(request.socket)
    if (connection.busy) connection.wait(() => front.serve(connection, request, response))
    else front.serve(connection, request, response)
  }
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('request', onRequest)
  server.on('checkContinue', onRequest)
  server.on('checkExpectation', onRequest)
  server.on('upgrade', (request, _socket, early) => {
    const { socket } = request
    const response = new VisitorResponse(request)
    // Node takes its own listener away; an error is followed by `close`, where it is dealt with.
    socket.on('error', () => {})
    // From here on it is a link, or a visit of a tunnel: ended by whoever has those.
    sockets.delete(socket)
    if (isAgentPath(request.url ?? '')) {
      options.agents.handleUpgrade(request, PumpSocket.from(socket, early))
      return
    }
    response.shouldKeepAlive = false
    response.assignSocket(socket)
    response.once('finish', () => {
      response.detachSocket(socket)
      socket.destroySoon()
    })
    front.serveUpgrade(connectionOf(socket), request, response, socket, early.length)
  })
  server.on('connect', (_request, socket) => {
    socket.on('error', () => {})
    socket.end(rawAnswer(refusalAnswer(new Refusal('bad_request', 'this is no proxy: CONNECT is not served'), false)))
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    answerFault(error, socket as Socket, connections.get(socket as Socket))
  })
  return sockets
}

/** Where agents dial. */
function isAgentPath(target: string): boolean {
  return target === '/agent' || target.startsWith('/agent?')
}

/** What Node's parser could not read: says so once, and closes. */
function answerFault(error: NodeJS.ErrnoException, socket: Socket, connection: VisitorConnection | undefined): void {
  const mayAnswer = connection?.fault() ?? true
  if (connection?.busy) return
  if (!mayAnswer || !socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const [code, message] = FAULTS[error.code ?? ''] ?? ['bad_request', 'the request is not HTTP/1.1 as RFC 9112 has it']
  socket.end(rawAnswer(refusalAnswer(new Refusal(code, message), false)))
  // Whatever else comes is not read: the visitor may be out of step with us.
  socket.destroySoon()
}

const FAULTS: Partial<Record<string, [RefusalCode, string]>> = {
  HPE_HEADER_OVERFLOW: ['header_too_large', `the request's head is longer than ${EDGE_LIMITS.headBytes} bytes`],
  ERR_HTTP_REQUEST_TIMEOUT: ['request_timeout', `the request's head did not arrive within ${EDGE_LIMITS.headMs} ms`],
}

async function listen(server: EdgeServer, host: string, port: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ host, port }, resolve)
  await promise
  server.off('error', reject)
  return (server.address() as AddressInfo).port
}

/** A name for our own address; nobody can ask for "every address". */
function nameOf(host: string): string {
  const isEvery = host === '0.0.0.0' || host === '::'
  if (isEvery || host === '127.0.0.1' || host === '::1') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}

async function closeServer(server: EdgeServer, sockets: ReadonlySet<Socket>, signal: AbortSignal): Promise<void> {
  server.close()
  // Those whose answer is under way become idle later.
  const closing = setInterval(() => server.closeIdleConnections(), CLOSE_IDLE_EVERY_MS)
  server.closeIdleConnections()
  const { promise, resolve } = Promise.withResolvers<void>()
  const check = (): void => {
    if (signal.aborted) for (const socket of sockets) socket.destroy()
    if (sockets.size === 0 || signal.aborted) resolve()
  }
  for (const socket of sockets) socket.once('close', check)
  signal.addEventListener('abort', check, { once: true })
  check()
  await promise
  clearInterval(closing)
}
