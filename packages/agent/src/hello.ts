import type { Greeting } from '@cyberun/link'
import { AGENT_LIMITS, type AgentHello, type SystemStats } from '@cyberun/protocol'
import type { MachineKey } from './machine-key.ts'
import { AGENT_SOFTWARE, AGENT_VERSION } from './version.ts'

/** Who an agent is, apart from its proof: what every link of it repeats. */
export interface AgentFacts {
  agentId: string
  labels: readonly string[]
  systemStats: SystemStats
}

/** An agent's hello for one link: `challenge` came with the server's 101 answer. */
export function agentHello(machine: MachineKey, facts: AgentFacts, challenge: string): Greeting {
  const fields: AgentHello = {
    agent_id: facts.agentId,
    agent_version: AGENT_VERSION,
    labels: facts.labels.slice(0, AGENT_LIMITS.labels),
    platform_arch: platformArch(process.platform, process.arch),
    tool: null,
    tool_version: null,
    gpu_capacity: 1,
    system_stats: facts.systemStats,
    tools: [],
    running_tasks: [],
    machine: machine.prove(challenge, facts.agentId),
  }
  return { software: AGENT_SOFTWARE, fields: { ...fields } }
}

/** `linux/amd64`, as container images name platforms. */
export function platformArch(platform: string, arch: string): string {
  const names: Record<string, string> = { x64: 'amd64', ia32: '386', win32: 'windows' }
  return `${names[platform] ?? platform}/${names[arch] ?? arch}`
}
