import type { IncomingHttpHeaders } from 'node:http'
import type { PumpSocket } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import type { Agents } from '../../agents/types.ts'
import type { Routing } from '../../routing/routing.ts'
import { Tally } from '../../tally.ts'
import type { VisitorAddress } from '../../visitor-address.ts'
import type { Arrival, DoorSettings, Routed, TunnelIndex } from '../doors/door-search.ts'
import { findDoor } from '../doors/doors.ts'
import { visitorNotice } from '../doors/notice.ts'
import { checkOrigin } from '../doors/origin-check.ts'
import { type Fields, firstOf, listOf, valuesOf } from '../http/fields.ts'
import { audienceOf, type OwnAnswer, refusalAnswer } from '../http/pages.ts'
import { Refusal } from '../http/refusal.ts'
import { asksForWebSocket, type CheckedRequest, checkRequest } from '../http/request-checks.ts'
import { HOP_FIELD, TOKEN_FIELD } from '../http/request-head.ts'
import type { RequestHead } from '../http/request-parser.ts'
import { splitTunnelPath } from '../http/target.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import { NewConnections, TokenGuesses } from '../visitor-limits.ts'
import { type Admitted, Exchange, type ExchangeContext, type OnSwitched } from './exchange.ts'
import { type RelayContext, relayUpgraded } from './socket-relay.ts'
import { dialService, relayTcp } from './tcp-relay.ts'
import { UpstreamPool } from './upstream-pool.ts'
import { type ConnectionHost, type Examined, VisitorConnection } from './visitor-connection.ts'

export interface FrontOptions {
  tunnels: TunnelIndex
  routing: Routing
  doors: DoorSettings
  /** Whether people see a notice before the first page of a tunnel. */
  visitorNotice: boolean
  /** Whether the edge's public address is https, although the connection may come from a proxy in plain. */
  publicScheme: 'http' | 'https'
  visitorAddress: VisitorAddress
  agents: Pick<Agents, 'handleUpgrade'>
  /** Names this edge to itself in `Cyberun-Hop`. */
  hop: string
  now: () => number
  log: Log
}

/** Serves the connections of visitors: checks each request, finds its tunnel, relays it or says why not. */
export class VisitorFront implements ConnectionHost {
  readonly now: () => number
  readonly log: Log
  readonly ownAnswers = new Tally()
  readonly serviceAnswers = new Tally()
  readonly #options: FrontOptions
  readonly #context: ExchangeContext
  readonly #connections = new Set<VisitorConnection>()
  /** Those that no request came over yet. */
  readonly #unused = new WeakSet<VisitorConnection>()
  readonly #newConnections = new NewConnections()
  readonly #guesses = new TokenGuesses()
  /** Called when the last connection is gone. */
  #onEmpty = (): void => {}
  #isStopping = false
  readonly #pools = new Map<OpenTunnel, UpstreamPool>()
  /** Of closed tunnels, until the last connection is gone. */
  readonly #closing = new Set<UpstreamPool>()

  constructor(options: FrontOptions) {
    this.now = options.now
    this.log = options.log
    this.#options = options
    this.#context = { now: options.now, hop: options.hop, log: options.log, serviceAnswers: this.serviceAnswers }
  }

  /** Serves a connection that was just made; `edgePort` when it came to that port door. */
  accept(socket: PumpSocket, edgePort?: number): void {
    // Its TLS handshake took longer than the listener was there.
    if (this.#isStopping) {
      socket.destroy()
      return
    }
    const connection = new VisitorConnection(socket, this, edgePort)
    this.#connections.add(connection)
    this.#unused.add(connection)
    socket.listen(connection)
  }

