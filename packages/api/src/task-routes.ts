import { ANY_KEY, type RouteTable, USER_OR_DEVICE } from './route-spec.ts'
import { IdAnswer, PageQuery, SuccessAnswer } from './schemas/common.ts'
import * as files from './schemas/files.ts'
import { TASK_EVENTS } from './schemas/task-events.ts'
import * as tasks from './schemas/tasks.ts'
import * as workflows from './schemas/workflows.ts'

/** A graph of some thousand nodes, with room. */
const MAX_WORKFLOW_BYTES = 4 * 1024 * 1024
/** Long prompts and masks drawn as text. */
const MAX_RUN_BYTES = 1024 * 1024

const SUBMISSION_ERRORS = ['not_found', 'workflow_disabled', 'idempotency_mismatch', 'unavailable'] as const

/** The part of the API about workflows, their runs, and files. */
export const taskRoutes = {
  'POST /workflows/import': {
    tag: 'workflows',
    summary: 'Save a workflow. The same slug in the team overwrites it and makes the next version.',
    callers: USER_OR_DEVICE,
    role: 'member',
    body: workflows.ImportWorkflowBody,
    maxBodyBytes: MAX_WORKFLOW_BYTES,
    answer: IdAnswer,
    status: 201,
  },
  'GET /workflows': {
    tag: 'workflows',
    summary: 'The workflows of the team by their slugs, without their graphs.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    query: workflows.WorkflowQuery,
    answer: workflows.WorkflowListAnswer,
  },
  'GET /workflows/{id}': {
    tag: 'workflows',
    summary: 'One workflow as it is now.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    params: workflows.WorkflowParams,
    answer: workflows.WorkflowView,
  },
  'PUT /workflows/{id}': {
    tag: 'workflows',
    summary: 'Change a workflow: its next version. What is left out stays as it is.',
    callers: USER_OR_DEVICE,
    role: 'member',
    params: workflows.WorkflowParams,
    body: workflows.ChangeWorkflowBody,
    maxBodyBytes: MAX_WORKFLOW_BYTES,
    answer: IdAnswer,
    errors: ['conflict'],
  },
  'DELETE /workflows/{id}': {
    tag: 'workflows',
    summary: 'Delete a workflow with its snapshots. Its tasks stay, and those that wait still run.',
    callers: USER_OR_DEVICE,
    role: 'member',
    params: workflows.WorkflowParams,
  },
  'GET /workflows/{id}/snapshots': {
    tag: 'workflows',
    summary: 'The versions of a workflow, newest first.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    params: workflows.WorkflowParams,
    query: PageQuery,
    answer: workflows.SnapshotListAnswer,
  },
  'POST /workflows/{id}/snapshots/{version}/restore': {
    tag: 'workflows',
    summary: 'Make an old version the newest again, as a new version.',
    callers: USER_OR_DEVICE,
    role: 'member',
    params: workflows.SnapshotParams,
    answer: SuccessAnswer,
  },

  'GET /r/workflows': {
    tag: 'workflows',
    summary: 'The workflows of the team by their slugs, without their graphs.',
    callers: ANY_KEY,
    role: 'viewer',
    query: workflows.WorkflowQuery,
    answer: workflows.WorkflowListAnswer,
  },
  'GET /r/workflows/{id}': {
    tag: 'workflows',
    summary: 'One workflow as it is now. Integration keys do not see its graph.',
    callers: ANY_KEY,
    role: 'viewer',
    params: workflows.WorkflowParams,
    answer: workflows.WorkflowView,
  },
  'GET /r/workflows/slug/{slug}': {
    tag: 'workflows',
    summary: 'One workflow by its slug, or one version of it by `slug@version`.',
    callers: ANY_KEY,
    role: 'viewer',
    params: workflows.SlugParams,
    answer: workflows.WorkflowView,
  },
  'POST /r/workflows/{id}/run': {
    tag: 'tasks',
    summary: 'Submit a run of a workflow.',
    callers: ANY_KEY,
    role: 'member',
    params: workflows.WorkflowParams,
    headers: tasks.IdempotencyHeaders,
    body: tasks.RunBody,
    maxBodyBytes: MAX_RUN_BYTES,
    answer: tasks.RunAnswer,
    status: 202,
    errors: SUBMISSION_ERRORS,
  },
  'POST /r/workflows/slug/{slug}/run': {
    tag: 'tasks',
    summary: 'Submit a run of a workflow by its slug; `slug@version` runs that version.',
    callers: ANY_KEY,
    role: 'member',
    params: workflows.SlugParams,
    headers: tasks.IdempotencyHeaders,
    body: tasks.RunBody,
    maxBodyBytes: MAX_RUN_BYTES,
    answer: tasks.RunAnswer,
    status: 202,
    errors: SUBMISSION_ERRORS,
  },

  'GET /r/tasks': {
    tag: 'tasks',
    summary: 'The tasks of the team, newest first.',
    callers: ANY_KEY,
    role: 'viewer',
    query: tasks.TaskQuery,
    answer: tasks.TaskListAnswer,
  },
  'GET /r/tasks/{id}': {
    tag: 'tasks',
    summary: 'One task as it is now.',
    callers: ANY_KEY,
    role: 'viewer',
    params: tasks.TaskParams,
    answer: tasks.TaskView,
  },
  'GET /r/tasks/{id}/result': {
    tag: 'tasks',
    summary: 'What a task made, with URLs of its files; nulls until it is completed.',
    callers: ANY_KEY,
    role: 'viewer',
    params: tasks.TaskParams,
    answer: tasks.TaskResult,
  },
  'POST /r/tasks/{id}/cancel': {
    tag: 'tasks',
    summary: 'Cancel a task. Nothing happens to one that has ended.',
    callers: ANY_KEY,
    role: 'member',
    params: tasks.TaskParams,
    answer: SuccessAnswer,
  },
  'GET /r/tasks/{id}/events': {
    tag: 'tasks',
    summary: 'Everything that happened to a task, then what happens, until it ends.',
    callers: ANY_KEY,
    role: 'viewer',
    params: tasks.TaskParams,
    headers: tasks.EventHeaders,
    eventStream: TASK_EVENTS,
    errors: ['unavailable'],
  },
  'POST /r/files/presign': {
    tag: 'files',
    summary: 'Announce a file for a run and get a URL to upload it to.',
    callers: ANY_KEY,
    role: 'member',
    body: files.PresignBody,
    answer: files.PresignedUpload,
  },
} as const satisfies RouteTable

export type TaskRoutes = typeof taskRoutes
