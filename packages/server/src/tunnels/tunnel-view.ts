import type { OpenedTunnel, TunnelView } from '@cyberun/api'
import type { OpenTunnel, TunnelFacts } from './open-tunnel.ts'
import { isLoopback } from './target.ts'

/** How an open tunnel is shown to whoever manages it. */

/** Where the edge is, as far as tunnels' addresses go. */
export interface EdgeAddress {
  /** The edge's public address without a slash at its end. */
  url: string
  /** Below it each tunnel has a host of its own. */
  tunnelDomain: string
}

/** Viewers shown of one tunnel. */
const SHOWN_VIEWERS = 100

/** Address of the path door, or of the relay of a `tcp` tunnel: `https://<edge>/tunnel/<token>/`. */
export function tunnelUrl({ protocol, token }: TunnelFacts, edge: EdgeAddress): string {
  return `${protocol === 'tcp' ? edge.url.replace(/^http/, 'ws') : edge.url}/tunnel/${token}/`
}

/** Address of the tunnel's own origin, with the token that a browser swaps there; undefined where it has none. */
export function hostUrl({ protocol, token, label }: TunnelFacts, edge: EdgeAddress): string | undefined {
  const { protocol: scheme, hostname, port } = new URL(edge.url)
  const isLocal = edge.tunnelDomain === 'localhost' || edge.tunnelDomain.endsWith('.localhost')
  if (protocol === 'tcp' || (isLocal && !isLoopback(hostname))) return undefined
  return `${scheme}//${label}.${edge.tunnelDomain}${port === '' ? '' : `:${port}`}/tunnel/${token}/`
}

/** What opening or revoking answers. The admin token is seen here only. */
export function openedView(tunnel: OpenTunnel, adminToken: string, edge: EdgeAddress, now: number): OpenedTunnel {
  const { facts } = tunnel
  const ownOrigin = hostUrl(facts, edge)
  return {
    session_id: facts.sessionId,
    tunnel_url: tunnelUrl(facts, edge),
    admin_token: adminToken,
    tunnel_protocol: facts.protocol,
    profile: facts.profile,
    ...(ownOrigin !== undefined && { host_url: ownOrigin }),
    expires_at: new Date(tunnel.expiresAt(now)).toISOString(),
    warning_list: [],
  }
}

/** One row of the list of tunnels. */
export function tunnelView(tunnel: OpenTunnel, edge: EdgeAddress, now: number): TunnelView {
  const { facts, presence } = tunnel
  const ownOrigin = hostUrl(facts, edge)
  const time = (at: number): string => new Date(at).toISOString()
  return {
    session_id: facts.sessionId,
    target_port: facts.targetPort,
    tunnel_protocol: facts.protocol,
    tunnel_url: tunnelUrl(facts, edge),
    opened_at: time(facts.openedAt),
    opened_by: facts.openedByUserId,
    task_id: facts.taskId,
    viewer_count: presence.count(now),
    bytes_in: tunnel.bytesIn,
    bytes_out: tunnel.bytesOut,
    last_activity_at: time(tunnel.activity.lastUsedAt(now)),
    profile: facts.profile,
    host_policy: facts.hostPolicy,
    path_mode: facts.pathMode,
    ...(ownOrigin !== undefined && { host_url: ownOrigin }),
    idle_timeout_s: facts.idleTimeoutMs / 1000,
    expires_at: time(tunnel.expiresAt(now)),
    is_inspected: tunnel.inspector !== undefined,
    viewer_list: presence.list(now, SHOWN_VIEWERS).map((viewer) => ({
      address: viewer.address,
      user_agent: viewer.userAgent,
      connected_at: time(viewer.connectedAt),
      last_seen_at: time(viewer.lastSeenAt),
      open_count: viewer.openCount,
    })),
  }
}
