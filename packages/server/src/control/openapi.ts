import { ErrorAnswer, type ErrorCode, HTTP_STATUS, type RouteSpec } from '@cyberun/api'
import { OpenAPIHono, z } from '@hono/zod-openapi'
import type { ApiDocument } from './docs-page.ts'
import { routeEntries } from './route-entries.ts'

const BEARER = 'bearer'
const INTRODUCTION = `Every call takes \`Authorization: Bearer <access token or key>\`; nothing reads a cookie. A signed-in user names
the team of a call in \`X-Team-ID\`; a key carries its team. An \`ak-\` key is refused here: it is for agents only.

Times are ISO 8601 in UTC. Lists take \`current_page\` and \`per_page\` and answer \`page_meta\`. Every answer carries
\`X-Request-ID\`, which the server's log repeats. An error answers with \`error_message\`, one sentence that says what to
do, \`error_code\`, which is stable, and for validation \`details\`. An object that is unknown and one of another team
are answered alike.`

/** The OpenAPI 3.1 document of every route in the table. */
export function describeApi(version: string): ApiDocument {
  // Only its registry is used: requests are parsed by our own hand, which knows more to refuse.
  const app = new OpenAPIHono()
  app.openAPIRegistry.registerComponent('securitySchemes', BEARER, {
    type: 'http',
    scheme: 'bearer',
    description: 'An access token from `auth/login`, or a key: `sk-` (integration) or `dk-` (device).',
  })
  for (const { method, path, spec } of routeEntries) registerRoute(app, method, path, spec)
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Cyberun API',
      version,
      description: INTRODUCTION,
      license: { name: 'Apache-2.0' },
    },
    servers: [{ url: '/api/v1' }],
  })
  // Their types admit every document there can be; this is the one built above.
  return document as unknown as ApiDocument
}

function registerRoute(app: OpenAPIHono, method: string, path: string, spec: RouteSpec): void {
  app.openAPIRegistry.registerPath({
    method: method.toLowerCase() as 'get' | 'post' | 'put' | 'patch' | 'delete',
    path,
    operationId: operationId(method, path),
    tags: [spec.tag],
    summary: spec.summary,
    description: audience(spec),
    security: spec.callers === 'anyone' ? [] : [{ [BEARER]: [] }],
    request: {
      ...(spec.params && { params: spec.params }),
      ...(spec.query && { query: spec.query }),
      ...(spec.headers && { headers: spec.headers }),
      ...(spec.body && {
        body: { required: !spec.body.safeParse({}).success, content: { 'application/json': { schema: spec.body } } },
      }),
    },
    ...(spec.role && { parameters: [TEAM_HEADER] }),
    responses: { ...successResponses(spec), ...errorResponses(spec) },
  })
}

/** What a call answers when all is well, by status. */
function successResponses({ answer, eventStream, status }: RouteSpec) {
  const noBody = { description: 'Done; no body.' }
  if (eventStream) {
    const description = 'A stream of events. Each has a name, and in its data an object with the fields of that name.'
    return {
      200: { description, content: { 'text/event-stream': { schema: z.object(eventStream) } } },
      204: { description: 'It has ended, and the caller has had every event.' },
    }
  }
  return answer
    ? { [status ?? 200]: { description: 'Done.', content: { 'application/json': { schema: answer } } } }
    : { 204: noBody }
}

const TEAM_HEADER = {
  name: 'X-Team-ID',
  in: 'header',
  required: false,
  description: 'The team, for a signed-in user; required then. Ignored with a key, which carries its team.',
  schema: { type: 'string', format: 'uuid' },
} as const

/** `POST /agents/{agentId}/tunnel` → `post_agents_agentId_tunnel`. */
function operationId(method: string, path: string): string {
  return method.toLowerCase() + path.replace(/[{}]/g, '').replace(/[/-]/g, '_')
}

const CALLER_NAMES = { user: 'a signed-in user', integration: 'an `sk-` key', device: 'a `dk-` key' } as const

/** Who may make the call, as a sentence. */
function audience(spec: RouteSpec): string {
  if (spec.callers === 'anyone') return 'Open to anyone.'
  const callers = spec.callers.map((kind) => CALLER_NAMES[kind]).join(', ')
  return spec.role ? `For ${callers}. Least role in the team: \`${spec.role}\`.` : `For ${callers}.`
}

/** The errors a route can meet, by status, from its shape and from what its table row adds. */
function errorResponses(spec: RouteSpec): Record<string, object> {
  const codes = new Set<ErrorCode>(spec.errors ?? [])
  if (spec.query || spec.headers || spec.body || spec.role) codes.add('invalid_request')
  if (spec.body) codes.add('payload_too_large')
  if (spec.callers !== 'anyone')
    for (const code of ['unauthenticated', 'forbidden', 'rate_limited'] as const) codes.add(code)
  if (spec.params || spec.role) codes.add('not_found')
  codes.add('internal')
  const byStatus = Map.groupBy(codes, (code) => HTTP_STATUS[code])
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => [
      status,
      {
        description: list.map((code) => `\`${code}\``).join(', '),
        content: { 'application/json': { schema: ErrorAnswer } },
      },
    ]),
  )
}
