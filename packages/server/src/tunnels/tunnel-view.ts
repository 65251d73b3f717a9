import type { OpenedTunnel, TunnelView } from '@cyberun/api'
import { doorOutlook, type EdgeAddress } from './doors/path-pages.ts'
import type { OpenTunnel, TunnelFacts } from './open-tunnel.ts'

/** How an open tunnel is shown to whoever manages it. */

/** Viewers shown of one tunnel. */
const SHOWN_VIEWERS = 100

/** Address of the path door, or of the relay of a `tcp` tunnel: `https://<edge>/tunnel/<token>/`. */
export function tunnelUrl({ protocol, token }: TunnelFacts, edge: Pick<EdgeAddress, 'url'>): string {
  return `${protocol === 'tcp' ? edge.url.replace(/^http/, 'ws') : edge.url}/tunnel/${token}/`
}

/**
 * What opening or revoking answers. The admin token is seen here only. `warnings`: what the opening has found out about
 * the service.
 */
export function openedView(
  tunnel: OpenTunnel,
  adminToken: string,
  edge: EdgeAddress,
  now: number,
  warnings: readonly string[] = [],
): OpenedTunnel {
  const { facts } = tunnel
  const { hostUrl, warnings: doorWarnings } = doorOutlook(tunnel, edge)
  return {
    session_id: facts.sessionId,
    tunnel_url: tunnelUrl(facts, edge),
    admin_token: adminToken,
    tunnel_protocol: facts.protocol,
    profile: facts.profile,
    ...(hostUrl !== undefined && { host_url: hostUrl }),
    expires_at: new Date(tunnel.expiresAt(now)).toISOString(),
    warning_list: [...warnings, ...doorWarnings],
  }
}

/** One row of the list of tunnels. */
export function tunnelView(tunnel: OpenTunnel, edge: EdgeAddress, now: number): TunnelView {
  const { facts, presence } = tunnel
  const { hostUrl } = doorOutlook(tunnel, edge)
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
    ...(hostUrl !== undefined && { host_url: hostUrl }),
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
