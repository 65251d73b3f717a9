import { hostDoor, pathDoor, portDoor } from '../http/door.ts'
import { firstOf } from '../http/fields.ts'
import { isNavigation } from '../http/navigation.ts'
import { type OwnAnswer, plainPage, redirectAnswer } from '../http/pages.ts'
import { Refusal } from '../http/refusal.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import { climbsOut, type HostName, isLoopback, splitTunnelPath, withSlash } from '../http/target.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { Arrival, DoorSettings, Routed, TunnelIndex } from './door-search.ts'
import { enterOwnOrigin } from './entering.ts'
import { heal, healingCookie } from './healer.ts'
import { pageOrigin } from './path-pages.ts'

const NO_TUNNEL = 'there is no tunnel here: it was closed, or its address is not complete'
const LABEL = /^[0-9a-f]{32}$/

/** Decides what becomes of a request that is sound HTTP: a tunnel, an answer of our own, or a refusal. */
export function findDoor(
  request: CheckedRequest,
  arrival: Arrival,
  tunnels: TunnelIndex,
  settings: DoorSettings,
): Routed | OwnAnswer | Refusal {
  const label = arrival.edgePort === undefined ? labelOf(request.host, settings.tunnelDomain) : undefined
  if (label !== undefined) return throughHostDoor(request, arrival, tunnels.byLabel(label))
  if (!isOwnHost(request.host, arrival, settings)) {
    const message = `this server is not ${request.host.name}: set edge.public_url if it should be`
    return new Refusal('misdirected_request', message)
  }
  if (arrival.edgePort !== undefined) return throughPortDoor(request, arrival, tunnels.byEdgePort(arrival.edgePort))
  const split = splitTunnelPath(request.path)
  if (split) return throughPathDoor(request, split, arrival, tunnels.byToken(split.token), settings)
  const healed = heal(request, arrival, tunnels, settings)
  if (healed) return healed
  if (request.path === '/') return plainPage(200, 'Cyberun edge', 'Tunnels are served here, each at its own address.')
  return new Refusal('not_found', NO_TUNNEL)
}

/** The first label of a tunnel's own host. */
function labelOf(host: HostName, tunnelDomain: string): string | undefined {
  if (!host.name.endsWith(`.${tunnelDomain}`)) return undefined
  const label = host.name.slice(0, -tunnelDomain.length - 1)
  return LABEL.test(label) ? label : undefined
}

/**
 * The names this edge answers to besides its tunnels' (a page of another site could have its name resolve to us). An
 * address literal can only be where the connection came to, so that one is right whatever the settings say.
 */
function isOwnHost(host: HostName, arrival: Arrival, settings: DoorSettings): boolean {
  if (isLoopback(host.name) || host.name === settings.publicHost || host.name === settings.tunnelDomain) return true
  const address = arrival.localAddress.replace(/^::ffff:/, '')
  return host.name === address || host.name === `[${address}]`
}

function throughHostDoor(
  request: CheckedRequest,
  arrival: Arrival,
  tunnel: OpenTunnel | undefined,
): Routed | OwnAnswer | Refusal {
  if (!tunnel) return new Refusal('not_found', NO_TUNNEL)
  return enterOwnOrigin(request, tunnel, hostDoor(tunnel, arrival))
}

function throughPortDoor(
  request: CheckedRequest,
  arrival: Arrival,
  tunnel: OpenTunnel | undefined,
): Routed | OwnAnswer | Refusal {
  if (!tunnel) return new Refusal('not_found', NO_TUNNEL)
  if (isServiceWorkerScript(request)) {
    return new Refusal('forbidden', 'a service worker would outlive this tunnel, whose port another one will have')
  }
  return enterOwnOrigin(request, tunnel, portDoor(tunnel, arrival))
}

function throughPathDoor(
  request: CheckedRequest,
  split: { token: string; rest: string },
  arrival: Arrival,
  tunnel: OpenTunnel | undefined,
  settings: DoorSettings,
): Routed | OwnAnswer | Refusal {
  if (!tunnel) return new Refusal('not_found', NO_TUNNEL)
  if (climbsOut(split.rest)) return new Refusal('bad_request', 'the request has a path that climbs out of its tunnel')
  const rest = withSlash(split.rest)
  const path = tunnel.facts.pathMode === 'keep' ? tunnel.pathPrefix + rest : rest
  if (tunnel.facts.protocol === 'tcp') return { tunnel, door: pathDoor(tunnel, arrival, 'elsewhere'), path }
  const better = pageOrigin(tunnel, arrival, request.host, settings)
  const isPage = isNavigation(request)
  if (isPage && better !== undefined) return redirectAnswer(302, better + tunnel.pathPrefix + rest)
  if (isPage && settings.pathPages === 'refuse') return new Refusal('forbidden', PAGES_REFUSED)
  const pages = better !== undefined || settings.pathPages === 'refuse' ? 'elsewhere' : settings.pathPages
  const door = pathDoor(tunnel, arrival, pages)
  if (rest !== split.rest) return redirectAnswer(307, door.prefix + rest)
  if (isServiceWorkerScript(request)) {
    return new Refusal('forbidden', 'a service worker would reach beyond this tunnel; open the tunnel in a browser tab')
  }
  if (pages === 'sandbox' && isPreflightOfSandbox(request)) return preflightAnswer(request)
  if (pages === 'open' && isPage) return { tunnel, door: { ...door, setCookie: healingCookie(tunnel, door) }, path }
  return { tunnel, door, path }
}

const PAGES_REFUSED =
  'pages are not shown at this address, because it is shared with other tunnels: open the tunnel on your own machine ' +
  'with "cyberun forward", or ask the operator for a tunnel domain; scripts may go on'

function isServiceWorkerScript({ fields }: CheckedRequest): boolean {
  return firstOf(fields, 'service-worker') !== undefined
}

function isPreflightOfSandbox(request: CheckedRequest): boolean {
  const { fields, method } = request
  const asks = firstOf(fields, 'access-control-request-method') !== undefined
  return method === 'OPTIONS' && asks && firstOf(fields, 'origin') === 'null'
}

/**
 * A sandboxed page asks across origins even for its own service. The token in the path is what authorises, no cookie,
 * so the answer is yes.
 */
function preflightAnswer(request: CheckedRequest): OwnAnswer {
  const method = firstOf(request.fields, 'access-control-request-method') ?? 'GET'
  const names = firstOf(request.fields, 'access-control-request-headers')
  const fields = ['Access-Control-Allow-Origin', 'null', 'Access-Control-Allow-Methods', method]
  if (names !== undefined) fields.push('Access-Control-Allow-Headers', names)
  return { status: 204, fields: [...fields, 'Access-Control-Max-Age', '600'], body: Buffer.alloc(0) }
}
