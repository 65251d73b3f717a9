import type { RouteInput, TaskRoutes } from '@cyberun/api'
import type { Files } from '../files/types.ts'
import type { Actor, Caller } from '../identity/identity.ts'
import type { Submitter } from '../tasks/submission.ts'
import type { Tasks } from '../tasks/tasks.ts'
import type { Workflows } from '../workflows/workflows.ts'
import type { HandlersOf } from './call.ts'

/** What the routes of `taskRoutes` call. */
export interface TaskHandlerParts {
  workflows: Workflows
  tasks: Tasks
  files: Pick<Files, 'presignInput' | 'handleRequest'>
}

const SUCCESS = { is_success: true } as const

/** Workflows, their runs, and files: one handler for each row. */
export function createTaskHandlers({ workflows, tasks, files }: TaskHandlerParts): HandlersOf<keyof TaskRoutes> {
  const listWorkflows = ({ actor, query }: { actor: Actor; query: RouteInput<'GET /workflows'>['query'] }) =>
    workflows.list(actor.teamId, query)
  return {
    'POST /workflows/import': ({ actor, body }) => workflows.import(actor, body),
    'GET /workflows': listWorkflows,
    'GET /workflows/{id}': ({ actor, params }) => workflows.get(actor.teamId, params.id),
    'PUT /workflows/{id}': async ({ actor, params, body }) => {
      await workflows.change(actor, params.id, body)
      return { id: params.id }
    },
    'DELETE /workflows/{id}': async ({ actor, params }) => {
      await workflows.delete(actor.teamId, params.id)
      return undefined
    },
    'GET /workflows/{id}/snapshots': ({ actor, params, query }) => workflows.snapshots(actor.teamId, params.id, query),
    'POST /workflows/{id}/snapshots/{version}/restore': async ({ actor, params }) => {
      await workflows.restore(actor, params.id, params.version)
      return SUCCESS
    },

    'GET /r/workflows': listWorkflows,
    'GET /r/workflows/{id}': async ({ caller, actor, params }) =>
      asShownTo(caller, await workflows.get(actor.teamId, params.id)),
    'GET /r/workflows/slug/{slug}': async ({ caller, actor, params }) =>
      asShownTo(caller, await workflows.getBySlug(actor.teamId, params.slug)),
    'POST /r/workflows/{id}/run': ({ caller, actor, params, headers, body }) =>
      tasks.submit(submitterOf(caller, actor), { id: params.id }, body, headers['idempotency-key']),
    'POST /r/workflows/slug/{slug}/run': ({ caller, actor, params, headers, body }) =>
      tasks.submit(submitterOf(caller, actor), { slug: params.slug }, body, headers['idempotency-key']),

    'GET /r/tasks': ({ actor, query }) => tasks.list(actor.teamId, query),
    'GET /r/tasks/{id}': ({ actor, params }) => tasks.get(actor.teamId, params.id),
    'GET /r/tasks/{id}/result': ({ actor, params }) => tasks.result(actor.teamId, params.id),
    'POST /r/tasks/{id}/cancel': async ({ actor, params }) => {
      await tasks.cancel(actor.teamId, params.id)
      return SUCCESS
    },
    'GET /r/tasks/{id}/events': ({ actor, params, headers }) =>
      tasks.events(actor.teamId, params.id, headers['last-event-id'] ?? 0),
    'POST /r/files/presign': async ({ actor, body }) => {
      const { file_name: fileName, file_size: fileSize, content_type: contentType } = body
      const upload = await files.presignInput(actor.teamId, actor.userId, { fileName, fileSize, contentType })
      return { file_key: upload.fileKey, upload_url: upload.uploadUrl, upload_headers: { ...upload.uploadHeaders } }
    },
  }
}

/** An integration key runs workflows and is spared what they are made of. */
function asShownTo(caller: Caller, workflow: Awaited<ReturnType<Workflows['get']>>) {
  if (caller.kind !== 'integration') return workflow
  const { workflow_json, ...rest } = workflow
  return rest
}

function submitterOf(caller: Caller, { userId, teamId, role }: Actor): Submitter {
  if (caller.kind === 'user') return { userId, teamId, source: 'jwt', familyId: caller.familyId }
  const { credentialId, isRecalled } = caller
  return { userId, teamId, source: 'api_key', credentialId, ...(isRecalled && { recalledKey: { credentialId, role } }) }
}
