import type { TunnelView } from '@cyberun/api'
import type { Client } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { allPages } from '../pages.ts'
import { table } from '../table.ts'
import { formatAge, formatBytes, printable } from '../text.ts'

/** `cyberun tunnel open`. */
export async function openTunnel(
  context: Context,
  agentId: string,
  targetPort: number,
  options: { tcp?: true },
): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const body = { target_port: targetPort, tunnel_protocol: options.tcp ? 'tcp' : 'http' } as const
  const { session_id, tunnel_url, tunnel_protocol } = await client.call('POST /agents/{agentId}/tunnel', {
    params: { agentId },
    body,
  })
  // The admin token is for tools that ask the API themselves; nothing here uses it, so it is not shown around.
  const opened = { session_id, tunnel_url, tunnel_protocol, agent_id: agentId, target_port: targetPort }
  printResult(context, opened, () => {
    const kind = options.tcp ? 'Each WebSocket opened there is one TCP connection' : 'Open it in a browser, or use curl'
    return (
      `${printable(tunnel_url)}\n\n${kind}. Whoever has this URL can use it until:\n` +
      `  cyberun tunnel close ${printable(agentId)} ${printable(session_id)}\n`
    )
  })
}

/** `cyberun tunnel list`. */
export async function listTunnels(context: Context, agentId: string | undefined): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const agentIds = agentId === undefined ? await agentsOfTeam(client) : [agentId]
  const tunnels: (TunnelView & { agent_id: string })[] = []
  for (const agent_id of agentIds) {
    for (const session of await sessionsOf(client, agent_id)) tunnels.push({ agent_id, ...session })
  }
  printResult(context, { session_list: tunnels }, () => {
    if (tunnels.length === 0) return 'No tunnel is open.\n'
    const rows = tunnels.map((tunnel) => [
      tunnel.agent_id,
      String(tunnel.target_port),
      tunnel.tunnel_protocol,
      formatAge(tunnel.opened_at, context.now()),
      String(tunnel.viewer_count),
      formatBytes(tunnel.bytes_in),
      formatBytes(tunnel.bytes_out),
      tunnel.session_id,
      tunnel.tunnel_url,
    ])
    return table(['AGENT', 'PORT', 'PROTOCOL', 'OPENED', 'VIEWERS', 'IN', 'OUT', 'SESSION', 'URL'], rows)
  })
}

/** `cyberun tunnel close`. Closing several at once has to be asked for. */
export async function closeTunnel(
  context: Context,
  agentId: string,
  session: string | undefined,
  options: { all?: true },
): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const params = { agentId }
  const closed = await sessionsToClose(client, agentId, session, options)
  for (const session_id of closed)
    await client.call('DELETE /agents/{agentId}/tunnel', { params, query: { session_id } })
  printResult(context, { agent_id: agentId, closed_list: closed }, () =>
    closed.length === 0
      ? `No tunnel to ${printable(agentId)} is open.\n`
      : closed.map((id) => `Closed ${printable(id)}.\n`).join(''),
  )
}

async function sessionsToClose(
  client: Client,
  agentId: string,
  session: string | undefined,
  options: { all?: true },
): Promise<string[]> {
  if (session !== undefined) {
    if (options.all) throw new CliError('usage', 'usage', 'name one session or give --all, not both')
    return [session]
  }
  const open = (await sessionsOf(client, agentId)).map(({ session_id }) => session_id)
  if (open.length <= 1 || options.all) return open
  const message = `${open.length} tunnels to ${agentId} are open: name one (cyberun tunnel list ${agentId}) or give --all`
  throw new CliError('usage', 'ambiguous', message)
}

async function sessionsOf(client: Client, agentId: string) {
  return (await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })).session_list
}

async function agentsOfTeam(client: Client): Promise<string[]> {
  return allPages(async (query) => {
    const answer = await client.call('GET /agents', { query })
    return { items: answer.agent_list.map(({ agent_id }) => agent_id), total: answer.page_meta.total_count }
  })
}
