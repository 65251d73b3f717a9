import { mkdtemp, rm } from 'node:fs/promises'
import { createServer as createHttpServer, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type AgentExit,
  type AgentState,
  agentHello,
  type MachineKey,
  parseAgentConfig,
  runAgent,
} from '@cyberun/agent'
import { dialLink, type Greeting, type Link, PumpSocket, type StreamHandler, tryAdoption } from '@cyberun/link'
import { createLog, type Log } from '@cyberun/link/log'
import { onTestFinished } from 'vitest'
import { createAgents } from '../../../server/src/agents/agents.ts'
import type { AgentsLimits } from '../../../server/src/agents/limits.ts'
import type { Agents } from '../../../server/src/agents/types.ts'
import { type Bus, createLocalBus } from '../../../server/src/bus.ts'
import { createIdentity } from '../../../server/src/identity/create-identity.ts'
import type { Actor, Identity } from '../../../server/src/identity/identity.ts'
import { openServerSecret } from '../../../server/src/store/server-secret.ts'
import { openStore, type Store } from '../../../server/src/store/store.ts'

/** The part of a server that agents meet, on a real store, with a team that may make keys. */
export interface AgentsWorld {
  readonly agents: Agents
  readonly identity: Identity
  readonly store: Store
  readonly bus: Bus
  readonly owner: Actor
  /** Where agents dial. */
  readonly gatewayUrl: string
  readonly port: number
  /** Lines of the server's log. */
  readonly lines: string[]
  newKey(): Promise<{ rawKey: string; id: string }>
  /** Closes the port, until `listen`; links stay. */
  deafen(): Promise<void>
  listen(): Promise<void>
}

export interface RunningAgent {
  readonly exit: Promise<AgentExit>
  readonly lines: string[]
  readonly states: AgentState[]
  stop(): Promise<AgentExit>
  /** Moves the agent's clock ahead. */
  later(ms: number): void
}

/** What the agents' part of a server is built with, where a test wants to differ. */
export interface WorldOptions {
  limits?: Partial<AgentsLimits>
  tls?: { cert: string; key: string }
  host?: string
  /** An empty PostgreSQL database, in the place of a file. */
  databaseUrl?: string
  /** The clock, in milliseconds since 1970, that accepts and lines are counted by. */
  now?: () => number
}

export function logInto(lines: string[]): Log {
  return createLog({ level: 'debug', format: 'json', write: (line) => void lines.push(line) })
}

/** Ends with the test that started it. */
export async function agentsWorld(options: WorldOptions = {}): Promise<AgentsWorld> {
  const dir = await temporaryDirectory()
  const lines: string[] = []
  const log = logInto(lines)
  const store = await openStore({ dataDir: dir, databaseUrl: options.databaseUrl, log })
  const bus = createLocalBus()
  const { now = Date.now } = options
  const secret = openServerSecret(join(dir, 'secret.key'))
  const identity = await createIdentity({ store, bus, log, now, secret, issuer: 'http://control.test' })
  const first = await identity.bootstrap('owner@example.org')
  if (!first) throw new Error('the store is not empty')
  const owner: Actor = { userId: first.userId, teamId: first.teamId, role: 'owner' }
  const agents = createAgents({
    identity,
    store,
    bus,
    log,
    now,
    random: () => 0.5,
    addressOf: (request) => request.socket.remoteAddress ?? '',
    gatewayId: 'gw-test',
    ...(options.limits && { limits: options.limits }),
  })

  const host = options.host ?? '127.0.0.1'
  let port = 0
  let server: Server | undefined

  async function listen(): Promise<void> {
    const listening = options.tls ? createHttpsServer(options.tls) : createHttpServer()
    server = listening
    listening.on('upgrade', (request, socket, head) => {
      agents.handleUpgrade(request, PumpSocket.from(socket as Socket, head))
    })
    await tryAdoption()
    await new Promise<void>((resolve, reject) => {
      listening.once('error', reject)
      listening.listen(port, host, resolve)
    })
    port = (listening.address() as AddressInfo).port
  }

  async function deafen(): Promise<void> {
    const closing = server
    server = undefined
    if (closing) await new Promise((resolve) => closing.close(resolve))
  }

  await listen()
  onTestFinished(async () => {
    await agents.stop(AbortSignal.abort())
    await deafen()
    identity.stop()
    await store.close()
  })
  const scheme = options.tls ? 'wss' : 'ws'
  return {
    agents,
    identity,
    store,
    bus,
    owner,
    gatewayUrl: `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    lines,
    newKey: () => identity.createCredential(owner, { kind: 'agent', displayName: 'test' }),
    deafen,
    listen,
  }
}

/** An agent as `cyberun agent` runs it. Settings are those of its file. */
export async function startAgent(
  world: Pick<AgentsWorld, 'gatewayUrl'>,
  settings: { agent_key: string; agent_id?: string; [setting: string]: unknown },
  options: { file?: string; nvidiaSmi?: string } = {},
): Promise<RunningAgent> {
  const dir = await temporaryDirectory()
  const lines: string[] = []
  const states: AgentState[] = []
  const stop = new AbortController()
  let ahead = 0
  const all = { gateway_url: world.gatewayUrl, agent_id: 'studio-7', state_dir: join(dir, 'state'), ...settings }
  const config = parseAgentConfig(all, {}, options.file)
  const exit = runAgent(config, {
    log: logInto(lines),
    signal: stop.signal,
    now: () => performance.now() + ahead,
    random: () => 0.1,
    nvidiaSmi: options.nvidiaSmi ?? join(dir, 'no-nvidia-smi'),
    onState: (state) => void states.push(state),
  })
  // Whoever waits for it is told; nobody may be waiting yet.
  exit.catch(() => {})
  const agent: RunningAgent = {
    exit,
    lines,
    states,
    later(ms) {
      ahead += ms
    },
    stop() {
      stop.abort()
      return exit
    },
  }
  onTestFinished(() =>
    agent.stop().then(
      () => {},
      () => {},
    ),
  )
  return agent
}

/** A bare link with an agent's hello, for what a well-behaved agent would not do. Closed with the test. */
export async function dialAs(
  world: Pick<AgentsWorld, 'gatewayUrl'>,
  key: string,
  hello: (challenge: string) => Greeting,
  onStream: StreamHandler = (stream) => void stream.reset('unsupported'),
): Promise<Link> {
  const link = await dialLink({
    url: new URL('/agent', world.gatewayUrl),
    headers: { authorization: `Bearer ${key}` },
    hello,
    onStream,
  })
  onTestFinished(() => link.close({ code: 'done', message: 'the test is over' }))
  return link
}

export const STATS = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }

/** The hello of an honest agent. */
export function helloOf(machine: MachineKey, agentId = 'studio-7'): (challenge: string) => Greeting {
  return (challenge) => agentHello(machine, { agentId, labels: ['test'], systemStats: STATS }, challenge)
}

export async function temporaryDirectory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'cyberun-agents-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}
