import { ANY_KEY, type RouteTable } from './route-spec.ts'
import * as inspector from './schemas/inspector.ts'

/** The calls about a tunnel's inspector. Whoever may open a tunnel may look into it. */
export const inspectorRoutes = {
  'PUT /agents/{agentId}/tunnel/{sessionId}/inspector': {
    tag: 'tunnels',
    summary: 'Turn the inspector of a tunnel on or off. It keeps its last 1,000 requests, in memory.',
    callers: ANY_KEY,
    role: 'member',
    params: inspector.InspectorParams,
    body: inspector.InspectorBody,
    answer: inspector.InspectorState,
    errors: ['conflict'],
  },
  'GET /agents/{agentId}/tunnel/{sessionId}/inspector': {
    tag: 'tunnels',
    summary: 'The newest requests of a tunnel, or those after a number.',
    callers: ANY_KEY,
    role: 'member',
    params: inspector.InspectorParams,
    query: inspector.InspectorQuery,
    answer: inspector.InspectorAnswer,
  },
  'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}': {
    tag: 'tunnels',
    summary: 'One request with headers, bodies where they are kept, and as a curl command.',
    callers: ANY_KEY,
    role: 'member',
    params: inspector.InspectedParams,
    answer: inspector.InspectedDetail,
  },
  'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay': {
    tag: 'tunnels',
    summary: 'Send a request again, as the service got it. Waits for its answer, for at most 20 s.',
    callers: ANY_KEY,
    role: 'member',
    params: inspector.InspectedParams,
    answer: inspector.ReplayAnswer,
    errors: ['conflict', 'unavailable', 'timeout'],
  },
} as const satisfies RouteTable