  /**
   * Lets the requests under way finish until `signal` aborts, then closes what is left. Links and relays are not waited
   * for: they are ended by whoever has them.
   */
  async stop(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onEmpty = resolve
    this.#isStopping = true
    for (const connection of [...this.#connections]) connection.stop()
    const abort = (): void => {
      for (const connection of [...this.#connections]) connection.destroy()
      resolve()
    }
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    if (this.#connections.size === 0) resolve()
    await promise
    signal.removeEventListener('abort', abort)
  }

  /** Closes what kept us waiting for too long. Called about once a second. */
  sweep(): void {
    const now = this.now()
    for (const connection of this.#connections) connection.sweep(now)
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

  // What a connection asks.

  forget(connection: VisitorConnection): void {
    this.#connections.delete(connection)
    if (this.#connections.size === 0) this.#onEmpty()
  }

  examine(connection: VisitorConnection, head: RequestHead, early: number): Examined {
    if (early === 0 && isForAgents(head)) {
      const request = { method: head.method, headers: headersOf(head.fields), socket: connection.socket }
      const serve = (): void => this.#options.agents.handleUpgrade(request, connection.handOver())
      return { body: { kind: 'none' }, serve }
    }
    const checked = checkRequest(head, early)
    if (checked instanceof Refusal) {
      const answer = refusalAnswer(checked, audienceOf(head))
      return { body: { kind: 'none' }, serve: () => connection.answerOwn(answer, false) }
    }
    return { body: checked.body, serve: () => this.#serve(connection, checked) }
  }

  #serve(connection: VisitorConnection, checked: CheckedRequest): void {
    const found = this.#find(connection, checked)
    if (!('routed' in found)) {
      answerOwn(connection, checked, found)
    } else if (found.routed.tunnel.facts.protocol === 'http') {
      this.#relayHttp(connection, found)
    } else if (checked.upgrade === 'none') {
      answerOwn(connection, checked, tcpNeedsWebSocket())
    } else {
      this.#relayTcp(connection, found).catch((error: unknown) => {
        this.log.error({ error }, 'edge.request_failed')
        connection.destroy()
      })
    }
  }

  #find(connection: VisitorConnection, checked: CheckedRequest): Admitted | OwnAnswer | Refusal {
    if (listOf(checked.fields, HOP_FIELD.toLowerCase()).includes(this.#options.hop)) {
      return new Refusal('loop_detected', 'the service behind this tunnel leads back to this server')
    }
    const arrival = this.#arrivalOf(connection, checked)
    const address = this.#options.visitorAddress.of({
      socket: connection.socket,
      headers: { 'x-forwarded-for': valuesOf(checked.fields, 'x-forwarded-for').join(',') },
    })
    const now = this.now()
    const isNew = this.#unused.delete(connection)
    const tooOften = isNew ? this.#newConnections.admit(address, now) : undefined
    if (tooOften) return tooOften
    const found = this.#judgeGuess(
      checked,
      address,
      findDoor(checked, arrival, this.#options.tunnels, this.#options.doors),
    )
    if (!('tunnel' in found)) return found
    const { tunnel, door } = found
    const refused = checkOrigin(checked, door) ?? tunnel.admit(address, isNew, now)
    if (refused) return refused
    const notice = this.#options.visitorNotice && visitorNotice(checked, tunnel, door, arrival.scheme === 'https')
    if (notice) return notice
    const port = checked.host.port ?? (arrival.scheme === 'https' ? 443 : 80)
    const userAgent = firstOf(checked.fields, 'user-agent') ?? ''
    const { scheme, host } = arrival
    return { checked, routed: found, visitor: { address, userAgent, scheme, host, port } }
  }

  /** Counts a token that leads nowhere. To an address that has shown many, no token leads anywhere it is not yet. */
  #judgeGuess(
    checked: CheckedRequest,
    address: string,
    found: Routed | OwnAnswer | Refusal,
  ): Routed | OwnAnswer | Refusal {
    const now = this.now()
    if (found instanceof Refusal && (found.code === 'not_found' || found.code === 'tunnel_cookie_missing')) {
      const token = firstOf(checked.fields, TOKEN_FIELD) ?? splitTunnelPath(checked.path)?.token
      if (token !== undefined) this.#guesses.wrong(address, token, now)
    }
    if ('tunnel' in found && found.tunnel.presence.hasAddress(address, now)) return found
    return this.#guesses.refuse(address, now) ?? found
  }

  #arrivalOf({ socket, edgePort }: VisitorConnection, checked: CheckedRequest): Arrival {
    const { name, port } = checked.host
    return {
      scheme: this.#schemeOf(socket, checked),
      host: port === undefined ? name : `${name}:${port}`,
      localAddress: socket.localAddress ?? '',
      edgePort,
    }
  }

  /** How the visitor's browser reached us: a proxy in front may have taken the TLS off. */
  #schemeOf(socket: PumpSocket, { host, fields }: CheckedRequest): 'http' | 'https' {
    if (socket.isSecure) return 'https'
    const { visitorAddress, doors, publicScheme } = this.#options
    if (visitorAddress.isTrusted(socket.remoteAddress ?? '')) {
      const [claimed, ...others] = valuesOf(fields, 'x-forwarded-proto')
      if (others.length === 0 && (claimed === 'https' || claimed === 'http')) return claimed
    }
    const isPublic = host.name === doors.publicHost || host.name.endsWith(`.${doors.tunnelDomain}`)
    return isPublic ? publicScheme : 'http'
  }

  #relayHttp(connection: VisitorConnection, found: Admitted): void {
    const isUpgrade = found.checked.upgrade === 'websocket'
    const onSwitched: OnSwitched | undefined = isUpgrade
      ? (stream, head, rest, inspected) =>
          relayUpgraded(stream, connection.handOver(), head, rest, this.#relayContext(found), inspected)
      : undefined
    const exchange = new Exchange(connection, found, this.#poolOf(found.routed.tunnel), this.#context, onSwitched)
    connection.serveBy(exchange, isUpgrade)
    exchange.start()
  }

  async #relayTcp(connection: VisitorConnection, found: Admitted): Promise<void> {
    const { checked, routed, visitor } = found
    const gone = new AbortController()
    connection.serveBy(
      { answering: false, onRequestBytes() {}, onRequestEnd() {}, bodyStalled() {}, visitorGone: () => gone.abort() },
      true,
    )
    // From now on, so that those who wait for the service count for the limits of the tunnel, too.
    const dialling = { address: visitor.address, userAgent: visitor.userAgent }
    routed.tunnel.begin(dialling, this.now())
    const dialled = await dialService(routed.tunnel, this.#options.routing, gone.signal)
    if (dialled instanceof Refusal) {
      if (!gone.signal.aborted) answerOwn(connection, checked, dialled)
    } else if (gone.signal.aborted) {
      dialled.reset('cancelled')
    } else {
      const request = { method: checked.method, headers: headersOf(checked.fields) }
      relayTcp(request, connection.handOver(), dialled, this.#relayContext(found))
    }
    routed.tunnel.end(dialling, this.now())
  }

  #relayContext({ routed, visitor }: Admitted): RelayContext {
    const { address, userAgent } = visitor
    return { tunnel: routed.tunnel, address, userAgent, now: this.now, log: this.log }
  }

  #poolOf(tunnel: OpenTunnel): UpstreamPool {
    const existing = this.#pools.get(tunnel)
    if (existing) return existing
    const pool = new UpstreamPool(tunnel, this.#options.routing)
    this.#pools.set(tunnel, pool)
    tunnel.onClose(() => {
      this.#pools.delete(tunnel)
      this.#closing.add(pool)
      pool.close(this.now())
    })
    return pool
  }
}

/** Agents dial this path of every host; what else asks for it gets what is there, which is nothing. */
function isForAgents({ target, fields }: RequestHead): boolean {
  return (target === '/agent' || target.startsWith('/agent?')) && asksForWebSocket(fields)
}

/** The fields as `node:http` has them: names in lower case, values of one name joined. */
function headersOf(fields: Fields): IncomingHttpHeaders {
  const headers: IncomingHttpHeaders = Object.create(null)
  for (let i = 0; i < fields.length; i += 2) {
    const name = (fields[i] ?? '').toLowerCase()
    headers[name] = valuesOf(fields, name).join(', ')
  }
  return headers
}

/** Answers without a service. The connection ends when what follows on it may be read in two ways. */
function answerOwn(connection: VisitorConnection, checked: CheckedRequest, found: OwnAnswer | Refusal): void {
  const answer = found instanceof Refusal ? refusalAnswer(found, audienceOf(checked)) : found
  connection.answerOwn(answer, checked.persistent && !checked.awaitsContinue && answer.status !== 400)
}

function tcpNeedsWebSocket(): Refusal {
  const message =
    'this tunnel carries TCP in a WebSocket: use "cyberun forward <agent> <port>", or a WebSocket client with this address'
  return new Refusal('upgrade_required', message, ['Upgrade', 'websocket', 'Connection', 'Upgrade'])
}
