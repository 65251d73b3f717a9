import { setCookieToVisitor } from './cookies.ts'
import { type Door, type LocalTarget, targetAs } from './door.ts'
import { endsHere, type Fields, firstOf } from './fields.ts'
import { linkToVisitor, refreshToVisitor, toVisitor } from './references.ts'

/**
 * Fields that speak for a whole origin or host name. On the path door the origin is not the tunnel's alone, on the port
 * door the host name is not, nor the origin for ever, as ports are used again: none of them leaves there.
 */
const ORIGIN_WIDE: ReadonlySet<string> = new Set([
  'accept-ch',
  'alt-svc',
  'clear-site-data',
  'nel',
  'origin-agent-cluster',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'set-login',
  'strict-transport-security',
])

/** Even with an origin of its own, a tunnel is not to decide how its host name is reached. */
const NAME_WIDE: ReadonlySet<string> = new Set(['alt-svc', 'strict-transport-security'])

/** Everything a page can do but be of its own origin or lead its tab elsewhere unasked. */
const SANDBOX =
  'sandbox allow-downloads allow-forms allow-modals allow-orientation-lock allow-pointer-lock allow-popups ' +
  'allow-presentation allow-scripts allow-top-navigation-by-user-activation'

/**
 * On a door with an origin of the tunnel's own: no page but the tunnel's frames it or loads from it as a script or a
 * picture. Ports and the names below a domain are one site to browsers, so that our cookie comes along with such
 * requests from other tunnels' pages; from further away it does not, and they would be refused anyway.
 */
const OWN_ORIGIN: readonly string[] = [
  'Content-Security-Policy',
  "frame-ancestors 'self'",
  'Cross-Origin-Resource-Policy',
  'same-origin',
]

/**
 * How much of a URL other sites may see: less where it holds the token. No higher, because the path door needs to see
 * where an escaped request came from. The sets are what is at least as strict.
 */
const REFERRER_FLOOR = {
  plain: {
    policy: 'strict-origin-when-cross-origin',
    stricter: new Set(['no-referrer', 'same-origin', 'strict-origin', 'strict-origin-when-cross-origin']),
  },
  secret: { policy: 'same-origin', stricter: new Set(['no-referrer', 'same-origin']) },
} as const

export interface AnswerContext {
  door: Door
  /** The service's local address. */
  target: LocalTarget
  status: number
  /** Whether the visitor gets the body in chunks, so that trailers may be announced. */
  chunked: boolean
  /** The Origin the request came with. */
  requestOrigin: string | undefined
}

/**
 * The fields that the visitor gets of the service's answer: hop-by-hop ones dropped, references and cookies turned to
 * the tunnel's address, what would reach beyond the tunnel left out, our floor added.
 */
export function rewriteResponse(answer: Fields, context: AnswerContext): Fields {
  const { door } = context
  const policyStays = isPolicyStrictEnough(firstOf(answer, 'referrer-policy'), door)
  const cors = door.pages === 'sandbox' && context.requestOrigin === 'null'
  const fields = passOn(answer, context, (lower) => {
    if (lower === 'referrer-policy') return policyStays
    if (lower === 'content-length') return context.status !== 204
    if (lower === 'trailer') return context.chunked
    if (lower === 'cross-origin-resource-policy') return door.pages !== 'own'
    return !(cors && lower.startsWith('access-control-'))
  })
  if (!policyStays) fields.push('Referrer-Policy', floorOf(door).policy)
  fields.push('X-Robots-Tag', 'noindex')
  if (door.pages === 'own') fields.push(...OWN_ORIGIN)
  // What a browser kept of the tunnel that had this port before is not taken for this one's.
  if (door.kind === 'port') fields.push('Vary', 'Cookie')
  if (door.pages === 'sandbox' || door.pages === 'elsewhere') fields.push('Content-Security-Policy', SANDBOX)
  if (door.setCookie !== undefined) fields.push('Set-Cookie', door.setCookie)
  if (cors) fields.push('Access-Control-Allow-Origin', 'null', 'Access-Control-Expose-Headers', '*')
  return fields
}

/** The same for an interim (1xx) answer and for a 101: nothing is added, as no page comes of them. */
export function rewriteInterim(answer: Fields, context: AnswerContext): Fields {
  return passOn(answer, context, (lower) => lower !== 'content-length')
}

function passOn(answer: Fields, context: AnswerContext, passes: (lowerName: string) => boolean): Fields {
  const dropped = endsHere(answer)
  const target = targetAs(context.door, context.target)
  const withheld = context.door.kind === 'host' ? NAME_WIDE : ORIGIN_WIDE
  const fields: Fields = []
  for (let i = 0; i < answer.length; i += 2) {
    const name = answer[i] ?? ''
    const lower = name.toLowerCase()
    if (dropped(lower) || withheld.has(lower) || !passes(lower)) continue
    if (lower === 'set-cookie') {
      for (const cookie of setCookieToVisitor(answer[i + 1] ?? '', context.door)) fields.push(name, cookie)
      continue
    }
    const value = rewriteValue(lower, answer[i + 1] ?? '', context.door, target)
    if (value !== undefined) fields.push(name, value)
  }
  return fields
}

/** Fields after a body. None that a recipient acts upon at once (RFC 9110, section 6.5.1), and none of our hop. */
export function rewriteTrailers(trailers: Fields): Fields {
  const dropped = endsHere(trailers)
  const fields: Fields = []
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i] ?? ''
    const lower = name.toLowerCase()
    if (!dropped(lower) && !NEVER_TRAILERS.has(lower)) fields.push(name, trailers[i + 1] ?? '')
  }
  return fields
}

const NEVER_TRAILERS: ReadonlySet<string> = new Set([
  ...ORIGIN_WIDE,
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'host',
  'location',
  'refresh',
  'set-cookie',
  'trailer',
])

function rewriteValue(lower: string, value: string, door: Door, target: LocalTarget): string | undefined {
  switch (lower) {
    case 'location':
    case 'content-location':
      return toVisitor(value, door, target)
    case 'refresh':
      return refreshToVisitor(value, door, target)
    case 'link':
      return linkToVisitor(value, door, target)
    default:
      return value
  }
}

/** Browsers take the last policy they know of a list. */
function isPolicyStrictEnough(policy: string | undefined, door: Door): boolean {
  const last = policy?.split(',').at(-1)?.trim().toLowerCase()
  return last !== undefined && (floorOf(door).stricter as ReadonlySet<string>).has(last)
}

function floorOf({ prefix }: Door) {
  return prefix === '' ? REFERRER_FLOOR.plain : REFERRER_FLOOR.secret
}
