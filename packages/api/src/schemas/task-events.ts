import { z } from 'zod'
import { Id, Time } from './common.ts'
import { TaskStatus } from './tasks.ts'

/**
 * What an event stream carries, by the name of the event. `status`, `log`, `artifact` and the three terminal ones are
 * stored and have an id, their number in the task; the others are live.
 */
export const TASK_EVENTS = {
  status: z.object({
    task_id: Id,
    status: TaskStatus,
    timestamp: Time,
    message: z.string().optional().describe('Why, where that is worth saying: what went wrong with an attempt.'),
  }),
  progress: z.object({
    task_id: Id,
    progress: z.number().min(0).max(1),
    current_node: z.string().optional(),
    step_current: z.number().optional(),
    step_total: z.number().optional(),
    stage: z.string().optional(),
    message: z.string().optional(),
    timestamp: Time,
  }),
  log: z.object({ task_id: Id, stream: z.enum(['stdout', 'stderr']), line: z.string(), timestamp: Time }),
  preview: z.object({ task_id: Id, content_type: z.string(), data: z.string().describe('Base64.') }),
  artifact: z.object({
    task_id: Id,
    key: z.string(),
    file_name: z.string(),
    content_type: z.string(),
    size: z.int().nonnegative().describe('Bytes.'),
    download_url: z.url(),
  }),
  gap: z.object({ from: z.int(), to: z.int() }).describe('Events past retention: their first and last number.'),
  completed: z.object({ task_id: Id, status: z.literal('completed'), output: z.unknown() }),
  failed: z.object({ task_id: Id, status: z.literal('failed'), error: z.string() }),
  cancelled: z.object({ task_id: Id, status: z.literal('cancelled') }),
} as const

export type TaskEventName = keyof typeof TASK_EVENTS
export type TaskEventData<N extends TaskEventName> = z.output<(typeof TASK_EVENTS)[N]>
/** One event with what it says. */
export type TaskEvent = { [N in TaskEventName]: { event: N; data: TaskEventData<N> } }[TaskEventName]
