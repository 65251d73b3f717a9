import type { Door } from '../http/door.ts'
import { valuesOf } from '../http/fields.ts'
import { Refusal } from '../http/refusal.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import { isOwnOrigin } from '../http/request-head.ts'

/** RFC 9110, section 9.2.1. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * The check that rewriting Origin takes from the service: what changes something, and every upgrade, must come from the
 * tunnel's own pages, or from a client that sends no Origin, which no browser does across sites.
 */
export function checkOrigin(request: CheckedRequest, door: Door): Refusal | undefined {
  if (SAFE_METHODS.has(request.method) && request.upgrade === 'none') return undefined
  const origins = valuesOf(request.fields, 'origin')
  if (origins.every((origin) => isOwnOrigin(origin, door)) && origins.length < 2) return undefined
  return new Refusal('cross_origin', `a page of another site may not do this here; the tunnel's own is ${door.origin}`)
}
