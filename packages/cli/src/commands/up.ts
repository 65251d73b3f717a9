import { hostname } from 'node:os'
import { join, relative } from 'node:path'
import { defaultAgentId } from '@cyberun/agent'
import { createClient } from '@cyberun/api/client'
import { type Config, dataPath, type RunningServer } from '@cyberun/server'
import { type Context, printNote, printResult } from '../context.ts'
import { aborted, onInterrupt } from '../interrupt.ts'
import { writePrivate } from '../private-file.ts'
import { agentKeyPath, type Quickstart, quickstartPath, readQuickstart, writeQuickstart } from '../quickstart.ts'
import { type Announcement, plainBanner, terminalBanner, tryNext } from '../up/banner.ts'
import { type LocalAgent, startLocalAgent } from '../up/local-agent.ts'
import { docsUrl, logOptions, type ServerOptions, serverConfig, start } from './server.ts'

/** A newcomer who stops it waits for nobody's transfers. */
const STOP_MS = 3_000
/** How long the banner waits for the agent; it says "connecting" when that takes longer. */
const AGENT_MS = 3_000

/** `cyberun up`: a server and an agent on this machine, until it is stopped. */
export async function up(context: Context, options: ServerOptions): Promise<undefined> {
  const signal = onInterrupt()
  const config = serverConfig(context, options, quietly(context, options))
  const server = await start(context, config)
  try {
    await runAgentBeside(context, config, server, signal)
  } finally {
    await server.stop(AbortSignal.timeout(STOP_MS))
  }
}

async function runAgentBeside(
  context: Context,
  config: Config,
  server: RunningServer,
  signal: AbortSignal,
): Promise<void> {
  const quickstart = await prepare(context, dataPath(config, ''), server)
  const agent = quickstart && startAgent(context, config, server, quickstart)
  try {
    const status = agent && quickstart && (await agentStatus(agent, quickstart, signal))
    if (!signal.aborted)
      announce(context, config, server, quickstart && { ...quickstart, agent_status: status ?? 'unknown' })
    await aborted(signal)
  } finally {
    await agent?.stop()
  }
}

function announce(
  context: Context,
  config: Config,
  server: RunningServer,
  quickstart: (Quickstart & { agent_status: string }) | undefined,
): void {
  const { firstUser } = server
  const dir = dataPath(config, '')
  const about: Announcement = {
    control_url: server.controlUrl,
    docs_url: docsUrl(server),
    edge_url: server.edgeUrl,
    ...(firstUser && { first_user: { email_address: firstUser.emailAddress, user_password: firstUser.userPassword } }),
    agent: quickstart ? { agent_id: quickstart.agent_id, agent_status: quickstart.agent_status } : null,
    try_next: tryNext(quickstart?.agent_id),
    data_dir: shortPath(context.cwd, dir),
  }
  printResult(context, about, () => (context.stdout.isTTY ? terminalBanner(about) : plainBanner(about)))
}

/** At a first look the log is noise around what matters; whoever sets a level gets it. */
function quietly(context: Context, options: ServerOptions): Context['env'] {
  const isConfigured = options.config !== undefined || context.env['CYBERUN_CONFIG'] !== undefined
  return isConfigured ? context.env : { CYBERUN_LOGGER_LEVEL: 'warn', ...context.env }
}

/**
 * What scripts and other commands in this folder need, written at the first start and kept right afterwards. Undefined
 * when it is gone: the server keeps no secret it could be made of again.
 */
async function prepare(context: Context, dir: string, server: RunningServer): Promise<Quickstart | undefined> {
  const path = quickstartPath(dir)
  const existing =
    server.firstUser === undefined ? await readQuickstart(path) : await firstStart(dir, server, server.firstUser)
  if (existing === undefined) {
    printNote(
      context,
      `${path} is gone, so no agent runs here: sign in with "cyberun login" and start one with "cyberun agent".`,
    )
    return undefined
  }
  const quickstart = { ...existing, control_url: server.controlUrl, edge_url: server.edgeUrl }
  await writeQuickstart(path, quickstart)
  return quickstart
}

type FirstUser = NonNullable<RunningServer['firstUser']>

/** Makes the keys of a fresh server's first user: one for scripts, one for the agent of this machine. */
async function firstStart(
  dir: string,
  { controlUrl, edgeUrl, identity }: RunningServer,
  user: FirstUser,
): Promise<Quickstart> {
  const actor = { userId: user.userId, teamId: user.teamId, role: 'owner' } as const
  const agentKey = await identity.createCredential(actor, { kind: 'agent', displayName: 'agent of cyberun up' })
  const integrationKey = await identity.createCredential(actor, { kind: 'integration', displayName: 'quickstart.json' })
  await writePrivate(agentKeyPath(dir), `${agentKey.rawKey}\n`)
  return {
    control_url: controlUrl,
    edge_url: edgeUrl,
    email_address: user.emailAddress,
    user_password: user.userPassword,
    team_id: user.teamId,
    agent_id: defaultAgentId(hostname()),
    integration_key: integrationKey.rawKey,
  }
}

function startAgent(context: Context, config: Config, server: RunningServer, quickstart: Quickstart): LocalAgent {
  const dir = dataPath(config, '')
  return startLocalAgent(
    {
      settings: {
        gateway_url: localEdgeUrl(config, server),
        agent_key_file: agentKeyPath(dir),
        agent_id: quickstart.agent_id,
        state_dir: join(dir, 'agent'),
        proxy: 'none',
      },
      log: logOptions(context, config),
      refusedPorts: [
        portOf(config.control, server.controlUrl),
        portOf(config.edge, server.edgeUrl),
        portOf(config.metrics, server.metricsUrl),
      ],
    },
    (message) => printNote(context, `The agent of this machine has stopped: ${message}`),
  )
}

/** Where the agent dials: past names and proxies that lead here from outside, unless the certificate needs the name. */
function localEdgeUrl({ edge }: Config, { edgeUrl }: RunningServer): string {
  if (edge.tls_cert_file !== undefined) return edgeUrl
  const isAny = edge.host === '0.0.0.0' || edge.host === '::'
  const host = isAny ? '127.0.0.1' : edge.host.includes(':') ? `[${edge.host}]` : edge.host
  return `ws://${host}:${portOf(edge, edgeUrl)}`
}

/** The port listened on: the URL's may be that of a proxy in front, the setting's may be 0 for a free one. */
function portOf(setting: { port: number }, url: string): number {
  return setting.port || Number(new URL(url).port)
}

async function agentStatus(agent: LocalAgent, quickstart: Quickstart, signal: AbortSignal): Promise<string> {
  const state = await agent.settled(AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS)]))
  if (state !== 'linked') return state
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS)])
  const client = createClient({ baseUrl: quickstart.control_url, token: quickstart.integration_key })
  const params = { agentId: quickstart.agent_id }
  return client.call('GET /agents/{agentId}', { params }, deadline).then(
    (view) => view.agent_status,
    () => state, // the key may have been revoked since; the agent is there all the same
  )
}

/** Relative when it is below here, as a person would type it. */
function shortPath(from: string, path: string): string {
  const short = relative(from, path)
  return short === '' || short.startsWith('..') ? path : short
}
