/**
 * Every error a caller can meet: a stable code and the HTTP status it is answered with.
 * Code branches on the code, people read the message.
 */
export const HTTP_STATUS = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  port_not_allowed: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  workflow_disabled: 409,
  already_member: 409,
  agent_offline: 409,
  idempotency_mismatch: 409,
  length_required: 411,
  precondition_failed: 412,
  payload_too_large: 413,
  range_not_satisfiable: 416,
  misdirected_request: 421,
  rate_limited: 429,
  internal: 500,
  target_refused: 502,
  unavailable: 503,
  timeout: 504,
  storage_full: 507,
} as const

export type ErrorCode = keyof typeof HTTP_STATUS

/** One fault of a request: where (`body.target_port`) and what. */
export interface ErrorDetail {
  path: string
  message: string
}

/** The one error that reaches a caller. `message` is a sentence that says what to do; `cause` stays in our log. */
export class ApiError extends Error {
  readonly code: ErrorCode
  readonly details: readonly ErrorDetail[] | undefined
  /** Seconds for Retry-After, with `rate_limited` and `unavailable`. */
  readonly retryAfterSeconds: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: readonly ErrorDetail[]; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'ApiError'
    this.code = code
    this.details = options.details
    this.retryAfterSeconds = options.retryAfterSeconds
  }

  get status(): number {
    return HTTP_STATUS[this.code]
  }
}

/** An `invalid_request` whose message names the first fault and whose details hold all. */
export function invalidRequest(details: readonly [ErrorDetail, ...ErrorDetail[]]): ApiError {
  const [first] = details
  const more = details.length > 1 ? ` (and ${details.length - 1} more, see details)` : ''
  return new ApiError('invalid_request', `${first.path}: ${first.message}${more}`, { details })
}

/** Throws an `invalid_request` that holds every fault; nothing when there is none. */
export function refuseFaults([first, ...rest]: readonly ErrorDetail[]): void {
  if (first) throw invalidRequest([first, ...rest])
}
