import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, createClient } from '@cyberun/api/client'
import type { Child } from './child.ts'
import type { AgentVerbs } from './processes/agent.ts'
import type { ServerVerbs, StartedServer } from './processes/server.ts'
import { startAgentProcess, startServerProcess } from './processes.ts'
import { until } from './until.ts'

/** A server and an agent, each in its own process, as they run in production. */
export interface Product extends AsyncDisposable {
  readonly server: Child<ServerVerbs>
  readonly agent: Child<AgentVerbs>
  readonly edgePort: number
  /** Where agents dial. */
  readonly gatewayUrl: string
  /** An `ak-` key of the team. */
  readonly agentKey: string
  readonly agentId: string
  readonly control: StartedServer['control']
  /** What each process wrote to its standard output and error. */
  readonly logs: { server: string; agent: string }
  readonly dataDir: string
  /** Opens a session to a port of this machine; returns the path of its URL, `/tunnel/<token>/`. */
  openTunnel(targetPort: number, protocol: 'http' | 'tcp'): Promise<string>
}

export interface ProductOptions {
  /** `warn` unless a test reads the logs. */
  logLevel?: 'debug' | 'warn'
  /** Whether the agent's owner lets shells be opened. */
  terminal?: true
  /** Gets the edge's port and answers the port that the agent is to dial instead. */
  dialThrough?: (edgePort: number) => Promise<number>
}

const AGENT_ID = 'product-agent'

/** Starts both below `directory` and waits until the agent is listed. */
export async function startProduct(directory: string, options: ProductOptions = {}): Promise<Product> {
  await using stack = new AsyncDisposableStack()
  mkdirSync(directory, { recursive: true })
  const logs = { server: join(directory, 'server.log'), agent: join(directory, 'agent.log') }
  const dataDir = join(directory, 'server')
  const logLevel = options.logLevel ?? 'warn'
  const server = stack.use(startServerProcess(logs.server))
  const agent = stack.use(startAgentProcess(logs.agent))
  const { edgePort, control } = await server.call('start', { dataDir, logLevel })
  const client = await signIn(control)

  const key = await client.call('POST /credentials', { body: { kind: 'agent', display_name: 'product' } })
  const dialPort = (await options.dialThrough?.(edgePort)) ?? edgePort
  const gatewayUrl = `ws://127.0.0.1:${dialPort}`
  const stateDir = join(directory, 'agent')
  const tools = options.terminal && { terminal: options.terminal }
  const order = { gatewayUrl, agentKey: key.raw_key, agentId: AGENT_ID, stateDir, logLevel, ...(tools && { tools }) }
  await agent.call('start', order)
  const isListed = async () =>
    (await client.call('GET /agents', {})).agent_list.some((each) => each.agent_id === AGENT_ID)
  await until(isListed, { what: 'the agent is listed after its start' })

  const running = stack.move()
  return {
    server,
    agent,
    edgePort,
    gatewayUrl: `${gatewayUrl}/agent`,
    agentKey: key.raw_key,
    agentId: AGENT_ID,
    control,
    logs,
    dataDir,
    async openTunnel(targetPort, protocol) {
      const opened = await client.call('POST /agents/{agentId}/tunnel', {
        params: { agentId: AGENT_ID },
        body: { target_port: targetPort, tunnel_protocol: protocol },
      })
      return new URL(opened.tunnel_url).pathname
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

async function signIn({ controlUrl, emailAddress, userPassword, teamId }: StartedServer['control']): Promise<Client> {
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', {
    body: { email_address: emailAddress, user_password: userPassword },
  })
  return createClient({ baseUrl: controlUrl, token: access_token, teamId })
}
