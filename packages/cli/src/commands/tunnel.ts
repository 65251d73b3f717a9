import type { HostPolicy, OpenedTunnel, TunnelProfile, TunnelView } from '@cyberun/api'
import type { Client } from '@cyberun/api/client'
import { connect } from '../connect.ts'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { onInterrupt } from '../interrupt.ts'
import { allPages } from '../pages.ts'
import { table } from '../table.ts'
import { formatAge, formatBytes, formatUntil, printable, printableJson } from '../text.ts'
import type { WatchEnd } from '../tunnel/watch.ts'

export interface OpenOptions {
  tcp?: true
  profile?: TunnelProfile
  hostPolicy?: HostPolicy
  keepPath?: true
  /** Seconds. */
  idleTimeout?: number
  detach?: true
}

/** `cyberun tunnel open`. On a terminal it then stays and shows who is on the tunnel, until the person leaves it. */
export async function openTunnel(
  context: Context,
  agentId: string,
  targetPort: number,
  options: OpenOptions,
): Promise<undefined> {
  const { client, account } = await connect(context, 'key')
  const { tcp, profile, hostPolicy, keepPath, idleTimeout } = options
  const opened = await client.call('POST /agents/{agentId}/tunnel', {
    params: { agentId },
    body: {
      target_port: targetPort,
      tunnel_protocol: tcp ? 'tcp' : 'http',
      ...(profile !== undefined && { profile }),
      ...(hostPolicy !== undefined && { host_policy: hostPolicy }),
      ...(keepPath && { path_mode: 'keep' as const }),
      ...(idleTimeout !== undefined && { idle_timeout_s: idleTimeout }),
    },
  })
  if (context.json) {
    context.stdout.write(
      `${printableJson({ ...withoutAdminToken(opened), agent_id: agentId, target_port: targetPort })}\n`,
    )
    return undefined
  }
  const { announce } = await import('../tunnel/opened.ts')
  const isTerminal = context.stdout.isTTY === true && context.stdin.isTTY
  const offersTerminal = isTerminal && (await offersTerminalOf(client, agentId))
  const terminalUrl = offersTerminal ? `${account.controlUrl}/terminal` : undefined
  announce(context, { opened, agentId, terminalUrl })
  if (!isTerminal || options.detach) return undefined
  const { watchTunnel } = await import('../tunnel/watch.ts')
  const end = await watchTunnel({
    context,
    client,
    agentId,
    sessionId: opened.session_id,
    announce: (renewed) => announce(context, { opened: renewed, agentId, terminalUrl }),
    interrupted: onInterrupt(),
  })
  context.stdout.write(`${END_TEXT[end]}\n`)
  return undefined
}

const END_TEXT = {
  left: 'The tunnel stays open.',
  ended: 'The tunnel is closed.',
  gone: 'The tunnel has ended: it was closed elsewhere, or nobody used it.',
} as const satisfies Record<WatchEnd, string>

async function offersTerminalOf(client: Client, agentId: string): Promise<boolean> {
  return (await client.call('GET /agents/{agentId}', { params: { agentId } })).offers_terminal
}

/** What a script gets: the admin token is for tools that ask the API themselves. */
function withoutAdminToken({ admin_token: _, ...shown }: OpenedTunnel): Omit<OpenedTunnel, 'admin_token'> {
  return shown
}

/** `cyberun tunnel extend`. */
export async function extendTunnel(
  context: Context,
  agentId: string,
  session: string | undefined,
  options: { idleTimeout?: number },
): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const sessionId = session ?? (await onlySession(client, agentId))
  const extended = await client.call('PATCH /agents/{agentId}/tunnel/{sessionId}', {
    params: { agentId, sessionId },
    body: { extend: true, ...(options.idleTimeout !== undefined && { idle_timeout_s: options.idleTimeout }) },
  })
  printResult(context, { ...extended, agent_id: agentId }, () => {
    return `It ends ${formatUntil(extended.expires_at, context.now())} unless it is used.\n`
  })
}

/** `cyberun tunnel revoke`. */
export async function revokeTunnel(context: Context, agentId: string, session: string | undefined): Promise<undefined> {
  const { client } = await connect(context, 'key')
  const params = { agentId, sessionId: session ?? (await onlySession(client, agentId)) }
  const opened = await client.call('POST /agents/{agentId}/tunnel/{sessionId}/revoke', { params })
  if (context.json) {
    context.stdout.write(`${printableJson({ ...withoutAdminToken(opened), agent_id: agentId })}\n`)
    return undefined
  }
  const { announce } = await import('../tunnel/opened.ts')
  announce(context, { opened, agentId, terminalUrl: undefined })
  return undefined
}

/** The only tunnel to an agent, for those who name none. */
async function onlySession(client: Client, agentId: string): Promise<string> {
  const [only, ...others] = await sessionsOf(client, agentId)
  if (only && others.length === 0) return only.session_id
  if (!only) throw new CliError('not_found', 'not_found', `no tunnel to ${agentId} is open`)
  const message = `${others.length + 1} tunnels to ${agentId} are open: name one (cyberun tunnel list ${agentId})`
  throw new CliError('usage', 'ambiguous', message)
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
      tunnel.profile,
      formatAge(tunnel.opened_at, context.now()),
      formatUntil(tunnel.expires_at, context.now()),
      String(tunnel.viewer_count),
      formatBytes(tunnel.bytes_in),
      formatBytes(tunnel.bytes_out),
      tunnel.session_id,
      tunnel.tunnel_url,
    ])
    return table(
      ['AGENT', 'PORT', 'PROTOCOL', 'PROFILE', 'OPENED', 'ENDS', 'VIEWERS', 'IN', 'OUT', 'SESSION', 'URL'],
      rows,
    )
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
