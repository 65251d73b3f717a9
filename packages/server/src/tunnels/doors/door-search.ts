import type { Door, DoorPlace } from '../http/door.ts'
import type { OpenTunnel } from '../open-tunnel.ts'

/** What the search for a request's tunnel takes and gives. */

/** The open tunnels, by what a request can name them with. */
export interface TunnelIndex {
  byToken(token: string): OpenTunnel | undefined
  byLabel(label: string): OpenTunnel | undefined
  /** The tunnel whose port door has this port. */
  byEdgePort(port: number): OpenTunnel | undefined
}

/** A request that may go to a tunnel: which, through which door, and what path its service is asked for. */
export interface Routed {
  tunnel: OpenTunnel
  door: Door
  path: string
}

/** What the doors depend on beside the request. */
export interface DoorSettings {
  /** Below it every tunnel has a host of its own; `localhost` needs no DNS but works only on the same machine. */
  tunnelDomain: string
  /** The edge's own host name, beside loopback names and the address a connection came to. */
  publicHost: string
  pathPages: PathPages
  /** What the listeners speak, whatever a proxy in front does. */
  listenerScheme: 'http' | 'https'
  /** The ports that port doors listen on now. */
  openPorts: { has(port: number): boolean }
}

/** How the visitor reached us. */
export interface Arrival extends DoorPlace {
  /** The IP address that the connection came to. */
  localAddress: string
  /** The port door's port, when the connection came to one. */
  edgePort: number | undefined
}

/**
 * What browsers get at the path door when no other door reaches them: pages in a sandbox, none at all, or pages that
 * can do to other tunnels' pages whatever a page can do to its own origin.
 */
export type PathPages = 'sandbox' | 'refuse' | 'open'
