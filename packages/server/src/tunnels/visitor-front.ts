import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Log } from '@cyberun/link/log'
import type { Routing } from '../routing/routing.ts'
import type { VisitorAddress } from '../visitor-address.ts'
import { type Arrival, type DoorSettings, findDoor, type TunnelIndex } from './doors.ts'
import { type Admitted, Exchange, type ExchangeContext, type OnSwitched } from './exchange.ts'
import { listOf } from './fields.ts'
import type { OpenTunnel } from './open-tunnel.ts'
import { checkOrigin } from './origin-check.ts'
import { isForPerson, type OwnAnswer, refusalAnswer, sendOwn } from './pages.ts'
import { Refusal } from './refusal.ts'
import { type CheckedRequest, checkRequest } from './request-checks.ts'
import { HOP_FIELD } from './request-head.ts'
import { type RelayContext, relayUpgraded } from './socket-relay.ts'
import { dialService, relayTcp } from './tcp-relay.ts'
import { UpstreamPool } from './upstream-pool.ts'
import type { VisitorConnection } from './visitor-connection.ts'
import type { VisitorRequest, VisitorResponse } from './visitor-messages.ts'

export interface FrontOptions {
  tunnels: TunnelIndex
  routing: Routing
  doors: DoorSettings
  /** Whether the edge's public address is https, although the connection may come from a proxy in plain. */
  publicScheme: 'http' | 'https'
  visitorAddress: VisitorAddress
  /** Names this edge to itself in `Cyberun-Hop`. */
  hop: string
  now: () => number
  log: Log
}

/** Serves the requests of visitors: checks each, finds its tunnel, relays it or says why not. */
export class VisitorFront {
  readonly #options: FrontOptions
  readonly #context: ExchangeContext
  readonly #pools = new Map<OpenTunnel, UpstreamPool>()
  /** Of closed tunnels, until the last connection is gone. */
  readonly #closing = new Set<UpstreamPool>()

  constructor(options: FrontOptions) {
    this.#options = options
    this.#context = { now: options.now, hop: options.hop }
  }

