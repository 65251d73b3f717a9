import type { ErrorCode, ErrorDetail } from './errors.ts'
import type { RouteAnswer, RouteRequest } from './route-types.ts'
import type { RouteName } from './routes.ts'

/** Everything here is types and `fetch`: importing this module loads no schema library. */

export interface ClientOptions {
  /** Where the control listener is: `http://127.0.0.1:8787`. */
  baseUrl: string | URL
  /** Bearer secret of every call: an access token or a key. Absent: only calls open to anyone. */
  token?: string
  /** `X-Team-ID` of every call. Keys carry their team and need none. */
  teamId?: string
}

/** Codes of errors that no server answered with. */
export type ClientErrorCode = ErrorCode | 'unreachable' | 'timeout' | 'aborted' | 'bad_answer'

/** Why a call failed. `message` is a sentence for a person; branch on `code`. */
export class ClientError extends Error {
  readonly code: ClientErrorCode
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined
  /** To find the call in the server's log. */
  readonly requestId: string | undefined
  readonly details: readonly ErrorDetail[]
  /** From `Retry-After`. */
  readonly retryAfterSeconds: number | undefined

  constructor(
    code: ClientErrorCode,
    message: string,
    about: {
      status?: number
      requestId?: string | undefined
      details?: readonly ErrorDetail[] | undefined
      retryAfterSeconds?: number | undefined
      cause?: unknown
    } = {},
  ) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause })
    this.name = 'ClientError'
    this.code = code
    this.status = about.status
    this.requestId = about.requestId
    this.details = about.details ?? []
    this.retryAfterSeconds = about.retryAfterSeconds
  }
}

export interface Client {
  /** Makes the call named as in the route table. Rejects with `ClientError` only. */
  call<K extends RouteName>(name: K, request: RouteRequest<K>, signal?: AbortSignal): Promise<RouteAnswer<K>>
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
      const [method = '', path = ''] = name.split(' ')
      const { params, query, body } = request as Sent
      const url = callUrl(options.baseUrl, path, params, query)
      const headers = new Headers({ accept: 'application/json' })
      if (options.token !== undefined && !HEADER_TEXT.test(options.token)) {
        // Said here, because what `fetch` says of it quotes the secret.
        throw new ClientError('unauthenticated', 'The token or key has a blank or line break in it: copy it again.')
      }
      if (options.token !== undefined) headers.set('authorization', `Bearer ${options.token}`)
      if (options.teamId !== undefined) headers.set('x-team-id', options.teamId)
      if (body !== undefined) headers.set('content-type', 'application/json')
      const init: RequestInit = { method, headers, redirect: 'manual' }
      if (body !== undefined) init.body = JSON.stringify(body)
      if (signal !== undefined) init.signal = signal
      try {
        const response = await fetch(url, init)
        // The server parsed its answer by the route's schema before it sent it, so it is not parsed again here.
        return (await readAnswer(response, url)) as RouteAnswer<K>
      } catch (error) {
        throw error instanceof ClientError ? error : transportError(url, error)
      }
    },
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

async function readAnswer(response: Response, url: URL): Promise<unknown> {
  const requestId = response.headers.get('x-request-id') ?? undefined
  const about = { status: response.status, requestId }
  if (response.status === 204) return undefined
  const answer = await readJson(response)
  if (typeof answer !== 'object' || answer === null || (response.status >= 300 && !('error_code' in answer))) {
    throw new ClientError(
      'bad_answer',
      `${url.origin} answered ${response.status}, but not as this API does. Is it the address of a Cyberun server?`,
      about,
    )
  }
  if (response.ok) return answer
  const { error_message, error_code, details } = answer as ErrorBody
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new ClientError(error_code, error_message, {
    ...about,
    details,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : undefined,
  })
}

/** The JSON of a response, whatever it says of its type; undefined for anything else. */
async function readJson(response: Response): Promise<unknown> {
  const text = await response.text()
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

/** What happened to a call that got no whole answer, in words for the person who made it. */
function transportError(url: URL, error: unknown): ClientError {
  const { name, cause } = error instanceof Error ? error : new Error(String(error))
  if (name === 'TimeoutError')
    return new ClientError('timeout', `${url.origin} did not answer in time.`, { cause: error })
  if (name === 'AbortError') return new ClientError('aborted', 'The call was cancelled.', { cause: error })
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
  return new ClientError('unreachable', `${url.origin} cannot be reached: ${reason(code, error)}`, { cause: error })
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there. Is the server running?',
  ENOTFOUND: 'its name does not resolve. Check the address.',
  EAI_AGAIN: 'its name cannot be looked up now. Check the network.',
  ECONNRESET: 'the connection was cut.',
  UND_ERR_SOCKET: 'the connection was cut.',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed. Set NODE_EXTRA_CA_CERTS to its CA file.',
  SELF_SIGNED_CERT_IN_CHAIN: 'its CA is not trusted here. Set NODE_EXTRA_CA_CERTS to its CA file.',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its CA is not trusted here. Set NODE_EXTRA_CA_CERTS to its CA file.',
}

function reason(code: string | undefined, error: unknown): string {
  const known = code === undefined ? undefined : REASONS[code]
  return known ?? code ?? (error instanceof Error ? error.message : String(error))
}
