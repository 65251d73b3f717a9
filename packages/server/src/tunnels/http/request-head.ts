import { cookieToService } from './cookies.ts'
import { type Door, type LocalTarget, targetAs } from './door.ts'
import { endsHere, type Fields, firstOf, listOf } from './fields.ts'
import { isBrowser } from './navigation.ts'
import { toService } from './references.ts'
import type { CheckedRequest } from './request-checks.ts'

/** Who asks, as far as we know and the service is told. */
export interface Visitor {
  /** IP address. */
  address: string
  /** As sent; empty when there is none. */
  userAgent: string
  /** How the visitor reached the edge, or the trusted proxy in front of it. */
  scheme: 'http' | 'https'
  /** The Host value as sent. */
  host: string
  port: number
}

/** Sent instead of a cookie by clients that keep none. */
export const TOKEN_FIELD = 'cyberun-tunnel-token'
/** Names the edges a request has passed, so that one that comes back is refused (RFC 9110, section 7.6). */
export const HOP_FIELD = 'Cyberun-Hop'
const RESERVED_PREFIX = 'cyberun-'
const FORWARDED_PREFIX = 'x-forwarded-'

/** What a service behind a proxy tends to believe; only we say it. */
const CLAIMS: ReadonlySet<string> = new Set(['forwarded', 'x-real-ip', 'x-client-ip', 'true-client-ip'])

/**
 * The head that the service gets. Host, Origin and Referer are made local or kept, always together, so that a service
 * that compares them is content; the edge has made the check of Origin itself. Everything else that is not ours or our
 * hop's stays: order, case, duplicates, bytes.
 */
export function rewriteRequest(
  request: CheckedRequest,
  path: string,
  door: Door,
  local: LocalTarget,
  visitor: Visitor,
  hop: string,
): { method: string; target: string; fields: Fields } {
  const dropped = endsHere(request.fields)
  const target = targetAs(door, local)
  const fields: Fields = []
  for (let i = 0; i < request.fields.length; i += 2) {
    const name = request.fields[i] ?? ''
    const lower = name.toLowerCase()
    if (dropped(lower) || isOurs(lower)) continue
    const value = rewriteValue(lower, request.fields[i + 1] ?? '', request, door, target)
    if (value !== undefined) fields.push(name, value)
  }
  addFraming(fields, request)
  fields.push(
    'X-Forwarded-For',
    visitor.address,
    'X-Forwarded-Proto',
    visitor.scheme,
    'X-Forwarded-Host',
    visitor.host,
    'X-Forwarded-Port',
    String(visitor.port),
    HOP_FIELD,
    hop,
  )
  // Only a service that was started with the prefix knows the token in it already.
  if (door.pathMode === 'keep') fields.push('X-Forwarded-Prefix', door.prefix)
  return { method: request.method, target: path, fields }
}

/** Names we say something by, and names with an underscore: many services read `X_Forwarded_For` as ours. */
function isOurs(lower: string): boolean {
  return (
    lower.startsWith(FORWARDED_PREFIX) || lower.startsWith(RESERVED_PREFIX) || lower.includes('_') || CLAIMS.has(lower)
  )
}

function rewriteValue(
  lower: string,
  value: string,
  request: CheckedRequest,
  door: Door,
  target: LocalTarget,
): string | undefined {
  switch (lower) {
    case 'host':
      return target.host
    case 'origin':
      return isOwnOrigin(value, door) ? target.origin : value
    case 'referer':
      return referenceToService(value, door, target)
    case 'destination':
      // Where WebDAV copies and moves to: a URL, or its path alone (RFC 4918, section 10.3).
      return referenceToService(value.startsWith('/') ? door.origin + value : value, door, target)
    case 'cookie':
      return mayBringCookies(request, door, target)
        ? cookieToService(value, door, isBrowser(request.fields))
        : undefined
    case 'expect':
      return request.awaitsContinue ? value : undefined
    default:
      return value
  }
}

/** Whether an Origin is the tunnel's own, as its browser names it. */
export function isOwnOrigin(origin: string, door: Door): boolean {
  return origin === 'null' ? door.pages === 'sandbox' : origin.toLowerCase() === door.origin
}

/**
 * Pages of every tunnel are `Origin: null` in the path door's sandbox, and with a form of any of them a browser sends
 * the cookies it has for this one. They are passed on when Referer, which the browser writes, shows a page of this very
 * tunnel; else the request is anybody's who knows the token.
 */
function mayBringCookies({ fields }: CheckedRequest, door: Door, target: LocalTarget): boolean {
  if (door.pages !== 'sandbox' || firstOf(fields, 'origin') !== 'null') return true
  const referer = firstOf(fields, 'referer')
  return referer !== undefined && toService(referer, door, target) !== undefined
}

/** A URL outside the tunnel goes on as it is, unless it holds a token that the service does not know. */
function referenceToService(value: string, door: Door, target: LocalTarget): string | undefined {
  const inside = toService(value, door, target)
  if (inside !== undefined && door.pathMode === 'keep') return inside
  const told = inside ?? value
  return told.includes('/tunnel/') ? undefined : told
}

function addFraming(fields: Fields, request: CheckedRequest): void {
  if (request.upgrade === 'websocket') {
    fields.push('Connection', 'Upgrade', 'Upgrade', 'websocket')
  } else if (listOf(request.fields, 'te').some((coding) => /^trailers$/i.test(coding))) {
    // We pass trailers on, whatever was named before us (RFC 9110, section 10.1.4).
    fields.push('Connection', 'TE', 'TE', 'trailers')
  }
  if (request.body.kind === 'chunked') fields.push('Transfer-Encoding', 'chunked')
}

/** Fields after a request's body, under the same rules; framing and Host are refused there by the front's parser. */
export function rewriteRequestTrailers(trailers: Fields): Fields {
  const dropped = endsHere(trailers)
  const fields: Fields = []
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i] ?? ''
    const lower = name.toLowerCase()
    if (!dropped(lower) && !isOurs(lower) && !NEVER_TRAILERS.has(lower)) fields.push(name, trailers[i + 1] ?? '')
  }
  return fields
}

/** What decides about a request comes before its body (RFC 9110, section 6.5.1). */
const NEVER_TRAILERS: ReadonlySet<string> = new Set([
  'authorization',
  'content-length',
  'content-type',
  'cookie',
  'expect',
  'host',
  'origin',
  'referer',
  'trailer',
])
