import type { HostPolicy, PathMode } from '@cyberun/api'

/** A tunnel as its visitors see it through one door, and as its service is to see itself. */
export interface Door {
  /**
   * `host`: the tunnel has a host name of its own. `port`: it has a port of its own, so an origin, but shares its host
   * name and with it cookies. `path`: it lives below `/tunnel/<token>` on the edge's origin.
   */
  kind: 'host' | 'port' | 'path'
  /** What a visitor's path starts with before the service's own: empty, or `/tunnel/<token>` without a slash. */
  prefix: string
  /** The visitor's Host: name and perhaps port. */
  host: string
  /** `https://<host>[:port]`, as the visitor's browser names where it is. */
  origin: string
  pages: PagePolicy
  hostPolicy: HostPolicy
  /** `keep`: the service was started with the prefix as its base path, so it is asked for paths with it. */
  pathMode: PathMode
  /** What names of the service's cookies start with in a browser; empty where no other tunnel has the same host name. */
  cookiePrefix: string
  /** A cookie of ours, as Set-Cookie has it, that goes to the visitor with the service's answer. */
  setCookie?: string
}

/**
 * What becomes of pages on this door. `own`: its origin is the tunnel's alone. `elsewhere`: browsers are sent to another
 * door; what still comes is no page. `sandbox`: they share their origin with other tunnels, so they run in a sandbox and
 * are `Origin: null`. `open`: they share it, and the operator let them.
 */
export type PagePolicy = 'own' | 'elsewhere' | 'sandbox' | 'open'

/** What a door has to know of its tunnel. */
export interface DoorTunnel {
  readonly facts: { readonly label: string; readonly hostPolicy: HostPolicy; readonly pathMode: PathMode }
  /** `/tunnel/<token>` */
  readonly pathPrefix: string
}

/** Where a visitor's request came to. */
export interface DoorPlace {
  readonly scheme: 'http' | 'https'
  /** Host as sent, lower case. */
  readonly host: string
}

export function hostDoor(tunnel: DoorTunnel, place: DoorPlace): Door {
  return { kind: 'host', ...ownOrigin(tunnel, place), cookiePrefix: '' }
}

export function portDoor(tunnel: DoorTunnel, place: DoorPlace): Door {
  return { kind: 'port', ...ownOrigin(tunnel, place), cookiePrefix: cookiePrefixOf(tunnel) }
}

export function pathDoor(tunnel: DoorTunnel, place: DoorPlace, pages: Exclude<PagePolicy, 'own'>): Door {
  const { pathPrefix: prefix, facts } = tunnel
  const { hostPolicy, pathMode } = facts
  const cookiePrefix = cookiePrefixOf(tunnel)
  return { kind: 'path', prefix, ...whereOf(place), pages, hostPolicy, pathMode, cookiePrefix }
}

function ownOrigin({ pathPrefix, facts }: DoorTunnel, place: DoorPlace) {
  const { hostPolicy, pathMode } = facts
  // A service with a base path is below it on every door.
  const prefix = pathMode === 'keep' ? pathPrefix : ''
  return { prefix, ...whereOf(place), pages: 'own' as const, hostPolicy, pathMode }
}

function whereOf({ scheme, host }: DoorPlace) {
  return { host, origin: `${scheme}://${host}` }
}

function cookiePrefixOf({ facts }: DoorTunnel): string {
  return `cyberun.${facts.label}.`
}

/** An address of the service, as requests name it. */
export interface LocalTarget {
  /** `localhost:8188`, or `localhost` for port 80: what a browser beside the service would send as Host. */
  host: string
  /** `http://localhost:8188` */
  origin: string
  /** Every way the service may name itself in absolute URLs. */
  origins: readonly string[]
}

/** `localhost` rather than an address: the agent dials 127.0.0.1 or ::1, and services that check Host know the name. */
export function localTarget(port: number): LocalTarget {
  const suffix = port === 80 ? '' : `:${port}`
  const names = ['localhost', '127.0.0.1', '[::1]']
  return {
    host: `localhost${suffix}`,
    origin: `http://localhost${suffix}`,
    origins: names.flatMap((name) => [`http://${name}${suffix}`, `//${name}${suffix}`]),
  }
}

/**
 * The address by which the service is told it is asked: its local one, or with `preserve` the visitor's. Such a service
 * may name itself by http where the visitor uses https, as it sees no TLS.
 */
export function targetAs(door: Door, local: LocalTarget): LocalTarget {
  if (door.hostPolicy === 'rewrite') return local
  const { host, origin } = door
  return { host, origin, origins: [...local.origins, `http://${host}`, `//${host}`] }
}
