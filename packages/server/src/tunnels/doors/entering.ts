import { timingSafeEqual } from 'node:crypto'
import { cookieValues, visitCookieName } from '../http/cookies.ts'
import type { Door } from '../http/door.ts'
import { valuesOf } from '../http/fields.ts'
import { type OwnAnswer, redirectAnswer } from '../http/pages.ts'
import { Refusal } from '../http/refusal.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import { TOKEN_FIELD } from '../http/request-head.ts'
import { climbsOut, splitTunnelPath, withSlash } from '../http/target.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { Routed } from './door-search.ts'

/** How visitors show, at doors with an origin of the tunnel's own, that they were given its address. */

/** Serves who may enter; swaps a token in the path for a cookie; refuses the rest. */
export function enterOwnOrigin(request: CheckedRequest, tunnel: OpenTunnel, door: Door): Routed | OwnAnswer | Refusal {
  const split = splitTunnelPath(request.path)
  if (split && sameSecret(split.token, tunnel.facts.token)) {
    if (door.pathMode === 'keep') return enterKeepingPath(split.rest, tunnel, door)
    // Any other method is the service's, also with a path that looks like this.
    if (request.method === 'GET' || request.method === 'HEAD') return swapToken(request, split.rest, tunnel, door)
  }
  const admitted = mayEnter(request, tunnel, door)
  if (admitted instanceof Refusal) return admitted
  return { tunnel, door, path: request.path }
}

/** The service's own base path holds the token, so that is shown with every request and stays where it is. */
function enterKeepingPath(rest: string, tunnel: OpenTunnel, door: Door): Routed | OwnAnswer | Refusal {
  if (climbsOut(rest)) return new Refusal('bad_request', 'the request has a path that climbs out of its tunnel')
  if (withSlash(rest) !== rest) return redirectAnswer(307, door.prefix + withSlash(rest))
  return { tunnel, door, path: door.prefix + rest }
}

/**
 * `/tunnel/<token>/x` at a door of the tunnel's own: proof of the token is put into a cookie, and the browser sent to
 * `/x`, so that the token leaves the address bar.
 */
function swapToken(request: CheckedRequest, rest: string, tunnel: OpenTunnel, door: Door): OwnAnswer {
  const fields = ['Set-Cookie', visitCookie(tunnel, door)]
  const isFirstVisit = !visitSecretsOf(request, door).some((secret) => sameSecret(secret, tunnel.facts.visitSecret))
  // Another tunnel had this port before, and its pages' storage is still this origin's.
  if (door.kind === 'port' && isFirstVisit) fields.push('Clear-Site-Data', '"storage"')
  // Absolute, because a rest that starts with two slashes would name another host.
  return redirectAnswer(302, door.origin + withSlash(rest), fields)
}

/** Our cookie, which proves that its holder was given the tunnel's address. `maxAgeS`: absent for a browser's session. */
export function visitCookie(tunnel: OpenTunnel, door: Door, maxAgeS?: number): string {
  const secure = door.origin.startsWith('https:') ? '; Secure' : ''
  const age = maxAgeS === undefined ? '' : `; Max-Age=${maxAgeS}`
  return `${visitCookieName(door)}=${tunnel.facts.visitSecret}; Path=/; HttpOnly; SameSite=Lax${secure}${age}`
}

/** Whether this visitor has shown the token: by our cookie, or by a field that clients without cookies send. */
function mayEnter(request: CheckedRequest, tunnel: OpenTunnel, door: Door): true | Refusal {
  const tokens = valuesOf(request.fields, TOKEN_FIELD)
  if (tokens.length === 1 && sameSecret(tokens[0] ?? '', tunnel.facts.token)) return true
  const secrets = visitSecretsOf(request, door)
  // A second one was planted by somebody; which of them is the browser's own cannot be told (RFC 6265, section 8.6).
  if (secrets.length > 1) {
    const message = `${visitCookieName(door)} was sent more than once: clear this site's cookies`
    return new Refusal('bad_request', message)
  }
  if (secrets.length === 1 && sameSecret(secrets[0] ?? '', tunnel.facts.visitSecret)) return true
  return new Refusal(
    'tunnel_cookie_missing',
    'open this tunnel with the address you were given, the one with /tunnel/ in it; scripts send Cyberun-Tunnel-Token',
  )
}

function visitSecretsOf(request: CheckedRequest, door: Door): string[] {
  const name = visitCookieName(door)
  return valuesOf(request.fields, 'cookie').flatMap((cookie) => cookieValues(cookie, name))
}

/** In a time that tells nothing about where two secrets differ. All of one kind have one length. */
export function sameSecret(given: string, right: string): boolean {
  const a = Buffer.from(given)
  const b = Buffer.from(right)
  return a.length === b.length && timingSafeEqual(a, b)
}
