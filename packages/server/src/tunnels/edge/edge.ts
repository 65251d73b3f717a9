import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions, type Server as TlsServer } from 'node:tls'
import { PumpSocket, tryAdoption } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { Agents } from '../../agents/types.ts'
import type { Routing } from '../../routing/routing.ts'
import type { Tally } from '../../tally.ts'
import { urlHost } from '../../url-host.ts'
import type { VisitorAddress } from '../../visitor-address.ts'
import type { PathPages, TunnelIndex } from '../doors/door-search.ts'
import type { PortDoors } from '../doors/port-doors.ts'
import { parseHost } from '../http/target.ts'
import { type Certificate, readCertificate, reloadOnChange, type TlsFiles, versionOf } from './tls-files.ts'
import { VisitorFront } from './visitor-front.ts'

/** How often the front looks for what has kept it waiting. */
const SWEEP_MS = 1_000

export interface EdgeOptions {
  host: string
  port: number
  tls?: TlsFiles
  /** Below it each tunnel has a host of its own. */
  tunnelDomain: string
  pathPages: PathPages
  /** Not started yet. */
  portDoors: PortDoors
  /** `https://edge.example.org`, when it differs from where we listen. */
  publicUrl?: string
  visitorAddress: VisitorAddress
  /** Whether people see a notice before the first page of a tunnel. */
  visitorNotice: boolean
  agents: Pick<Agents, 'handleUpgrade'>
  routing: Routing
  tunnels: TunnelIndex & {
    /** Ports of the tunnels that are open now. */
    edgePorts(): number[]
  }
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
  /** Answers of services, by the class of their status, and of the edge's own, by their status. */
  readonly answers: { service: Tally; own: Tally }
  /** Takes no more connections, lets requests finish until `signal` aborts, then closes what is left. */
  stop(signal: AbortSignal): Promise<void>
}

/** Opens the listener. Rejects with the system's error when the port is taken, or one that names unusable TLS files. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  await tryAdoption()
  const listeners = await createListeners(options)
  const server = listeners.make()
  const close = (): void => {
    listeners.stop()
    server.close()
    options.portDoors.stop()
  }
  try {
    const port = await listen(server, options.host, options.port)
    const url = options.publicUrl ?? `${options.tls ? 'https' : 'http'}://${nameOf(options.host)}:${port}`
    const front = frontOf(options, url)
    server.on(listeners.event, (socket: Socket) => front.accept(PumpSocket.from(socket)))
    const makePortDoor = (edgePort: number): Server =>
      listeners.make().on(listeners.event, (socket: Socket) => front.accept(PumpSocket.from(socket), edgePort))
    await options.portDoors.start(makePortDoor, options.tunnels.edgePorts())
    const sweeping = setInterval(() => front.sweep(), SWEEP_MS)
    sweeping.unref()
    return {
      url,
      port,
      get upstreams() {
        return front.upstreams
      },
      answers: { service: front.serviceAnswers, own: front.ownAnswers },
      async stop(signal) {
        close()
        await front.stop(signal)
        clearInterval(sweeping)
      },
    }
  } catch (error) {
    // Left open it would keep the process of a server that has not started.
    close()
    throw error
  }
}

interface Listeners {
  make(): Server
  /** What they tell of a connection by. */
  event: 'connection' | 'secureConnection'
  /** Stops looking for new certificates. */
  stop(): void
}

/** Listeners of the edge's kind, plain or with TLS; all serve the certificate that is there now. */
async function createListeners({ tls, log }: EdgeOptions): Promise<Listeners> {
  if (!tls) {
    const make = (): Server => createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
    return { make, event: 'connection', stop() {} }
  }
  const made = new Set<TlsServer>()
  const version = await versionOf(tls)
  let certificate = await readCertificate(tls)
  const serve = (renewed: Certificate): void => {
    certificate = renewed
    for (const server of made) server.setSecureContext(renewed)
  }
  const stop = reloadOnChange(serve, tls, version, log)
  const make = (): Server => {
    const server = createTlsServer({ ...certificate, ...TLS_OPTIONS })
    made.add(server)
    return server.on('close', () => made.delete(server))
  }
  return { make, event: 'secureConnection', stop }
}

const TLS_OPTIONS: TlsOptions = {
  minVersion: 'TLSv1.2',
  ALPNProtocols: ['http/1.1'],
  allowHalfOpen: true,
  noDelay: true,
}

function frontOf(options: EdgeOptions, url: string): VisitorFront {
  const { protocol, host } = new URL(url)
  return new VisitorFront({
    tunnels: options.tunnels,
    routing: options.routing,
    doors: {
      tunnelDomain: options.tunnelDomain,
      publicHost: parseHost(host)?.name ?? host,
      pathPages: options.pathPages,
      listenerScheme: options.tls ? 'https' : 'http',
      openPorts: options.portDoors,
    },
    publicScheme: protocol === 'https:' ? 'https' : 'http',
    visitorAddress: options.visitorAddress,
    visitorNotice: options.visitorNotice,
    agents: options.agents,
    hop: options.hop,
    now: options.now,
    log: options.log,
  })
}

async function listen(server: Server, host: string, port: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ host, port }, resolve)
  await promise
  server.off('error', reject)
  // From now on it means a connection that could not be accepted, which its visitor sees.
  server.on('error', () => {})
  return (server.address() as AddressInfo).port
}

/** A name for our own address; nobody can ask for "every address". */
function nameOf(host: string): string {
  const isEvery = host === '0.0.0.0' || host === '::'
  if (isEvery || host === '127.0.0.1' || host === '::1') return 'localhost'
  return urlHost(host)
}
