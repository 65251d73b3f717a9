import { z } from 'zod'
import { Id, oneLine, PageMeta, PageQuery, Time } from './common.ts'
import { ToolType } from './workflows.ts'

/** Tasks: one submitted run each, and what can be read of it. */

/** Terminal states are the last three; nothing moves past them. */
export const TASK_STATUSES = ['pending', 'waiting', 'queued', 'running', 'completed', 'failed', 'cancelled'] as const
export const TaskStatus = z.enum(TASK_STATUSES)
export type TaskStatus = z.output<typeof TaskStatus>
export const TERMINAL_STATUSES: readonly TaskStatus[] = ['completed', 'failed', 'cancelled']

/** Text kept for the caller and shown again; nothing here acts on it. */
const Hint = oneLine(100).nullish()

export const RunBody = z.object({
  parameters: z.record(z.string().max(200), z.unknown()).default({}),
  dispatch_target: Hint,
  target_pool: Hint,
  submitter_region: Hint,
  tool_type: ToolType.optional().describe("When given, it must be the workflow's."),
  priority: z.int().min(-10).max(10).default(0).describe('Higher goes first.'),
})
export type RunBody = z.output<typeof RunBody>
export const RunAnswer = z.object({ task_id: Id }).meta({ id: 'SubmittedTask' })

/** Kept for 24 hours: the same key gives the same answer, with another body a conflict. */
export const IdempotencyHeaders = z.object({
  'idempotency-key': z
    .string()
    .min(1)
    .max(255)
    .regex(/^[\x20-\x7e]+$/, 'must be printable ASCII')
    .optional()
    .describe('Makes a repeated submission safe for 24 hours.'),
})

export const TaskParams = z.object({ id: Id })
export const TaskQuery = PageQuery.extend({
  status: TaskStatus.optional(),
  workflow_id: Id.optional(),
  agent_id: z.string().max(64).optional(),
})
export type TaskQuery = z.output<typeof TaskQuery>

export const TaskView = z
  .object({
    id: Id,
    workflow_id: Id.nullable().describe('Null once the workflow is deleted.'),
    workflow_slug: z.string(),
    workflow_version: z.int(),
    task_status: TaskStatus,
    created_at: Time,
    started_at: Time.nullable(),
    completed_at: Time.nullable().describe('When it reached a terminal state.'),
    task_error: z.string().nullable(),
    retry_count: z.int().nonnegative(),
    agent_id: z.string().nullable(),
    agent_labels: z.array(z.string()),
    gateway_id: z.string().nullable(),
    gpu_type: z.string().nullable(),
    dispatch_target: z.string().nullable(),
    target_pool: z.string().nullable(),
    tool_type: ToolType,
    creation_source: z.enum(['jwt', 'api_key']),
    priority: z.int(),
    progress: z.number().min(0).max(1).nullable().describe('Of the attempt that runs now.'),
    queue_position: z.int().positive().nullable().describe('1 is next; null unless it waits.'),
    waiting_reason: z.string().nullable().describe('In words, what is missing for it to run.'),
    tunnel_url: z.url().nullable(),
  })
  .meta({ id: 'Task' })
export type TaskView = z.output<typeof TaskView>
export const TaskListAnswer = z.object({ task_list: z.array(TaskView), page_meta: PageMeta })

export const TaskResult = z
  .object({
    id: Id,
    task_status: TaskStatus,
    task_output: z.unknown().describe('What the tool made, by its own structure; null until completed.'),
    download_url: z.url().nullable().describe('Of the first file, when there is one.'),
    download_urls: z.record(z.string(), z.url()).nullable().describe('Of every file, by its key.'),
    expires_at: Time.nullable().describe('When the URLs stop working; ask again for new ones.'),
    task_error: z.string().nullable(),
    completed_at: Time.nullable(),
  })
  .meta({ id: 'TaskResult' })
export type TaskResult = z.output<typeof TaskResult>

export const EventHeaders = z.object({
  'last-event-id': z
    .string()
    .regex(/^[0-9]{1,15}$/, 'is not the id of an event')
    .transform(Number)
    .optional()
    .describe('The last event already had: the stream goes on after it.'),
})
