import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { OpenTunnelBody } from '@cyberun/api'
import { type Client, createClient } from '@cyberun/api/client'
import { until } from './until.ts'

/** What `cyberun up` leaves for scripts, as far as tests use it. */
interface Quickstart {
  control_url: string
  edge_url: string
  agent_id: string
  integration_key: string
}

/** Cyberun as a newcomer has it: `cyberun up` in a directory of its own, on ports that the system chose. */
export interface Installation extends AsyncDisposable {
  readonly agentId: string
  readonly controlUrl: string
  /** Calls the API with the integration key that it left. */
  readonly client: Client
  readonly edgePort: number
  /** The words and the environment of a `cyberun` command that works with this installation. */
  readonly command: { readonly words: readonly string[]; readonly env: Readonly<Record<string, string>> }
  /** Opens one, as a user would with no more than a port; `wishes` say more. */
  openTunnel(targetPort: number, protocol: 'http' | 'tcp', wishes?: TunnelWishes): Promise<OpenedWay>
  closeTunnel(sessionId: string): Promise<void>
  /** How many tunnels are open. */
  countTunnels(): Promise<number>
  /** Runs `cyberun forward` to a port of the agent; resolves when its local port is open. */
  forward(targetPort: number): Promise<{ port: number; stop(): Promise<void> }>
}

/** How a tunnel's service is to be spoken to; what is left out is found out by asking it. */
export type TunnelWishes = Partial<Pick<OpenTunnelBody, 'profile' | 'host_policy' | 'path_mode'>>

/** A tunnel, as the API tells of it once it is open. */
export interface OpenedWay {
  sessionId: string
  tunnelUrl: string
  /** Of the tunnel's own origin, where it has one. */
  hostUrl: string | undefined
  /** What its service was taken for. */
  profile: string
}

const CYBERUN = fileURLToPath(new URL('../../cli/bin/cyberun.mjs', import.meta.url))
const START_MS = 30_000
/** A program that has not ended this long after it was asked to is ended. */
const STOP_MS = 10_000

/** Starts it below `directory`, with further settings by their names in the environment; waits until its agent is listed. */
export async function startInstallation(
  directory: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<Installation> {
  const words = [process.execPath, CYBERUN]
  const env = {
    CYBERUN_DATA_DIR: join(directory, 'data'),
    CYBERUN_CONFIG_DIR: join(directory, 'config'),
    CYBERUN_CONTROL_PORT: '0',
    CYBERUN_EDGE_PORT: '0',
    CYBERUN_METRICS_PORT: '0',
    // Read and clicked away by one test; all others are about what comes after it.
    CYBERUN_EDGE_VISITOR_NOTICE: 'false',
    ...settings,
  }
  const run = (args: readonly string[]) =>
    spawn(process.execPath, [CYBERUN, ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })

  const up = run(['up'])
  const output = collect(up)
  let stopping = false
  up.on('exit', (code, signal) => {
    if (!stopping) console.error(`cyberun up ended by itself (${signal ?? code}):\n${output()}`)
  })
  const patience = { what: () => `cyberun up is ready:\n${output()}`, withinMs: START_MS }
  const quickstart = await until(async () => {
    if (up.exitCode !== null) throw new Error(`cyberun up ended with ${up.exitCode}:\n${output()}`)
    return readIfThere(join(directory, 'data', 'quickstart.json'))
  }, patience)
  const client = createClient({ baseUrl: quickstart.control_url, token: quickstart.integration_key })
  const agentId = quickstart.agent_id
  await until(() => listed(client, agentId), patience)

  return {
    agentId,
    client,
    controlUrl: quickstart.control_url,
    edgePort: Number(new URL(quickstart.edge_url).port),
    command: { words, env },
    async openTunnel(targetPort, protocol, wishes = {}) {
      const body = { target_port: targetPort, tunnel_protocol: protocol, ...wishes }
      const opened = await client.call('POST /agents/{agentId}/tunnel', { params: { agentId }, body })
      const { session_id, tunnel_url, host_url, profile } = opened
      return { sessionId: session_id, tunnelUrl: tunnel_url, hostUrl: host_url, profile }
    },
    async closeTunnel(sessionId) {
      const query = { session_id: sessionId }
      await client.call('DELETE /agents/{agentId}/tunnel', { params: { agentId }, query })
    },
    async countTunnels() {
      return (await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })).session_list.length
    },
    async forward(targetPort) {
      const child = run(['forward', agentId, String(targetPort), '--local', '0', '--json'])
      return { port: await localPort(child), stop: () => stopChild(child) }
    },
    [Symbol.asyncDispose]() {
      stopping = true
      return stopChild(up)
    },
  }
}

/** The port that `cyberun forward --json` says it listens on. */
async function localPort(child: ChildProcess): Promise<number> {
  const output = collect(child)
  if (!child.stdout) throw new Error('cyberun forward has no output')
  for await (const line of createInterface({ input: child.stdout })) {
    const { local_port } = JSON.parse(line) as { local_port?: number }
    if (local_port !== undefined) return local_port
  }
  throw new Error(`cyberun forward ended:\n${output()}`)
}

/** Everything a child printed so far, for an error message. */
function collect(child: ChildProcess): () => string {
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (bytes: Buffer) => {
      text = (text + bytes.toString()).slice(-10_000)
    })
  }
  return () => text
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGINT')
  const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await exited
  clearTimeout(deadline)
}

async function listed(client: Client, agentId: string): Promise<true | undefined> {
  const { agent_list } = await client.call('GET /agents', {})
  return agent_list.some((agent) => agent.agent_id === agentId) || undefined
}

function readIfThere(path: string): Quickstart | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Quickstart
  } catch {
    return undefined // Not written yet.
  }
}
