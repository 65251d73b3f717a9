import { cookieValues, visitCookieName } from '../http/cookies.ts'
import { type Door, pathDoor } from '../http/door.ts'
import { firstOf, valuesOf } from '../http/fields.ts'
import { type OwnAnswer, redirectAnswer } from '../http/pages.ts'
import { pathUnder } from '../http/references.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import { splitTunnelPath } from '../http/target.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { Arrival, DoorSettings, Routed, TunnelIndex } from './door-search.ts'
import { sameSecret, visitCookie } from './entering.ts'

/**
 * Requests that escaped their tunnel: a page below `/tunnel/<token>/` that asks for `/x` means the tunnel's `/x`. They
 * are sent back into it, where everything else is decided as for any request (docs/decisions/0039).
 */

/** How long a page at the path door counts as in use after it was loaded, for requests that do not say whose they are. */
const ACTIVE_S = 30 * 60

/** What becomes of a request for a path that is nobody's here; undefined when no tunnel is proven to be meant. */
export function heal(
  request: CheckedRequest,
  arrival: Arrival,
  tunnels: TunnelIndex,
  settings: DoorSettings,
): Routed | OwnAnswer | undefined {
  if (!request.path.startsWith('/')) return undefined
  const referers = valuesOf(request.fields, 'referer')
  if (referers.length > 0) {
    const tunnel = referers.length === 1 ? tunnelOfReferer(referers[0] ?? '', arrival, tunnels) : undefined
    return tunnel && request.upgrade === 'none' ? sendBack(request, tunnel) : undefined
  }
  // Only where pages of tunnels run in the edge's own origin do they send it cookies, and may do this to each other.
  if (settings.pathPages !== 'open' || request.path === '/') return undefined
  const tunnel = onlyActiveTunnel(request, arrival, tunnels)
  if (!tunnel) return undefined
  if (request.upgrade === 'none') return sendBack(request, tunnel)
  // A WebSocket follows no redirect (RFC 6455, section 4.1, leaves it to clients), so it is served where it came.
  const path = tunnel.facts.pathMode === 'keep' ? tunnel.pathPrefix + request.path : request.path
  return { tunnel, door: pathDoor(tunnel, arrival, 'open'), path }
}

/** The tunnel whose page or file asked: nobody else knows the token, and no page can forge a Referer. */
function tunnelOfReferer(referer: string, { scheme, host }: Arrival, tunnels: TunnelIndex): OpenTunnel | undefined {
  const path = pathUnder(referer, `${scheme}://${host}`)
  const split = path === undefined ? undefined : splitTunnelPath(path)
  return split && httpOnly(tunnels.byToken(split.token))
}

/** 307 keeps method and body. A font or a module of a sandboxed page asks with `Origin: null`, also for this answer. */
function sendBack(request: CheckedRequest, tunnel: OpenTunnel): OwnAnswer {
  const isSandboxed = firstOf(request.fields, 'origin') === 'null'
  return redirectAnswer(
    307,
    tunnel.pathPrefix + request.path,
    isSandboxed ? ['Access-Control-Allow-Origin', 'null'] : [],
  )
}

/** What marks a tunnel's page at the path door as in use in this browser. */
export function healingCookie(tunnel: OpenTunnel, door: Door): string {
  return visitCookie(tunnel, door, ACTIVE_S)
}

/** Our cookie's name where the host name is shared, with the tunnel's label. */
const MARK = /(?:^|;\s*)(?:__Host-)?cyberun-tunnel-([0-9a-f]{32})=/g

/** The one tunnel that this browser had a page of lately; undefined when there were more, or the mark is not ours. */
function onlyActiveTunnel(request: CheckedRequest, arrival: Arrival, tunnels: TunnelIndex): OpenTunnel | undefined {
  const cookies = valuesOf(request.fields, 'cookie')
  const labels = cookies.flatMap((cookie) => [...cookie.matchAll(MARK)].map(([, label = '']) => label))
  const [label] = labels
  if (label === undefined || labels.length > 1) return undefined
  const tunnel = httpOnly(tunnels.byLabel(label))
  if (!tunnel) return undefined
  const name = visitCookieName(pathDoor(tunnel, arrival, 'open'))
  const [secret = ''] = cookies.flatMap((cookie) => cookieValues(cookie, name))
  return sameSecret(secret, tunnel.facts.visitSecret) ? tunnel : undefined
}

function httpOnly(tunnel: OpenTunnel | undefined): OpenTunnel | undefined {
  return tunnel?.facts.protocol === 'http' ? tunnel : undefined
}
