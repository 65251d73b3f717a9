import { type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { ApiError, type ErrorAnswer, type RouteSpec } from '@cyberun/api'

/** From values and errors to what goes on the wire. */

/**
 * Writes an answer by its route's schema: a field that is not in the schema never leaves. A value that does not match
 * is our own fault, so it throws a plain error and the caller sees a 500. On Node's own object: a `Response` around a few
 * bytes costs more than most calls.
 */
export function writeAnswer(response: ServerResponse, spec: RouteSpec, value: unknown): void {
  if (!spec.answer) {
    response.writeHead(204).end()
    return
  }
  const parsed = spec.answer.safeParse(value)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    throw new Error(`the answer does not match its schema: ${faults.join('; ')}`)
  }
  const body = Buffer.from(JSON.stringify(parsed.data))
  const headers = { 'content-type': 'application/json', 'content-length': body.length }
  response.writeHead(spec.status ?? 200, headers).end(body)
}

/** The error to show for whatever was thrown. What is not an `ApiError` keeps its story in `cause`, for our log. */
export function toApiError(error: unknown, requestId: string): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new ApiError('timeout', 'This took longer than the server is willing to wait. Try again.', { cause: error })
  }
  return new ApiError(
    'internal',
    `Something went wrong on the server. Ask its operator to look for request ${requestId} in the log.`,
    { cause: error },
  )
}

export function renderError(error: ApiError): Response {
  return new Response(errorBody(error), { status: error.status, headers: errorHeaders(error) })
}

/** Answers a request that no route gets to see. The rest of it is not read. */
export function writeError(response: ServerResponse, error: ApiError): void {
  for (const [name, value] of Object.entries(errorHeaders(error))) response.setHeader(name, value)
  response.setHeader('connection', 'close')
  response.writeHead(error.status).end(errorBody(error))
}

/** Answers bytes that are no HTTP request, and closes. `status` may be more telling than the error's own. */
export function writeRawError(socket: Duplex, error: ApiError, requestId: string, status = error.status): void {
  const body = errorBody(error)
  const headers = { ...errorHeaders(error), 'x-request-id': requestId, connection: 'close' }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

function errorBody(error: ApiError): string {
  const answer: ErrorAnswer = { error_message: error.message, error_code: error.code }
  if (error.details) answer.details = [...error.details]
  return JSON.stringify(answer)
}

function errorHeaders(error: ApiError): Record<string, string> {
  return {
    'content-type': 'application/json',
    ...(error.retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(error.retryAfterSeconds)) }),
    ...(error.code === 'unauthenticated' && { 'www-authenticate': 'Bearer' }),
    // The rest of a body that was refused would have to be read before the next request.
    ...(error.code === 'payload_too_large' && { connection: 'close' }),
  }
}
