import type { Greeting } from '@cyberun/link'
import { AGENT_LIMITS, type AgentHello, type AttemptName, type OfferedTool, type SystemStats } from '@cyberun/protocol'
import type { MachineKey } from './machine-key.ts'
import { AGENT_SOFTWARE, AGENT_VERSION } from './version.ts'

/** Who an agent is, apart from its proof: what every link of it repeats. */
export interface AgentFacts {
  agentId: string
  /** Of its machine and its owner. */
  labels: readonly string[]
  /** Of its tools: they are left out first where there are too many; none when absent. */
  toolLabels?: readonly string[]
  systemStats: SystemStats
  /** What it takes tasks for, the one it is listed with first; none when absent. */
  tools?: readonly OfferedTool[]
  /** How many tasks at once; 1 when absent. */
  slots?: number
  /** The attempts it still has; none when absent. */
  runningTasks?: readonly AttemptName[]
  /** Its owner lets the team open shells on it; not when absent. */
  terminal?: boolean
}

/** An agent's hello for one link: `challenge` came with the server's 101 answer. */
export function agentHello(machine: MachineKey, facts: AgentFacts, challenge: string): Greeting {
  const { toolLabels = [], tools = [], slots = 1, runningTasks = [], terminal = false } = facts
  const fields: AgentHello = {
    agent_id: facts.agentId,
    agent_version: AGENT_VERSION,
    labels: [...new Set([...facts.labels, ...toolLabels])].slice(0, AGENT_LIMITS.labels),
    platform_arch: platformArch(process.platform, process.arch),
    tool: tools[0]?.type ?? null,
    tool_version: tools[0]?.version ?? null,
    gpu_capacity: slots,
    system_stats: facts.systemStats,
    tools: tools.slice(0, AGENT_LIMITS.tools),
    running_tasks: runningTasks.slice(0, AGENT_LIMITS.runningTasks),
    terminal,
    machine: machine.prove(challenge, facts.agentId),
  }
  return { software: AGENT_SOFTWARE, fields: { ...fields } }
}

/** `linux/amd64`, as container images name platforms. */
export function platformArch(platform: string, arch: string): string {
  const names: Record<string, string> = { x64: 'amd64', ia32: '386', win32: 'windows' }
  return `${names[platform] ?? platform}/${names[arch] ?? arch}`
}
