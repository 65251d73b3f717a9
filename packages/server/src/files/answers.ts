import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError, type ErrorAnswer } from '@cyberun/api'
import { ObjectTooLargeError, StorageFullError } from './object-store.ts'

/**
 * A file is somebody else's text on our origin: it is never shown in place, never sniffed, runs no script and shares no
 * window. Any page may fetch it, because the URL is the right and no cookie is looked at.
 */
const DOOR_HEADERS = {
  'content-security-policy': "sandbox; default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'cross-origin',
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'content-disposition, content-range, etag, upload-offset, x-request-id',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'x-robots-tag': 'noindex',
  'cache-control': 'private, no-store',
} as const

/** Says what may be asked of a URL, for a page of any origin (Fetch standard, "CORS-preflight request"). */
const PREFLIGHT_HEADERS = {
  'access-control-allow-methods': 'GET, HEAD, PUT',
  'access-control-allow-headers': 'content-type, content-range, if-match, if-none-match, if-range, range',
  'access-control-max-age': '600',
} as const

export function beginDoorResponse(response: ServerResponse): void {
  for (const [name, value] of Object.entries(DOOR_HEADERS)) response.setHeader(name, value)
}

export function answerPreflight(response: ServerResponse): void {
  response.writeHead(204, PREFLIGHT_HEADERS).end()
}

/** An `ApiError` with fields of its own on the answer. */
export class DoorError extends ApiError {
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ApiError['code'], message: string, headers: Readonly<Record<string, string>> = {}) {
    super(code, message)
    this.headers = headers
  }
}

/** Nobody is there to be answered. */
export class ClientLeftError extends Error {
  override readonly name = 'ClientLeftError'
}

/** A client that hangs up in the middle of its upload ends the reading of it with one of these. */
const HUNG_UP = ['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED']

/** Whether what was thrown is only that the client has left. */
export function hasLeft(error: unknown): boolean {
  return error instanceof ClientLeftError || HUNG_UP.includes((error as NodeJS.ErrnoException).code ?? '')
}

/** What to tell the caller of whatever was thrown. */
export function toDoorError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof StorageFullError) {
    return new ApiError('storage_full', 'The server has no room for this file now. Try again later.', { cause: error })
  }
  if (error instanceof ObjectTooLargeError) {
    return new ApiError('payload_too_large', 'More bytes came than were announced.', { cause: error })
  }
  return new ApiError('internal', 'The file could not be moved. Try again; the server has logged why.', {
    cause: error,
  })
}

/**
 * Answers with an error. A client that sends before it reads would lose the answer to a reset connection, so its body is
 * taken and dropped, up to `mostDropped` bytes.
 */
export function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  error: ApiError,
  mostDropped: number,
): void {
  if (response.headersSent || request.socket.destroyed) {
    response.destroy()
    return
  }
  const answer: ErrorAnswer = { error_message: error.message, error_code: error.code }
  const body = JSON.stringify(answer)
  response.writeHead(error.status, {
    ...(error instanceof DoorError && error.headers),
    ...(error.retryAfterSeconds !== undefined && { 'retry-after': String(error.retryAfterSeconds) }),
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
  let left = mostDropped
  request.on('data', (bytes: Buffer) => {
    left -= bytes.length
    if (left < 0) request.socket.destroy()
  })
}
