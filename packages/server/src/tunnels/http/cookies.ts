import type { Door } from './door.ts'

/**
 * Cookies between a browser and a tunnelled service (RFC 6265). Ours, which prove that their holder had the tunnel's
 * URL, never reach a service, and no service can set them. Where tunnels share a host name, cookies know neither ports
 * nor, for certain, paths (RFC 6265, section 8.5): there each tunnel's cookies travel under names of its own.
 */

/** What names of ours start with, behind a prefix that browsers give a meaning. */
const OURS = /^(?:__host-|__secure-)?cyberun-/i

/** What names of the services' cookies start with at doors that share a host name; a tunnel's own part follows. */
const RENAMED = /^cyberun\./i

/**
 * The name of our cookie at a door. On https the prefix makes browsers hold it to this very host (RFC 6265bis, section
 * 4.1.3).
 */
export function visitCookieName(door: Pick<Door, 'origin' | 'cookiePrefix'>): string {
  const own = door.cookiePrefix === '' ? 'cyberun-tunnel' : `cyberun-tunnel-${door.cookiePrefix.slice(8, -1)}`
  return door.origin.startsWith('https:') ? `__Host-${own}` : own
}

/** The values of cookies called `name` in a Cookie field. More than one is refused by whoever reads them. */
export function cookieValues(cookie: string, name: string): string[] {
  // Most requests have none of ours.
  if (!cookie.includes(name)) return []
  return pairsOf(cookie).flatMap((pair) => (pair.name === name ? [pair.value] : []))
}

/**
 * A Cookie value as the service is to see it; undefined when nothing is left. Its own pairs stay as they are. At a door
 * that shares its host name a browser also sends what other tunnels and other programs on that host have set, which is
 * none of this service's business; a client that is no browser means what it sends.
 */
export function cookieToService(cookie: string, door: Door, fromBrowser: boolean): string | undefined {
  // The common case: nothing of ours in it, so not a byte changes.
  if (!cookie.includes('cyberun') && !(fromBrowser && door.cookiePrefix !== '')) return cookie
  const pairs = pairsOf(cookie).filter(({ name, text }) => !OURS.test(name) && !OURS.test(text))
  const kept =
    door.cookiePrefix === '' ? pairs.map(({ text }) => text) : ownPairs(pairs, door.cookiePrefix, fromBrowser)
  return kept.length === 0 ? undefined : kept.join('; ')
}

/** The pairs of one tunnel under the names that its service gave, and those that no tunnel has set if they are meant. */
function ownPairs(pairs: readonly Pair[], prefix: string, fromBrowser: boolean): string[] {
  const own = new Set(pairs.flatMap(({ name }) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : [])))
  return pairs.flatMap(({ name, text }) => {
    if (name.startsWith(prefix)) return [unprefixed(text.slice(prefix.length))]
    return RENAMED.test(name) || fromBrowser || own.has(name) ? [] : [text]
  })
}

/** One that had no name is sent without its `=`. */
function unprefixed(text: string): string {
  return text.startsWith('=') ? text.slice(1) : text
}

/**
 * A Set-Cookie value as the visitor is to see it: without Domain, because the service's domain is not the tunnel's; at
 * the path door with its Path below the prefix; under the tunnel's own name where the host name is shared. There one that
 * scripts may read comes a second time under its plain name, for them alone: pages repeat such cookies in a field of
 * their own (`_xsrf`, `csrftoken`). None for one that would set a cookie of ours, also by having no name and a value that
 * reads like one when it is sent.
 */
export function setCookieToVisitor(value: string, door: Door): string[] {
  const [pair = '', ...attributes] = value.split(';')
  const equals = pair.indexOf('=')
  const name = pair.slice(0, Math.max(0, equals)).trim()
  const rest = pair.slice(equals + 1).trim()
  if (OURS.test(name) || (name === '' && OURS.test(rest))) return []
  const pathPrefix = door.kind === 'path' ? door.prefix : ''
  const kept = attributes
    .filter((each) => !/^\s*domain\s*(=|$)/i.test(each))
    .map((each) => prefixPath(each, pathPrefix))
  const plain = [pair, ...kept].join(';')
  if (door.cookiePrefix === '') return [plain]
  const own = [`${door.cookiePrefix}${name}=${rest}`, ...kept].join(';')
  const isForScripts = name !== '' && !RENAMED.test(name) && !kept.some((each) => /^\s*httponly\s*(=|$)/i.test(each))
  return isForScripts ? [own, plain] : [own]
}

function prefixPath(attribute: string, prefix: string): string {
  if (prefix === '') return attribute
  return attribute.replace(/^(\s*path\s*=\s*)(\/.*)$/i, (_, start: string, path: string) =>
    path === prefix || path.startsWith(`${prefix}/`) ? start + path : start + prefix + path,
  )
}

interface Pair {
  name: string
  value: string
  /** As it was sent. */
  text: string
}

function pairsOf(cookie: string): Pair[] {
  return cookie.split(';').map((part) => {
    const text = part.trim()
    const equals = text.indexOf('=')
    return equals < 0
      ? { name: '', value: text, text }
      : { name: text.slice(0, equals).trim(), value: text.slice(equals + 1).trim(), text }
  })
}
