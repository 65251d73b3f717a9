import { type AgentSettings, parseAgentConfig, runAgent } from '@cyberun/agent'
import { createLog } from '@cyberun/link/log'
import { answerParent } from '../child.ts'
import { openSockets, settledBytes } from './resources.ts'

interface AgentOrder {
  gatewayUrl: string
  agentKey: string
  agentId: string
  stateDir: string
  logLevel: 'debug' | 'info' | 'warn'
  /** What it runs tasks with, and whether it offers shells. */
  tools?: Pick<AgentSettings, 'slots' | 'demo' | 'commands' | 'comfyui' | 'terminal'>
}

/** A real agent in its own process. */
export interface AgentVerbs {
  start(order: AgentOrder): void
  /** As `start`, and resolves when the agent has stopped by itself: evicted, say, or refused. */
  runToEnd(order: AgentOrder): Promise<void>
  settledBytes(nothing: null): Promise<number>
  openSockets(nothing: null): number
}

async function run({ gatewayUrl, agentKey, agentId, stateDir, logLevel, tools }: AgentOrder): Promise<void> {
  const names = { gateway_url: gatewayUrl, agent_key: agentKey, agent_id: agentId, state_dir: stateDir }
  const settings: AgentSettings = { ...names, ...tools }
  const log = createLog({ level: logLevel, format: 'json' })
  await runAgent(parseAgentConfig(settings, {}), { log, signal: new AbortController().signal }).then(
    (exit) => log.error({ exit }, 'agent.exited'),
    (error: unknown) => log.error({ error }, 'agent.failed'),
  )
}

answerParent<AgentVerbs>({
  start(order) {
    void run(order)
  },
  runToEnd: run,
  settledBytes,
  openSockets,
})
