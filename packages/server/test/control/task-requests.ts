import type { TaskRoutes } from '@cyberun/api'
import type { Team } from './team-world.ts'

/** A request as a test sends it. */
export interface Sent {
  params?: Record<string, string>
  query?: Record<string, string>
  body?: unknown
}

export const ECHO_WORKFLOW = {
  workflow_slug: 'echo',
  tool_type: 'demo',
  workflow_json: { program: 'echo' },
  parameters: [{ key: 'word', type: 'string', default: 'hello', target_path: 'word' }],
}

const workflowOf = ({ workflowId }: Team): Sent => ({ params: { id: workflowId } })
const slugOf = (): Sent => ({ params: { slug: ECHO_WORKFLOW.workflow_slug } })
const taskOf = ({ taskId }: Team): Sent => ({ params: { id: taskId } })

/** For each call about workflows, tasks and files, a request that succeeds for whoever is let in. */
export const TASK_REQUESTS: Record<keyof TaskRoutes, (team: Team) => Sent> = {
  'POST /workflows/import': () => ({ body: ECHO_WORKFLOW }),
  'GET /workflows': () => ({ query: { tool_type: 'demo' } }),
  'GET /workflows/{id}': workflowOf,
  'PUT /workflows/{id}': (team) => ({ ...workflowOf(team), body: { workflow_status: 'disabled' } }),
  'DELETE /workflows/{id}': workflowOf,
  'GET /workflows/{id}/snapshots': workflowOf,
  'POST /workflows/{id}/snapshots/{version}/restore': ({ workflowId: id }) => ({ params: { id, version: '1' } }),
  'GET /r/workflows': () => ({}),
  'GET /r/workflows/{id}': workflowOf,
  'GET /r/workflows/slug/{slug}': slugOf,
  'POST /r/workflows/{id}/run': (team) => ({ ...workflowOf(team), body: {} }),
  'POST /r/workflows/slug/{slug}/run': () => ({ ...slugOf(), body: { parameters: { word: 'x' } } }),
  'GET /r/tasks': () => ({ query: { status: 'cancelled' } }),
  'GET /r/tasks/{id}': taskOf,
  'GET /r/tasks/{id}/result': taskOf,
  'POST /r/tasks/{id}/cancel': taskOf,
  'GET /r/tasks/{id}/events': taskOf,
  'POST /r/files/presign': () => ({
    body: { file_name: 'cat.png', file_size: 3, content_type: 'image/png' },
  }),
}
