/**
 * What the edge answers by itself, instead of the service. A closed list of codes with the status each is sent with;
 * where the API has the same code it means the same.
 */
export const REFUSAL_STATUS = {
  bad_request: 400,
  tunnel_cookie_missing: 401,
  forbidden: 403,
  cross_origin: 403,
  port_not_allowed: 403,
  not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  expectation_failed: 417,
  misdirected_request: 421,
  upgrade_required: 426,
  too_many_requests: 429,
  rate_limited: 429,
  header_too_large: 431,
  internal: 500,
  target_refused: 502,
  bad_response: 502,
  link_lost: 502,
  agent_offline: 503,
  unavailable: 503,
  target_timeout: 504,
  loop_detected: 508,
} as const

export type RefusalCode = keyof typeof REFUSAL_STATUS

/** A request the edge does not relay, or could not. `message` is for the visitor: what happened and what to do. */
export class Refusal {
  readonly code: RefusalCode
  readonly message: string
  /** Further header fields of the answer, in turn. */
  readonly fields: readonly string[]

  constructor(code: RefusalCode, message: string, fields: readonly string[] = []) {
    this.code = code
    this.message = message
    this.fields = fields
  }

  get status(): number {
    return REFUSAL_STATUS[this.code]
  }
}
