import { timingSafeEqual } from 'node:crypto'
import { visitCookieName, visitCookies } from './cookies.ts'
import type { Door } from './door.ts'
import { firstOf, valuesOf } from './fields.ts'
import { hostDoor, type OpenTunnel, pathDoor } from './open-tunnel.ts'
import { type OwnAnswer, plainPage, redirectAnswer } from './pages.ts'
import { Refusal } from './refusal.ts'
import type { CheckedRequest } from './request-checks.ts'
import { TOKEN_FIELD } from './request-head.ts'
import { climbsOut, type HostName, isLoopback, splitTunnelPath } from './target.ts'

/** The open tunnels, by what a request can name them with. */
export interface TunnelIndex {
  byToken(token: string): OpenTunnel | undefined
  byLabel(label: string): OpenTunnel | undefined
}

/** A request that may go to a tunnel: which, through which door, and what path its service is asked for. */
export interface Routed {
  tunnel: OpenTunnel
  door: Door
  path: string
}

export interface DoorSettings {
  /** Below it every tunnel has a host of its own; `localhost` needs no DNS but works only on the same machine. */
  tunnelDomain: string
  /** The edge's own host name, beside loopback names and the address a connection came to. */
  publicHost: string
}

/** How the visitor reached us. */
export interface Arrival {
  scheme: 'http' | 'https'
  /** Host as sent, lower case. */
  host: string
  /** The IP address that the connection came to. */
  localAddress: string
}

const NO_TUNNEL = 'there is no tunnel here: it was closed, or its address is not complete'
const LABEL = /^[0-9a-f]{32}$/

/** Decides what becomes of a request that is sound HTTP: a tunnel, an answer of our own, or a refusal. */
export function findDoor(
  request: CheckedRequest,
  arrival: Arrival,
  tunnels: TunnelIndex,
  settings: DoorSettings,
): Routed | OwnAnswer | Refusal {
  const label = labelOf(request.host, settings.tunnelDomain)
  if (label !== undefined) return throughHostDoor(request, arrival, tunnels.byLabel(label))
  if (!isOwnHost(request.host, arrival, settings)) {
    const message = `this server is not ${request.host.name}: set edge.public_url if it should be`
    return new Refusal('misdirected_request', message)
  }
  const split = splitTunnelPath(request.path)
  if (split) return throughPathDoor(request, split, arrival, tunnels.byToken(split.token), settings)
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
  const address = arrival.localAddress.replace(/^::ffff:/, '')
  return (
    isLoopback(host.name) || [settings.publicHost, settings.tunnelDomain, address, `[${address}]`].includes(host.name)
  )
}

// The host door.

function throughHostDoor(
  request: CheckedRequest,
  arrival: Arrival,
  tunnel: OpenTunnel | undefined,
): Routed | OwnAnswer | Refusal {
  if (!tunnel) return new Refusal('not_found', NO_TUNNEL)
  const door = hostDoor(`${arrival.scheme}://${arrival.host}`)
  const swap = swapToken(request, arrival, tunnel, door)
  if (swap) return swap
  const admitted = mayEnter(request, arrival, tunnel)
  if (admitted instanceof Refusal) return admitted
  return { tunnel, door, path: request.path }
}

/**
 * `/tunnel/<token>/x` on the tunnel's own host: proof of the token is put into a cookie, and the browser sent to `/x`,
 * so that the token leaves the address bar. Any other path is the service's, also one that looks like this.
 */
