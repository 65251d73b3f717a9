import type { Greeting } from '@cyberun/link'
import {
  type AgentHello,
  CAPABILITIES,
  type CloseReason,
  FieldError,
  type Hello,
  parseAgentHello,
} from '@cyberun/protocol'
import { claimAgent } from '../store/agents.ts'
import type { Store } from '../store/store.ts'
import type { AgentCaller } from './admission.ts'
import { agentIdTaken, CLOSING } from './closing.ts'
import { machineProven } from './machine-proof.ts'
import type { AgentConnection } from './types.ts'
import type { AgentRecord } from './view.ts'

/** An agent that may take its place once its link is made. */
export type Seat = Omit<AgentConnection, 'link' | 'isDraining' | 'dialledAt'>

/** A hello that is no agent's: of a link that only measures (`cyberun doctor`). */
export function isProbe(hello: Hello): boolean {
  return hello.fields['role'] === 'probe'
}

/** What this server says of itself to whoever dialled. */
export function welcomeFrom(gatewayId: string): Greeting {
  return { software: 'cyberun-server', fields: { gateway_id: gatewayId } }
}

/** Checks an agent's hello and takes its id for it in the store; or says why not. */
export async function seatAgent(
  caller: AgentCaller,
  hello: Hello,
  challenge: string,
  here: {
    store: Store
    gatewayId: string
    now(): number
    resumeWindowMs: number
    /** The machine that is listed here under an agent's id. */
    machineOf(teamId: string, agentId: string): string | undefined
  },
): Promise<Seat | CloseReason> {
  let agent: AgentHello
  try {
    agent = parseAgentHello(hello.fields)
  } catch (error) {
    if (!(error instanceof FieldError)) throw error
    return { code: 'refused', message: `the agent's hello is not valid: ${error.message}` }
  }
  if (!machineProven(agent, challenge)) return CLOSING.notProven

  const { teamId, credentialId } = caller
  const machineKey = agent.machine.public_key
  const at = here.now()
  const claim = await claimAgent(
    here.store,
    {
      teamId,
      agentId: agent.agent_id,
      machineKey,
      gatewayId: here.gatewayId,
      credentialId,
      agentVersion: agent.agent_version,
      at,
    },
    () => [undefined, machineKey].includes(here.machineOf(teamId, agent.agent_id)),
  )
  if (claim.kind === 'taken') return agentIdTaken(agent.agent_id, here.resumeWindowMs)
  const { machine: _, system_stats: systemStats, ...said } = agent
  const takesTasks = hello.capabilities.includes(CAPABILITIES.tasks)
  const record: AgentRecord = {
    hello: { ...said, terminal: said.terminal && hello.capabilities.includes(CAPABILITIES.terminal) },
    connectedAt: at,
    tasksCompleted: claim.tasksCompleted,
    lastHeartbeatAt: at,
    systemStats,
    tools: takesTasks ? said.tools.map((tool) => ({ ...tool, state: 'ready' })) : [],
    freeSlots: undefined,
    inventory: undefined,
  }
  return { teamId, credentialId, machineKey, generation: claim.generation, record }
}
