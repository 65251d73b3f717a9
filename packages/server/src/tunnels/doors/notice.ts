import { createHmac, randomBytes } from 'node:crypto'
import { cookieValues } from '../http/cookies.ts'
import type { Door } from '../http/door.ts'
import { firstOf, valuesOf } from '../http/fields.ts'
import { isNavigation } from '../http/navigation.ts'
import { noticePage, type OwnAnswer, redirectAnswer } from '../http/pages.ts'
import type { CheckedRequest } from '../http/request-checks.ts'
import type { OpenTunnel } from '../open-tunnel.ts'

/** Sent by clients that want no notice; any value but an empty one will do. */
export const SKIP_NOTICE_FIELD = 'cyberun-skip-notice'

/** Marks the visitor's word that the notice was read; with it the value of the cookie that came with the notice. */
const CONTINUE_PARAMETER = 'cyberun-continue'
const NONCE_BYTES = 16

/**
 * The page that a person sees once, before the first page of a tunnel: that it comes from somebody's machine, not from
 * this server. Undefined when there is no need: not a navigation of a whole tab, asked not to, or read before.
 *
 * It has no script and posts nothing. Reading it sets a cookie for this tunnel alone; its link carries what another
 * cookie holds, so that nobody can send somebody else past the notice with a link. The link leads to the same path, so
 * it cannot lead elsewhere.
 */
export function visitorNotice(
  request: CheckedRequest,
  tunnel: OpenTunnel,
  door: Door,
  isSecure: boolean,
): OwnAnswer | undefined {
  if (!isFirstPage(request) || (firstOf(request.fields, SKIP_NOTICE_FIELD) ?? '') !== '') return undefined
  const name = cookieName(tunnel, door, isSecure)
  const sent = valuesOf(request.fields, 'cookie').flatMap((cookie) => cookieValues(cookie, name))
  const seen = seenMark(tunnel)
  if (sent.includes(seen)) return undefined
  const attributes = `Path=${door.prefix}/; HttpOnly; SameSite=Lax${isSecure ? '; Secure' : ''}`
  const { path, nonce } = splitContinue(request.path)
  if (nonce !== undefined && sent.includes(nonce)) {
    // Absolute, because a path that starts with two slashes would name another host.
    return redirectAnswer(302, door.origin + path, ['Set-Cookie', `${name}=${seen}; ${attributes}`])
  }
  const fresh = randomBytes(NONCE_BYTES).toString('hex')
  const next = `${path}${path.includes('?') ? '&' : '?'}${CONTINUE_PARAMETER}=${fresh}`
  return noticePage(door.origin + next, new URL(door.origin).host, ['Set-Cookie', `${name}=${fresh}; ${attributes}`])
}

/**
 * Whether a browser is about to show the answer in a tab of its own. Frames within pages are the page's affair, and what
 * is no GET would lose its body here; the edge lets neither come from another site.
 */
function isFirstPage(request: CheckedRequest): boolean {
  if (request.method !== 'GET' || !isNavigation(request)) return false
  return (firstOf(request.fields, 'sec-fetch-dest') ?? 'document') === 'document'
}

/** Where tunnels share a host name, which is all that cookies know, the name says which tunnel it is. */
function cookieName(tunnel: OpenTunnel, door: Door, isSecure: boolean): string {
  const own = isSecure && door.prefix === '' ? '__Host-cyberun-notice' : 'cyberun-notice'
  return door.kind === 'host' ? own : `${own}-${tunnel.facts.label.slice(0, 16)}`
}

/** Changes when the tunnel is revoked. Tells nothing about the token. */
function seenMark(tunnel: OpenTunnel): string {
  return createHmac('sha256', tunnel.facts.visitSecret)
    .update('notice')
    .digest('hex')
    .slice(0, 2 * NONCE_BYTES)
}

/** A path without our parameter, which is always the last one; and its value. */
function splitContinue(path: string): { path: string; nonce?: string } {
  const found = new RegExp(`[?&]${CONTINUE_PARAMETER}=([0-9a-f]{${2 * NONCE_BYTES}})$`).exec(path)
  return found ? { path: path.slice(0, found.index), nonce: found[1] ?? '' } : { path }
}