function swapToken(request: CheckedRequest, arrival: Arrival, tunnel: OpenTunnel, door: Door): OwnAnswer | undefined {
  const split = splitTunnelPath(request.path)
  if (!split || !sameSecret(split.token, tunnel.facts.token)) return undefined
  if (request.method !== 'GET' && request.method !== 'HEAD') return undefined
  const secure = arrival.scheme === 'https'
  const attributes = `Path=/; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
  const cookie = `${visitCookieName(secure)}=${tunnel.facts.visitSecret}; ${attributes}`
  // Absolute, because a rest that starts with two slashes would name another host.
  return redirectAnswer(302, door.origin + withSlash(split.rest), ['Set-Cookie', cookie])
}

/** Whether this visitor has shown the token: by our cookie, or by a field that clients without cookies send. */
function mayEnter(request: CheckedRequest, arrival: Arrival, tunnel: OpenTunnel): true | Refusal {
  const tokens = valuesOf(request.fields, TOKEN_FIELD)
  if (tokens.length === 1 && sameSecret(tokens[0] ?? '', tunnel.facts.token)) return true
  const name = visitCookieName(arrival.scheme === 'https')
  const cookies = valuesOf(request.fields, 'cookie')
    .flatMap(visitCookies)
    .filter((cookie) => cookie.name === name)
  // A second one was planted by somebody; which of them is the browser's own cannot be told (RFC 6265, section 8.6).
  if (cookies.length > 1)
    return new Refusal('bad_request', `${name} was sent more than once: clear this site's cookies`)
  if (cookies.length === 1 && sameSecret(cookies[0]?.value ?? '', tunnel.facts.visitSecret)) return true
  return new Refusal(
    'tunnel_cookie_missing',
    'open this tunnel with the address you were given, the one with /tunnel/ in it; scripts send Cyberun-Tunnel-Token',
  )
}

// The path door.

function throughPathDoor(
  request: CheckedRequest,
  split: { token: string; rest: string },
  arrival: Arrival,
  tunnel: OpenTunnel | undefined,
  settings: DoorSettings,
): Routed | OwnAnswer | Refusal {
  if (!tunnel) return new Refusal('not_found', NO_TUNNEL)
  if (climbsOut(split.rest)) return new Refusal('bad_request', 'the request has a path that climbs out of its tunnel')
  const path = withSlash(split.rest)
  const hasHostDoor = tunnel.facts.protocol === 'http' && isReachable(settings.tunnelDomain, request.host)
  const door = pathDoor(tunnel, `${arrival.scheme}://${arrival.host}`, hasHostDoor)
  if (tunnel.facts.protocol === 'tcp') return { tunnel, door, path }
  if (hasHostDoor && isNavigation(request)) {
    const port = request.host.port === undefined ? '' : `:${request.host.port}`
    const origin = `${arrival.scheme}://${tunnel.facts.label}.${settings.tunnelDomain}${port}`
    return redirectAnswer(302, origin + door.prefix + path)
  }
  if (path !== split.rest) return redirectAnswer(307, door.prefix + path)
  if (firstOf(request.fields, 'service-worker') !== undefined) {
    return new Refusal('forbidden', 'a service worker would reach beyond this tunnel; open the tunnel in a browser tab')
  }
  if (door.sandboxed && isPreflightOfSandbox(request)) return preflightAnswer(request)
  return { tunnel, door, path }
}

/** Browsers resolve `*.localhost` to the machine they run on, so it leads here only when they are on this one. */
function isReachable(tunnelDomain: string, host: HostName): boolean {
  const local = tunnelDomain === 'localhost' || tunnelDomain.endsWith('.localhost')
  return !local || isLoopback(host.name)
}

/** Whether a browser is about to show the answer as a page. */
function isNavigation(request: CheckedRequest): boolean {
  if (request.upgrade !== 'none' || (request.method !== 'GET' && request.method !== 'HEAD')) return false
  const mode = firstOf(request.fields, 'sec-fetch-mode')
  if (mode !== undefined) return mode === 'navigate'
  const acceptsPage = firstOf(request.fields, 'accept')?.includes('text/html') ?? false
  return acceptsPage && (firstOf(request.fields, 'user-agent')?.startsWith('Mozilla/') ?? false)
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

function withSlash(rest: string): string {
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** In a time that tells nothing about where two secrets differ. All of one kind have one length. */
function sameSecret(given: string, right: string): boolean {
  const a = Buffer.from(given)
  const b = Buffer.from(right)
  return a.length === b.length && timingSafeEqual(a, b)
}
