import { z } from 'zod'
import { AgentParams } from './agents.ts'
import { Id, Time } from './common.ts'

/** Tunnels. */

const TunnelProtocol = z.enum(['http', 'tcp'])
export type TunnelProtocol = z.output<typeof TunnelProtocol>

/** Kinds of services, by how they want to be spoken to. */
export const TUNNEL_PROFILES = ['comfyui', 'jupyter', 'gradio', 'code-server', 'vite', 'generic'] as const
export const TunnelProfile = z.enum(TUNNEL_PROFILES)
export type TunnelProfile = z.output<typeof TunnelProfile>

/** Whether Host, Origin and Referer name the service's own address (`rewrite`) or the visitor's (`preserve`). */
export const HostPolicy = z.enum(['rewrite', 'preserve'])
export type HostPolicy = z.output<typeof HostPolicy>

/** Whether the service is asked for paths without the tunnel's prefix (`strip`) or with it (`keep`). */
export const PathMode = z.enum(['strip', 'keep'])
export type PathMode = z.output<typeof PathMode>

const IdleTimeout = z.int().min(60).max(86_400)

export const OpenTunnelBody = z.object({
  target_port: z.int().min(1).max(65535).default(8188),
  tunnel_protocol: TunnelProtocol.default('http'),
  profile: TunnelProfile.optional().describe('What kind of service it is. Absent: found out by asking it.'),
  host_policy: HostPolicy.optional().describe("Absent: the profile's."),
  path_mode: PathMode.default('strip').describe('keep: the service was started with the prefix as its base path.'),
  idle_timeout_s: IdleTimeout.default(1800).describe('Seconds without use after which the tunnel ends.'),
})
export type OpenTunnelBody = z.output<typeof OpenTunnelBody>

export const OpenedTunnel = z
  .object({
    session_id: Id,
    tunnel_url: z.url().describe('Holds the access token; may be shared.'),
    admin_token: z.string().describe('A second secret for privileged use; shown here and never again.'),
    tunnel_protocol: TunnelProtocol,
    profile: TunnelProfile,
    host_url: z.url().optional().describe('For browsers: an origin of its own. Holds the access token, as tunnel_url.'),
    expires_at: Time.describe('When it ends unless it is used.'),
    warning_list: z.array(z.string()).describe('What whoever shares the tunnel should know.'),
  })
  .meta({ id: 'OpenedTunnel' })
export type OpenedTunnel = z.output<typeof OpenedTunnel>

export const TunnelViewer = z
  .object({
    address: z.string(),
    user_agent: z.string().describe('As the visitor sent it, at most 200 characters; empty when it sent none.'),
    connected_at: Time,
    last_seen_at: Time,
    open_count: z.int().nonnegative().describe('Requests and connections under way.'),
  })
  .meta({ id: 'TunnelViewer' })

export const TunnelView = z
  .object({
    session_id: Id,
    target_port: z.int(),
    tunnel_protocol: TunnelProtocol,
    tunnel_url: z.url(),
    opened_at: Time,
    opened_by: Id.describe('The user who opened it.'),
    task_id: Id.nullable(),
    viewer_count: z.int().nonnegative(),
    bytes_in: z.int().nonnegative(),
    bytes_out: z.int().nonnegative(),
    last_activity_at: Time.describe('When it was last used, as far as use keeps it open.'),
    profile: TunnelProfile,
    host_policy: HostPolicy,
    path_mode: PathMode,
    host_url: z.url().optional(),
    idle_timeout_s: z.int(),
    expires_at: Time.describe('When it ends unless it is used.'),
    is_inspected: z.boolean(),
    viewer_list: z
      .array(TunnelViewer)
      .describe('Who is on it or was within the last minute, newest first; at most 100.'),
  })
  .meta({ id: 'Tunnel' })
export type TunnelView = z.output<typeof TunnelView>

export const TunnelListAnswer = z
  .object({
    is_active: z.boolean(),
    session_id: z.string().describe('Of the newest session; empty when there is none, as is tunnel_url.'),
    tunnel_url: z.string(),
    session_list: z.array(TunnelView),
  })
  .meta({ id: 'TunnelList' })
export type TunnelListAnswer = z.output<typeof TunnelListAnswer>

export const CloseTunnelQuery = z.object({ session_id: Id.optional() })

export const TunnelParams = AgentParams.extend({ sessionId: Id })

export const ExtendTunnelBody = z
  .object({
    idle_timeout_s: IdleTimeout.optional(),
    extend: z.literal(true).optional().describe('The time without use starts anew.'),
  })
  .refine((body) => body.idle_timeout_s !== undefined || body.extend, {
    error: 'Give idle_timeout_s, extend, or both.',
  })
export type ExtendTunnelBody = z.output<typeof ExtendTunnelBody>

export const ExtendedTunnel = z
  .object({ id: Id.describe('Of the session.'), idle_timeout_s: z.int(), expires_at: Time })
  .meta({ id: 'ExtendedTunnel' })
export type ExtendedTunnel = z.output<typeof ExtendedTunnel>
