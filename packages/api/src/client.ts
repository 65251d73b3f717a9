import { ClientError, transportError } from './client-error.ts'
import type { ErrorCode, ErrorDetail } from './errors.ts'
import { type FollowedEvent, type FollowOptions, followEvents } from './follow.ts'
import type { RouteAnswer, RouteRequest } from './route-types.ts'
import type { RouteName } from './routes.ts'

export { ClientError, type ClientErrorCode, mayMend } from './client-error.ts'
export type { FollowedEvent, FollowOptions } from './follow.ts'

/** Everything here is types and `fetch`: importing this module loads no schema library. */

export interface ClientOptions {
  /** Where the control listener is: `http://127.0.0.1:8787`. */
  baseUrl: string | URL
  /** Bearer secret of every call: an access token or a key. Absent: only calls open to anyone. */
  token?: string
  /** `X-Team-ID` of every call. Keys carry their team and need none. */
  teamId?: string
}

export interface Client {
  /** Makes the call named as in the route table. Rejects with `ClientError` only. */
  call<K extends RouteName>(name: K, request: RouteRequest<K>, signal?: AbortSignal): Promise<RouteAnswer<K>>
  /** The events of a task until it ends, through cuts. Ends by throwing `ClientError` only. */
  follow(taskId: string, options?: FollowOptions, signal?: AbortSignal): AsyncGenerator<FollowedEvent, void>
}

/** The request parts of any call, as they are put on the wire. */
interface Sent {
  params?: Readonly<Record<string, string>>
  query?: Readonly<Record<string, string | number | undefined>>
  headers?: Readonly<Record<string, string | undefined>>
  body?: unknown
}

const HEADER_TEXT = /^[\x21-\x7e]+$/

export function createClient(options: ClientOptions): Client {
  return {
    async call<K extends RouteName>(name: K, request: RouteRequest<K>, signal?: AbortSignal) {
      // The server parsed its answer by the route's schema before it sent it, so it is not parsed again here.
      return readAnswer(await send(options, name, request as Sent, signal)) as Promise<RouteAnswer<K>>
    },
    follow(id, about = {}, signal) {
      return followEvents((after) => openEvents(options, id, after, signal), about, signal)
    },
  }
}

async function openEvents(options: ClientOptions, id: string, after: number, signal?: AbortSignal): Promise<Response> {
  const headers = after === 0 ? {} : { 'last-event-id': String(after) }
  const response = await send(options, 'GET /r/tasks/{id}/events', { params: { id }, headers }, signal)
  if (response.status !== 204 && !/^text\/event-stream\b/.test(response.headers.get('content-type') ?? '')) {
    await readAnswer(response)
    throw notOurs(response)
  }
  return response
}

/** Makes a call and gives back the head of its answer. Rejects with `ClientError`. */
async function send(options: ClientOptions, name: RouteName, sent: Sent, signal?: AbortSignal): Promise<Response> {
  const [method = '', path = ''] = name.split(' ')
  const { params, query, body } = sent
  const url = callUrl(options.baseUrl, path, params, query)
  const headers = new Headers({ accept: 'application/json, text/event-stream' })
  if (options.token !== undefined && !HEADER_TEXT.test(options.token)) {
    // Said here, because what `fetch` says of it quotes the secret.
    throw new ClientError('unauthenticated', 'The token or key has a blank or line break in it: copy it again.')
  }
  if (options.token !== undefined) headers.set('authorization', `Bearer ${options.token}`)
  if (options.teamId !== undefined) headers.set('x-team-id', options.teamId)
  if (body !== undefined) headers.set('content-type', 'application/json')
  for (const [field, value] of Object.entries(sent.headers ?? {})) if (value !== undefined) headers.set(field, value)
  const init: RequestInit = { method, headers, redirect: 'manual' }
  if (body !== undefined) init.body = JSON.stringify(body)
  if (signal !== undefined) init.signal = signal
  try {
    return await fetch(url, init)
  } catch (error) {
    throw transportError(url, error)
  }
}

function callUrl(baseUrl: string | URL, path: string, params: Sent['params'], query: Sent['query']): URL {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params?.[name] ?? ''))
  const url = new URL(baseUrl)
  url.pathname = `${url.pathname.replace(/\/$/, '')}/api/v1${filled}`
  for (const [key, value] of Object.entries(query ?? {})) {
    if (value !== undefined) url.searchParams.set(key, String(value))
  }
  return url
}

/** The JSON that a call answered; undefined for 204. Rejects with `ClientError`. */
async function readAnswer(response: Response): Promise<unknown> {
  if (response.status === 204) return undefined
  const answer = await readJson(response)
  if (typeof answer !== 'object' || answer === null || (response.status >= 300 && !('error_code' in answer))) {
    throw notOurs(response)
  }
  if (response.ok) return answer
  const { error_message, error_code, details } = answer as ErrorBody
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new ClientError(error_code, error_message, {
    ...aboutOf(response),
    details,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
  })
}

function notOurs(response: Response): ClientError {
  return new ClientError(
    'bad_answer',
    `${new URL(response.url).origin} answered ${response.status}, but not as this API does. Is it the address of a Cyberun server?`,
    aboutOf(response),
  )
}

function aboutOf({ status, headers }: Response) {
  return { status, requestId: headers.get('x-request-id') ?? undefined }
}

/** The JSON of a response, whatever it says of its type; undefined for anything else. */
async function readJson(response: Response): Promise<unknown> {
  const text = await response.text().catch((error: unknown) => {
    throw transportError(new URL(response.url), error)
  })
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

interface ErrorBody {
  error_message: string
  error_code: ErrorCode
  details?: ErrorDetail[]
}
