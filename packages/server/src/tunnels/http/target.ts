/** Request targets as they stood on the wire: looked at, cut at one place, never decoded, resolved or joined anew. */

export interface RawTarget {
  /** `*`, or the path with its query: what origin-form has. */
  path: string
  /** Of an absolute-form target; it must agree with Host. */
  authority?: string
}

/** `http://host[:port]/path` as a request to a proxy has it (RFC 9112, section 3.2.2). */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#@]+)(\/.*)?$/i
/** In no URI (RFC 3986), and read as `/` or as an end by some services: refused rather than passed on. */
const NEVER_IN_TARGET = /[\\#]/

/** Takes a target apart, or says in a few words why it is refused. */
export function parseTarget(raw: string): RawTarget | string {
  if (raw === '*') return { path: raw }
  if (NEVER_IN_TARGET.test(raw)) return 'a backslash or a fragment in the target'
  if (raw.startsWith('/')) return climbsOut(raw) ? 'a path that climbs out of its root' : { path: raw }
  const [, authority, path = '/'] = ABSOLUTE_FORM.exec(raw) ?? []
  if (authority === undefined) return 'a target that is neither a path nor a URL'
  return climbsOut(path) ? 'a path that climbs out of its root' : { path, authority }
}

/** Whether raw `..` segments lead above the path's first slash. Encoded dots are the service's to judge. */
export function climbsOut(path: string): boolean {
  if (!path.includes('..')) return false
  const end = path.indexOf('?')
  let depth = 0
  for (const segment of (end < 0 ? path : path.slice(0, end)).split('/').slice(1)) {
    if (segment === '..') depth -= 1
    else if (segment !== '.' && segment !== '') depth += 1
    if (depth < 0) return true
  }
  return false
}

const PATH_DOOR = /^\/tunnel\/([^/?]+)(.*)$/s

/** `/tunnel/<token><rest>`: the token as sent, and the rest byte for byte, which may lack its slash. */
export function splitTunnelPath(path: string): { token: string; rest: string } | undefined {
  const [, token, rest = ''] = PATH_DOOR.exec(path) ?? []
  return token === undefined ? undefined : { token, rest }
}

/** A path below a door's prefix, which starts with a slash even if the visitor left it out. */
export function withSlash(rest: string): string {
  return rest.startsWith('/') ? rest : `/${rest}`
}

export interface HostName {
  /** Lower case; an IPv6 address keeps its brackets. */
  name: string
  /** Undefined when none was given. */
  port: number | undefined
}

const HOST = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?)(?::(\d{1,5}))?$/

/** A Host value as we take it: a name or an address and perhaps a port. No user, no path, no list, no trailing dot. */
export function parseHost(raw: string): HostName | undefined {
  const [, name, port] = HOST.exec(raw) ?? []
  if (name === undefined || Number(port ?? 0) > 65_535) return undefined
  return { name: name.toLowerCase(), port: port === undefined ? undefined : Number(port) }
}

/** A name or address of the machine that it is used on. */
export function isLoopback(name: string): boolean {
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name)
}
