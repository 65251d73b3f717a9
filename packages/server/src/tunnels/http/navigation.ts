import { type Fields, firstOf } from './fields.ts'
import type { CheckedRequest } from './request-checks.ts'

/** Browsers say what they are; nothing depends on it that a client would gain by saying otherwise. */
export function isBrowser(fields: Fields): boolean {
  // Not Sec-Fetch-Mode, which libraries send, too.
  if (firstOf(fields, 'sec-fetch-site') !== undefined) return true
  return firstOf(fields, 'user-agent')?.startsWith('Mozilla/') ?? false
}

/**
 * Whether a browser is about to show the answer as a page, in a tab or a frame (Fetch Metadata Request Headers, W3C,
 * section 2.2). It says so only where nobody can listen; elsewhere, what it accepts tells.
 */
export function isNavigation({ method, upgrade, fields }: CheckedRequest): boolean {
  if (upgrade !== 'none' || (method !== 'GET' && method !== 'HEAD')) return false
  const mode = firstOf(fields, 'sec-fetch-mode')
  if (mode !== undefined) return mode === 'navigate'
  return (firstOf(fields, 'accept')?.includes('text/html') ?? false) && isBrowser(fields)
}
