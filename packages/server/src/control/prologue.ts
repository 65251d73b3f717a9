import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError, invalidRequest } from '@cyberun/api'

/** What happens to every request before any route sees it, on Node's own objects: fetch's hide raw headers. */

/** An inbound id is kept when it cannot be mistaken for anything else in a log. */
const REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$/

/**
 * Bearer headers only, no cookies, nothing to frame, sniff or refer to: a page of another origin gains nothing from
 * this one. Answers hold secrets, so nobody stores them unless a route says otherwise.
 */
const SECURITY_HEADERS = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cache-control': 'no-store',
} as const

/** Puts the request id and the security headers on the response, whoever writes it, and returns the id. */
export function beginResponse(request: IncomingMessage, response: ServerResponse, newRequestId: () => string): string {
  const sent = request.headers['x-request-id']
  const requestId = typeof sent === 'string' && REQUEST_ID.test(sent) ? sent : newRequestId()
  response.setHeader('x-request-id', requestId)
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value)
  return requestId
}

/** Names that always mean this machine. Any port: it may have been forwarded. */
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]']
const HOST = /^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/

/** Checks that need the raw header list. Returns the error to answer with, or undefined. */
export type HeaderCheck = (request: IncomingMessage) => ApiError | undefined

/**
 * Refuses a `Host` that is not one of ours (a page whose name was re-bound to our address sends its own), and headers
 * whose meaning would depend on which of two a reader picks.
 */
export function createHeaderCheck(ownNames: readonly string[]): HeaderCheck {
  const names = new Set([...LOOPBACK_NAMES, ...ownNames.map((name) => name.toLowerCase())])
  return (request) => {
    for (const name of ['Host', 'Authorization', 'X-Team-ID']) {
      if (countRaw(request, name.toLowerCase()) > 1) {
        return invalidRequest([{ path: `header.${name}`, message: 'given twice; send it once' }])
      }
    }
    // Its authority would stand in for the Host that is checked here (RFC 9112, section 3.2.2).
    if (!request.url?.startsWith('/')) return invalidRequest([{ path: 'target', message: 'must be a path' }])
    const name = HOST.exec(request.headers.host ?? '')?.[1]
    if (name === undefined)
      return invalidRequest([{ path: 'header.Host', message: 'is not a host name with an optional port' }])
    if (names.has(name.toLowerCase())) return undefined
    return new ApiError(
      'misdirected_request',
      'This server does not answer for that host name. If it should, set control.public_url to its address.',
    )
  }
}

function countRaw(request: IncomingMessage, name: string): number {
  let count = 0
  for (let i = 0; i < request.rawHeaders.length; i += 2) if (request.rawHeaders[i]?.toLowerCase() === name) count++
  return count
}
