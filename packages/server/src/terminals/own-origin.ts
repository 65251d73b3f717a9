/**
 * Whether a WebSocket with this `Origin` comes from our own page, or from no page at all: programs send none. `host` is the
 * request's `Host`, which has been found to be one of ours; every other origin is refused, `null` too (RFC 6455, section 10.2).
 * `publicUrl`: where clients reach this listener when its operator has said so.
 */
export function isOwnOrigin(
  origin: string | undefined,
  host: string | undefined,
  publicUrl: string | undefined,
): boolean {
  if (origin === undefined) return true
  const here = URL.parse(`http://${host}`)
  if (!here) return false
  const named = publicUrl === undefined ? undefined : new URL(publicUrl)
  return origin === (named?.hostname === here.hostname ? named.origin : here.origin)
}
