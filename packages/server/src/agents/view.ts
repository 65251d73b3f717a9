import type { AgentView } from '@cyberun/api'
import type { AgentHello, SystemStats } from '@cyberun/protocol'

/** What an agent said of itself, as far as clients are shown it. There are thousands: nothing is kept twice. */
export interface AgentRecord {
  readonly hello: Omit<AgentHello, 'machine' | 'system_stats'>
  readonly connectedAt: number
  readonly tasksCompleted: number
  lastHeartbeatAt: number
  systemStats: SystemStats
}

/** An agent as clients see it. Times are milliseconds since 1970. */
export function agentView(
  record: AgentRecord,
  here: { gatewayId: string; tunnelOpen: boolean; roundTripMs: number | undefined },
): AgentView {
  const { hello, systemStats } = record
  return {
    agent_id: hello.agent_id,
    agent_status: here.tunnelOpen ? 'tunnel' : 'idle',
    agent_labels: [...hello.labels],
    last_heartbeat: new Date(record.lastHeartbeatAt).toISOString(),
    agent_version: hello.agent_version,
    tool: hello.tool,
    tool_version: hello.tool_version,
    comfyui_version: systemStats.comfyui_version,
    gpu_capacity: hello.gpu_capacity,
    running_count: 0,
    running_tasks: [],
    current_task_id: null,
    platform_arch: hello.platform_arch,
    sync_phase: null,
    sync_detail: null,
    sync_percent: null,
    connected_at: new Date(record.connectedAt).toISOString(),
    tasks_completed: record.tasksCompleted,
    system_stats: { ...systemStats, gpu_devices: systemStats.gpu_devices.map((device) => ({ ...device })) },
    gateway_id: here.gatewayId,
    round_trip_ms: here.roundTripMs === undefined ? null : Math.round(here.roundTripMs * 100) / 100,
  }
}
