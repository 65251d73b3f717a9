import { z } from 'zod'
import { Id, Time } from './common.ts'

/** Tunnels. */

const TunnelProtocol = z.enum(['http', 'tcp'])
export type TunnelProtocol = z.output<typeof TunnelProtocol>

export const OpenTunnelBody = z.object({
  target_port: z.int().min(1).max(65535).default(8188),
  tunnel_protocol: TunnelProtocol.default('http'),
})
export type OpenTunnelBody = z.output<typeof OpenTunnelBody>

export const OpenedTunnel = z
  .object({
    session_id: Id,
    tunnel_url: z.url().describe('Holds the access token; may be shared.'),
    admin_token: z.string().describe('A second secret for privileged use; shown here and never again.'),
    tunnel_protocol: TunnelProtocol,
  })
  .meta({ id: 'OpenedTunnel' })
export type OpenedTunnel = z.output<typeof OpenedTunnel>

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
    last_activity_at: Time,
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
