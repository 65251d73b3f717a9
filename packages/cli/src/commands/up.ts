import { relative } from 'node:path'
import { createClient } from '@cyberun/api/client'
import { type Config, dataPath, type RunningServer } from '@cyberun/server'
import { type Context, printNote, printResult } from '../context.ts'
import { aborted, onInterrupt } from '../interrupt.ts'
import type { Quickstart } from '../quickstart.ts'
import { agentJob } from '../up/agent-job.ts'
import { type Announcement, plainBanner, terminalBanner, tryNext } from '../up/banner.ts'
import { type LocalAgent, startLocalAgent } from '../up/local-agent.ts'
import { keepFirstUser, type Prepared, prepareQuickstart } from '../up/prepare.ts'
import { docsUrl, logOptions, type ServerOptions, serverConfig, start } from './server.ts'

/** A newcomer who stops it waits for nobody's transfers. */
const STOP_MS = 3_000
/** How long the banner waits for the agent; it says "connecting" when that takes longer. */
const AGENT_MS = 3_000

/** `cyberun up`: a server and an agent on this machine, until it is stopped. */
export async function up(context: Context, options: ServerOptions): Promise<undefined> {
  const signal = onInterrupt()
  const config = serverConfig(context, options, quietly(context, options))
  const dir = dataPath(config, '')
  const server = await start(context, config, { keepFirstUser: keepFirstUser(dir) })
  try {
    const prepared = await prepareQuickstart(context, dir, server)
    if (prepared) await runWithAgent(context, config, server, prepared, signal)
    else {
      announce(context, config, server, { agent: null })
      await aborted(signal)
    }
  } finally {
    await server.stop(AbortSignal.timeout(STOP_MS))
  }
}

async function runWithAgent(
  context: Context,
  config: Config,
  server: RunningServer,
  { quickstart, firstUser }: Prepared,
  signal: AbortSignal,
): Promise<void> {
  const terminal = context.env['CYBERUN_AGENT_TERMINAL']
  const job = agentJob(config, server, quickstart, logOptions(context, config), terminal)
  const agent = startLocalAgent(job, (message) =>
    printNote(context, `The agent of this machine has stopped: ${message}`),
  )
  try {
    const { agent_id } = quickstart
    const agent_status = await statusOf(agent, quickstart, signal)
    if (!signal.aborted) announce(context, config, server, { agent: { agent_id, agent_status }, firstUser })
    await aborted(signal)
  } finally {
    await agent.stop()
  }
}

/** The agent's status as the API has it, once it is linked. */
async function statusOf(agent: LocalAgent, quickstart: Quickstart, signal: AbortSignal): Promise<string> {
  const state = await agent.settled(AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS)]))
  if (state !== 'linked') return state
  const client = createClient({ baseUrl: quickstart.control_url, token: quickstart.integration_key })
  const params = { agentId: quickstart.agent_id }
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS)])
  return client.call('GET /agents/{agentId}', { params }, deadline).then(
    (view) => view.agent_status,
    () => state, // the key may have been revoked since; the agent is there all the same
  )
}

function announce(
  context: Context,
  config: Config,
  server: RunningServer,
  { agent, firstUser }: Pick<Announcement, 'agent'> & Partial<Pick<Prepared, 'firstUser'>>,
): void {
  const about: Announcement = {
    control_url: server.controlUrl,
    docs_url: docsUrl(server),
    edge_url: server.edgeUrl,
    ...(firstUser && { first_user: { email_address: firstUser.emailAddress, user_password: firstUser.userPassword } }),
    agent,
    try_next: tryNext(agent?.agent_id),
    data_dir: shortPath(context.cwd, dataPath(config, '')),
  }
  printResult(context, about, () => (context.stdout.isTTY ? terminalBanner(about) : plainBanner(about)))
}

/** At a first look the log is noise around what matters; whoever sets a level gets it. */
function quietly(context: Context, options: ServerOptions): Context['env'] {
  const isConfigured = options.config !== undefined || context.env['CYBERUN_CONFIG'] !== undefined
  return isConfigured ? context.env : { CYBERUN_LOGGER_LEVEL: 'warn', ...context.env }
}

/** Relative when it is below here, as a person would type it. */
function shortPath(from: string, path: string): string {
  const short = relative(from, path)
  return short === '' || short.startsWith('..') ? path : short
}
