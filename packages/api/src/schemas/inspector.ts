import { z } from 'zod'
import { AgentParams } from './agents.ts'
import { Id, Time } from './common.ts'

/** The inspector of a tunnel: what passed through it last. */

export const InspectorParams = AgentParams.extend({ sessionId: Id })
export const InspectedParams = InspectorParams.extend({
  number: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
})

export const InspectorBody = z.object({
  is_enabled: z.boolean().describe('False forgets what was kept.'),
  is_body_kept: z
    .boolean()
    .default(false)
    .describe('Keep the first 64 KiB of each body, too. Bodies are shown as they were: they may hold secrets.'),
})
export type InspectorBody = z.output<typeof InspectorBody>

const state = {
  is_enabled: z.boolean(),
  is_body_kept: z.boolean(),
  last_number: z.int().nonnegative().describe('Of the newest request; 0 when there is none yet.'),
}
export const InspectorState = z.object(state).meta({ id: 'Inspector' })
export type InspectorState = z.output<typeof InspectorState>

export const InspectorQuery = z.object({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .optional()
    .describe('Only requests with a greater number, oldest first. Without it the newest there are.'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
})
export type InspectorQuery = z.output<typeof InspectorQuery>

const Milliseconds = z.number().nonnegative()

const Timing = z
  .object({
    total_ms: Milliseconds,
    visitor_ms: Milliseconds.describe('Waiting for the visitor: for its body, or until it took what waited for it.'),
    edge_ms: Milliseconds.describe('What this server took: the rest.'),
    agent_ms: Milliseconds.describe('Waiting for the agent: for its link, until it reached the service, a round trip.'),
    service_ms: Milliseconds.describe('Waiting for the service: until its answer began, and until that ended.'),
    first_byte_ms: Milliseconds.nullable().describe('Until the answer began.'),
  })
  .describe('The four parts are all of the total. So far, while a request is under way.')

const MessageCounts = z.object({ message_count: z.int().nonnegative(), byte_count: z.int().nonnegative() })

const WebSocketCounts = z.object({
  from_visitor: MessageCounts,
  from_service: MessageCounts,
  close_code: z.int().nullable().describe('What the first close frame said; 1005 when it said nothing.'),
})

export const InspectedRequest = z
  .object({
    number: z.int().positive(),
    started_at: Time,
    ended_at: Time.nullable().describe('Null while it is under way.'),
    method: z.string(),
    path: z.string().describe('With its query, as the service is asked for it.'),
    status: z.int().nullable().describe('Null before there is an answer.'),
    failure: z.string().nullable().describe('Why the visitor did not get a whole answer of the service.'),
    visitor_address: z.string().nullable().describe('Null for a request that was sent again from here.'),
    replay_of: z.int().nullable().describe('The request that this one repeats.'),
    request_body_bytes: z.int().nonnegative(),
    response_body_bytes: z.int().nonnegative(),
    timing: Timing,
    websocket: WebSocketCounts.nullable().describe('What a WebSocket carried after its 101.'),
  })
  .meta({ id: 'InspectedRequest' })
export type InspectedRequest = z.output<typeof InspectedRequest>

export const InspectorAnswer = z.object({ ...state, entry_list: z.array(InspectedRequest) })
export type InspectorAnswer = z.output<typeof InspectorAnswer>

const HeaderList = z.array(z.object({ name: z.string(), value: z.string() }))

const Body = z.object({
  is_whole: z.boolean(),
  text: z.string().nullable().describe('When the bytes kept are UTF-8; else null.'),
  base64: z.string().nullable().describe('When they are not.'),
})

export const InspectedDetail = InspectedRequest.extend({
  request_header_list: HeaderList.describe('As the service got them, secrets masked. Empty when it got nothing.'),
  response_header_list: HeaderList.describe('As the service sent them, secrets masked.'),
  request_body: Body.nullable().describe('Null when bodies are not kept.'),
  response_body: Body.nullable(),
  is_replayable: z.boolean().describe('All of the request is kept, so that it can be sent again.'),
  curl: z.string().nullable().describe('A shell command that sends the same; secrets are left out.'),
}).meta({ id: 'InspectedRequestDetail' })
export type InspectedDetail = z.output<typeof InspectedDetail>

export const ReplayAnswer = z
  .object({
    number: z.int().positive().describe('Of the new request.'),
    status: z.int().nullable().describe('Null when the service gave no answer.'),
    failure: z.string().nullable(),
  })
  .meta({ id: 'Replay' })
export type ReplayAnswer = z.output<typeof ReplayAnswer>
