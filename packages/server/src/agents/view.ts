import type { AgentView } from '@cyberun/api'
import type { AgentHello, SystemStats, ToolHealthReport } from '@cyberun/protocol'
import type { Inventory } from './inventory.ts'

/** What an agent said of itself, as far as clients are shown it. There are thousands: nothing is kept twice. */
export interface AgentRecord {
  readonly hello: Omit<AgentHello, 'machine' | 'system_stats'>
  readonly connectedAt: number
  tasksCompleted: number
  lastHeartbeatAt: number
  systemStats: SystemStats
  /** What it takes tasks for, and how that does. */
  tools: readonly ToolHealthReport[]
  /** How many more tasks it would take, as of its last heartbeat; undefined when it does not say. */
  freeSlots: number | undefined
  /** Undefined: it never said what it has. */
  inventory: Inventory | undefined
}

/** What this server knows of an agent besides what that says of itself. */
export interface AgentHere {
  gatewayId: string
  tunnelOpen: boolean
  /** It does not do what it was given, whatever its tools say. */
  stalled: boolean
  /** Ids of the tasks it has. */
  tasks: readonly string[]
  roundTripMs: number | undefined
}

/** An agent as clients see it. Times are milliseconds since 1970. */
export function agentView(record: AgentRecord, here: AgentHere): AgentView {
  const { hello, systemStats } = record
  return {
    agent_id: hello.agent_id,
    agent_status: statusOf(record, here),
    agent_labels: [...hello.labels],
    last_heartbeat: new Date(record.lastHeartbeatAt).toISOString(),
    agent_version: hello.agent_version,
    tool: hello.tool,
    tool_version: hello.tool_version,
    comfyui_version: systemStats.comfyui_version,
    gpu_capacity: hello.gpu_capacity,
    running_count: here.tasks.length,
    running_tasks: [...here.tasks],
    current_task_id: here.tasks[0] ?? null,
    platform_arch: hello.platform_arch,
    sync_phase: null,
    sync_detail: null,
    sync_percent: null,
    connected_at: new Date(record.connectedAt).toISOString(),
    tasks_completed: record.tasksCompleted,
    system_stats: { ...systemStats, gpu_devices: systemStats.gpu_devices.map((device) => ({ ...device })) },
    gateway_id: here.gatewayId,
    offers_terminal: hello.terminal,
    round_trip_ms: here.roundTripMs === undefined ? null : Math.round(here.roundTripMs * 100) / 100,
  }
}

/** Whether none of its tools works. An agent without tools is not unhealthy: it is there for tunnels. */
export function isUnhealthy(record: Pick<AgentRecord, 'tools'>): boolean {
  return record.tools.some(({ state }) => state === 'unhealthy') && !record.tools.some(({ state }) => state === 'ready')
}

function statusOf(record: AgentRecord, here: AgentHere): AgentView['agent_status'] {
  if (here.tunnelOpen) return 'tunnel'
  if (here.stalled || isUnhealthy(record)) return 'unhealthy'
  return here.tasks.length > 0 && here.tasks.length >= record.hello.gpu_capacity ? 'busy' : 'idle'
}
