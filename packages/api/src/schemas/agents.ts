import { z } from 'zod'
import { Id, PageMeta, Time } from './common.ts'

/** Agents as clients see them. */

/** A readable name, unique in the team; by default the machine's host name. */
const AgentId = z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/)
export const AgentParams = z.object({ agentId: AgentId })

const AGENT_STATUSES = ['idle', 'busy', 'syncing', 'tunnel', 'unhealthy'] as const

const SystemStats = z.object({
  comfyui_version: z.string().nullable(),
  pytorch_version: z.string().nullable(),
  os_type: z.string(),
  gpu_devices: z.array(
    z.object({
      device_name: z.string(),
      device_type: z.string(),
      vram_total: z.number().nonnegative().describe('Bytes.'),
      vram_free: z.number().nonnegative().describe('Bytes.'),
    }),
  ),
})

export const AgentView = z
  .object({
    agent_id: AgentId,
    agent_status: z.enum(AGENT_STATUSES),
    agent_labels: z.array(z.string()),
    last_heartbeat: Time,
    agent_version: z.string(),
    tool: z.string().nullable(),
    tool_version: z.string().nullable(),
    comfyui_version: z.string().nullable(),
    gpu_capacity: z.int().nonnegative().describe('Slots: how many tasks it runs at once.'),
    running_count: z.int().nonnegative(),
    running_tasks: z.array(Id),
    current_task_id: Id.nullable(),
    platform_arch: z.string().describe('linux/amd64.'),
    sync_phase: z.string().nullable(),
    sync_detail: z.string().nullable(),
    sync_percent: z.number().min(0).max(100).nullable(),
    connected_at: Time,
    tasks_completed: z.int().nonnegative(),
    system_stats: SystemStats.nullable().describe("Null until the agent's first heartbeat brought them."),
    gateway_id: z.string(),
    offers_terminal: z.boolean().describe('Its owner lets the team open shells on it: docs/terminal.md.'),
    round_trip_ms: z
      .number()
      .nonnegative()
      .nullable()
      .describe("Smoothed, of the link's pings; null before the first answer and while the link is lost."),
  })
  .meta({ id: 'Agent' })
export type AgentView = z.output<typeof AgentView>

export const AgentListAnswer = z.object({ agent_list: z.array(AgentView), page_meta: PageMeta })
