import { parseAgentConfig, runAgent } from '@cyberun/agent'
import { createLog } from '@cyberun/link/log'
import { answerParent } from '../child.ts'
import { openSockets, settledBytes } from './resources.ts'

interface AgentOrder {
  gatewayUrl: string
  agentKey: string
  agentId: string
  stateDir: string
  logLevel: 'debug' | 'warn'
}

/** A real agent in its own process. */
export interface AgentVerbs {
  start(order: AgentOrder): void
  settledBytes(nothing: null): Promise<number>
  openSockets(nothing: null): number
}

answerParent<AgentVerbs>({
  start({ gatewayUrl, agentKey, agentId, stateDir, logLevel }) {
    const settings = { gateway_url: gatewayUrl, agent_key: agentKey, agent_id: agentId, state_dir: stateDir }
    const log = createLog({ level: logLevel, format: 'json' })
    const stop = new AbortController()
    runAgent(parseAgentConfig(settings, {}), { log, signal: stop.signal }).then(
      (exit) => log.error({ exit }, 'agent.exited'),
      (error: unknown) => log.error({ error }, 'agent.failed'),
    )
  },
  settledBytes,
  openSockets,
})
