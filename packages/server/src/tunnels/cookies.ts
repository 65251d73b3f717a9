/**
 * Cookies between a browser and a tunnelled service (RFC 6265). Ours, which proves that its holder had the tunnel's
 * URL, never reaches a service, and no service can set it.
 */

/** The name of our cookie. On https the prefix makes browsers hold it to this very host (RFC 6265bis, section 4.1.3). */
export function visitCookieName(secure: boolean): string {
  return secure ? '__Host-cyberun-tunnel' : 'cyberun-tunnel'
}

const OURS: ReadonlySet<string> = new Set([visitCookieName(true), visitCookieName(false)])

/** `__Host-` demands Path=/, which a path door cannot give: such a cookie travels under this name there. */
const HOST_PREFIX = '__Host-'
const HOST_PREFIX_RENAMED = 'cyberun.host.'

/** Our cookies among what a request sent: name and value of each. More than one is refused by whoever reads them. */
export function visitCookies(cookie: string): { name: string; value: string }[] {
  return pairsOf(cookie).filter(({ name }) => OURS.has(name))
}

/** A Cookie value as the service is to see it; undefined when nothing is left. Its own pairs stay as they are. */
export function cookieToService(cookie: string, onPathDoor: boolean): string | undefined {
  // The common case: nothing of ours in it, so not a byte changes.
  if (!cookie.includes('cyberun')) return cookie
  const kept = pairsOf(cookie)
    .filter(({ name }) => !OURS.has(name))
    .map(({ name, text }) =>
      onPathDoor && name.startsWith(HOST_PREFIX_RENAMED) ? text.replace(HOST_PREFIX_RENAMED, HOST_PREFIX) : text,
    )
  return kept.length === 0 ? undefined : kept.join('; ')
}

/**
 * A Set-Cookie value as the visitor is to see it: without Domain, because the service's domain is not the tunnel's, and
 * with its Path below `prefix`. Undefined for one that would set our own cookie.
 */
export function setCookieToVisitor(value: string, prefix: string): string | undefined {
  const [pair = '', ...attributes] = value.split(';')
  const name = pair.slice(0, Math.max(0, pair.indexOf('='))).trim()
  if (OURS.has(name)) return undefined
  const kept = attributes.filter((each) => !/^\s*domain\s*(=|$)/i.test(each)).map((each) => prefixPath(each, prefix))
  const renamed = prefix !== '' && name.startsWith(HOST_PREFIX) ? pair.replace(HOST_PREFIX, HOST_PREFIX_RENAMED) : pair
  return [renamed, ...kept].join(';')
}

function prefixPath(attribute: string, prefix: string): string {
  if (prefix === '') return attribute
  return attribute.replace(/^(\s*path\s*=\s*)(\/.*)$/i, (_, start: string, path: string) =>
    path === prefix || path.startsWith(`${prefix}/`) ? start + path : start + prefix + path,
  )
}

function pairsOf(cookie: string): { name: string; value: string; text: string }[] {
  return cookie.split(';').map((part) => {
    const text = part.trim()
    const equals = text.indexOf('=')
    return equals < 0
      ? { name: '', value: text, text }
      : { name: text.slice(0, equals).trim(), value: text.slice(equals + 1).trim(), text }
  })
}