  /** A request whose turn it is on its connection. */
  serve(connection: VisitorConnection, request: VisitorRequest, response: VisitorResponse): void {
    const found = this.#examine(request, 0)
    if (!isAdmitted(found)) {
      answerOwn(request, response, found)
    } else if (found.routed.tunnel.facts.protocol === 'tcp') {
      answerOwn(request, response, tcpNeedsWebSocket())
    } else if (found.checked.upgrade !== 'none') {
      const message = 'an upgrade cannot follow a request that is not answered yet'
      answerOwn(request, response, new Refusal('bad_request', message))
    } else {
      connection.serve(this.#exchange(connection, request, response, found))
    }
  }

  /**
   * A request for a WebSocket. `response` writes to the same socket, for answers that are none; `early` bytes came after
   * the head.
   */
  serveUpgrade(
    connection: VisitorConnection,
    request: VisitorRequest,
    response: VisitorResponse,
    socket: Socket,
    early: number,
  ): void {
    const found = this.#examine(request, early)
    if (!isAdmitted(found)) {
      answerOwn(request, response, found)
    } else if (found.routed.tunnel.facts.protocol === 'http') {
      const context = this.#relayContext(found)
      const stopWatching = watchEarly(socket)
      const onSwitched: OnSwitched = (stream, head, rest) => {
        stopWatching()
        response.detachSocket(socket)
        relayUpgraded(stream, socket, head, rest, context)
      }
      connection.serve(this.#exchange(connection, request, response, found, onSwitched))
    } else if (found.checked.upgrade === 'none') {
      answerOwn(request, response, tcpNeedsWebSocket())
    } else {
      void this.#serveTcp(request, response, socket, found)
    }
  }

  async #serveTcp(request: VisitorRequest, response: VisitorResponse, socket: Socket, found: Admitted): Promise<void> {
    const gone = new AbortController()
    const visitorGone = (): void => gone.abort()
    socket.once('close', visitorGone)
    const stopWatching = watchEarly(socket)
    const dialled = await dialService(found.routed.tunnel, this.#options.routing, gone.signal)
    socket.off('close', visitorGone)
    stopWatching()
    if (dialled instanceof Refusal) {
      answerOwn(request, response, dialled)
      return
    }
    response.detachSocket(socket)
    relayTcp(request, socket, dialled, this.#relayContext(found))
  }

  /** Closes connections to services that were idle for too long. Called about once a second. */
  sweep(): void {
    const now = this.#options.now()
    for (const pool of this.#pools.values()) pool.sweep(now)
    for (const pool of this.#closing) {
      pool.sweep(now)
      if (pool.size === 0) this.#closing.delete(pool)
    }
  }

  /** Connections to services, for gauges. */
  get upstreams(): number {
    let count = 0
    for (const pool of this.#pools.values()) count += pool.size
    return count
  }

  #examine(request: VisitorRequest, early: number): Admitted | OwnAnswer | Refusal {
    const checked = checkRequest({
      method: request.method ?? '',
      target: request.url ?? '',
      httpVersion: request.httpVersion,
      fields: request.rawHeaders,
      early,
    })
    if (checked instanceof Refusal) return checked
    if (listOf(checked.fields, HOP_FIELD.toLowerCase()).includes(this.#options.hop)) {
      return new Refusal('loop_detected', 'the service behind this tunnel leads back to this server')
    }
    const arrival = this.#arrivalOf(request, checked)
    const found = findDoor(checked, arrival, this.#options.tunnels, this.#options.doors)
    if (!('tunnel' in found)) return found
    const foreign = checkOrigin(checked, found.door)
    if (foreign) return foreign
    const port = checked.host.port ?? (arrival.scheme === 'https' ? 443 : 80)
    const address = this.#options.visitorAddress.of(request)
    return { checked, routed: found, visitor: { address, scheme: arrival.scheme, host: arrival.host, port } }
  }

  #arrivalOf(request: VisitorRequest, checked: CheckedRequest): Arrival {
    const { name, port } = checked.host
    return {
      scheme: this.#schemeOf(request, name),
      host: port === undefined ? name : `${name}:${port}`,
      localAddress: request.socket.localAddress ?? '',
    }
  }

  /** How the visitor's browser reached us: a proxy in front may have taken the TLS off. */
  #schemeOf(request: VisitorRequest, hostName: string): 'http' | 'https' {
    if (request.socket instanceof TLSSocket) return 'https'
    const { visitorAddress, doors, publicScheme } = this.#options
    const claimed = request.headers['x-forwarded-proto']
    if (visitorAddress.isTrusted(request.socket.remoteAddress ?? '') && (claimed === 'https' || claimed === 'http')) {
      return claimed
    }
    const isPublic = hostName === doors.publicHost || hostName.endsWith(`.${doors.tunnelDomain}`)
    return isPublic ? publicScheme : 'http'
  }

  #exchange(
    connection: VisitorConnection,
    request: VisitorRequest,
    response: VisitorResponse,
    found: Admitted,
    onSwitched?: OnSwitched,
  ): Exchange {
    const pool = this.#poolOf(found.routed.tunnel)
    return new Exchange(request, response, found, pool, this.#context, connection, onSwitched)
  }

  #relayContext({ routed, visitor }: Admitted): RelayContext {
    const { now, log } = this.#options
    return { tunnel: routed.tunnel, address: visitor.address, now, log }
  }

  #poolOf(tunnel: OpenTunnel): UpstreamPool {
    const existing = this.#pools.get(tunnel)
    if (existing) return existing
    const pool = new UpstreamPool(tunnel, this.#options.routing)
    this.#pools.set(tunnel, pool)
    tunnel.onClose(() => {
      this.#pools.delete(tunnel)
      this.#closing.add(pool)
      pool.close(this.#options.now())
    })
    return pool
  }
}

/**
 * Until its upgrade is granted a visitor has nothing to say: bytes would belong to nobody, and an end means that it
 * left, which only a socket that is read from notices. The returned function leaves the socket as it was.
 */
function watchEarly(socket: Socket): () => void {
  const leave = (): void => void socket.destroy()
  socket.once('data', leave).once('end', leave)
  return () => {
    socket.pause()
    socket.off('data', leave).off('end', leave)
  }
}

function isAdmitted(found: Admitted | OwnAnswer | Refusal): found is Admitted {
  return 'routed' in found
}

/** Answers without a service. A refused request ends its connection when what follows on it may be read in two ways. */
function answerOwn(request: VisitorRequest, response: VisitorResponse, found: OwnAnswer | Refusal): void {
  const isDoubtful = request.headers.expect !== undefined || found.status === 400 || found.status === 405
  const answer = found instanceof Refusal ? refusalAnswer(found, isForPerson(request.rawHeaders)) : found
  sendOwn(response, answer, isDoubtful)
}

function tcpNeedsWebSocket(): Refusal {
  const message =
    'this tunnel carries TCP in a WebSocket: use "cyberun forward <agent> <port>", or a WebSocket client with this address'
  return new Refusal('upgrade_required', message, ['Upgrade', 'websocket', 'Connection', 'Upgrade'])
}
