import { type TaskStatus, type TaskView, TERMINAL_STATUSES } from '@cyberun/api'
import { unreachable } from '@cyberun/protocol'
import type { RecordedEvent } from '../store/task-events.ts'
import type { TaskRecord } from '../store/tasks.ts'

/** Tasks in the words of the API. */

export function isTerminalStatus(status: TaskStatus): boolean {
  return TERMINAL_STATUSES.includes(status)
}

/** Why and how long a task waits. */
export interface Waiting {
  /** Undefined when it was claimed while it was looked at. */
  queuePosition: number | undefined
  reason: string
}

export function taskView(task: TaskRecord, waiting: Waiting | undefined, tunnelUrl: string | undefined): TaskView {
  return {
    id: task.id,
    workflow_id: task.hasWorkflow ? task.workflowId : null,
    workflow_slug: task.workflowSlug,
    workflow_version: task.workflowVersion,
    task_status: task.status,
    created_at: time(task.createdAt),
    started_at: timeOrNull(task.startedAt),
    completed_at: timeOrNull(task.completedAt),
    task_error: task.error,
    retry_count: task.retryCount,
    agent_id: task.agentId,
    agent_labels: task.agentLabels,
    gateway_id: task.gatewayId,
    gpu_type: task.gpuType,
    dispatch_target: task.dispatchTarget,
    target_pool: task.targetPool,
    tool_type: task.toolType,
    creation_source: task.creationSource,
    priority: task.priority,
    progress: progressOf(task),
    queue_position: waiting?.queuePosition ?? null,
    waiting_reason: waiting?.reason ?? null,
    tunnel_url: tunnelUrl ?? null,
  }
}

function progressOf({ status, progress }: TaskRecord): number | null {
  switch (status) {
    case 'completed':
      return 1
    case 'running':
      return progress?.progress ?? null
    case 'pending':
    case 'waiting':
    case 'queued':
    case 'failed':
    case 'cancelled':
      return null
    default:
      return unreachable(status)
  }
}

/** The event that ended a task, told by the task itself; undefined while it has not ended. */
export function lastEventOf(task: TaskRecord): RecordedEvent | undefined {
  const { status, eventCount: number, completedAt, output, error } = task
  const at = completedAt ?? task.createdAt
  switch (status) {
    case 'completed':
      return { number, at, event: { kind: 'completed', output: output ?? {} } }
    case 'failed':
      return { number, at, event: { kind: 'failed', error: error ?? '' } }
    case 'cancelled':
      return { number, at, event: { kind: 'cancelled' } }
    case 'pending':
    case 'waiting':
    case 'queued':
    case 'running':
      return undefined
    default:
      return unreachable(status)
  }
}

export const time = (ms: number): string => new Date(ms).toISOString()
export const timeOrNull = (ms: number | null): string | null => (ms === null ? null : time(ms))
