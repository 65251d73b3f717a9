import type { DoorPlace } from '../http/door.ts'
import { type HostName, isLoopback, parseHost } from '../http/target.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { DoorSettings, PathPages } from './door-search.ts'

/** Where a browser that came to `place` finds an origin of the tunnel's own: the host door's, else the port door's. */
export function pageOrigin(
  { facts }: OpenTunnel,
  { scheme }: DoorPlace,
  host: HostName,
  { tunnelDomain, listenerScheme, openPorts }: Pick<DoorSettings, 'tunnelDomain' | 'listenerScheme' | 'openPorts'>,
): string | undefined {
  if (facts.protocol === 'tcp') return undefined
  if (isReachable(tunnelDomain, host)) {
    const port = host.port === undefined ? '' : `:${host.port}`
    return `${scheme}://${facts.label}.${tunnelDomain}${port}`
  }
  // Behind a proxy that takes the TLS off, nobody does that for the other ports.
  if (facts.edgePort === null || scheme !== listenerScheme || !openPorts.has(facts.edgePort)) return undefined
  return `${scheme}://${host.name}:${facts.edgePort}`
}

/** Browsers resolve `*.localhost` to the machine they run on, so it leads here only when they are on this one. */
function isReachable(tunnelDomain: string, host: HostName): boolean {
  const local = tunnelDomain === 'localhost' || tunnelDomain.endsWith('.localhost')
  return !local || isLoopback(host.name)
}

/** Where the edge is, as far as the addresses of tunnels go. */
export type EdgeAddress = Pick<DoorSettings, 'tunnelDomain' | 'listenerScheme' | 'openPorts' | 'pathPages'> & {
  /** The edge's public address without a slash at its end. */
  url: string
  /** Whether tunnels are to have port doors. */
  hasPortRange: boolean
}

/** How browsers will reach a tunnel by the edge's public address. */
export interface DoorOutlook {
  /** What to give to browsers: an origin of the tunnel's own, the token to be swapped there. */
  hostUrl: string | undefined
  /** Sentences about what cannot be helped, for whoever opens it. */
  warnings: readonly string[]
}

export function doorOutlook(tunnel: OpenTunnel, edge: EdgeAddress): DoorOutlook {
  if (tunnel.facts.protocol === 'tcp') return { hostUrl: undefined, warnings: [] }
  const { protocol, host: authority } = new URL(edge.url)
  const host = parseHost(authority)
  const scheme = protocol === 'https:' ? 'https' : 'http'
  const origin = host && pageOrigin(tunnel, { scheme, host: authority }, host, edge)
  if (origin !== undefined) return { hostUrl: `${origin}${tunnel.pathPrefix}/`, warnings: [] }
  const warnings = [PAGE_WARNINGS[edge.pathPages]]
  if (edge.hasPortRange) warnings.push(NO_PORT_WARNING)
  return { hostUrl: undefined, warnings }
}

/** Said when a tunnel's pages have no origin of their own; docs/tunnels.md says more under the same heading. */
export const PAGE_WARNINGS: Readonly<Record<PathPages, string>> = {
  sandbox:
    'Browsers have no address of its own for this tunnel, so its pages run in a sandbox: what needs cookies, storage ' +
    'or absolute paths fails there. Set edge.tunnel_domain or edge.tunnel_port_range, or use cyberun forward.',
  refuse:
    'Browsers have no address of its own for this tunnel, so its pages are not shown (edge.path_pages); scripts, ' +
    'curl and cyberun forward work.',
  open:
    'This tunnel shares its address with all others and edge.dangerously_allow_path_pages is set: a page behind any ' +
    'of them can read and do everything in this one. docs/tunnels.md lists what cannot be stopped.',
}

const NO_PORT_WARNING =
  'It has no port of its own: all ports of edge.tunnel_port_range are taken, or a proxy in front does not pass them on.'
