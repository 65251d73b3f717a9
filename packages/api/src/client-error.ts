import type { ErrorCode, ErrorDetail } from './errors.ts'

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

/** Whether the same call may work a little later: nothing was reached, or what was reached is not itself at present. */
export function mayMend({ code, status = 0 }: ClientError): boolean {
  switch (code) {
    case 'unreachable':
    case 'timeout':
    case 'unavailable':
    case 'rate_limited':
    case 'internal':
      return true
    case 'bad_answer':
      return status >= 500 // A proxy whose server is away.
    default:
      return false
  }
}

/** What happened to a call that got no whole answer, in words for the person who made it. */
export function transportError(url: URL, error: unknown): ClientError {
  const { name, cause = error } = error instanceof Error ? error : new Error(String(error))
  if (name === 'TimeoutError')
    return new ClientError('timeout', `${url.origin} did not answer in time.`, { cause: error })
  if (name === 'AbortError') return new ClientError('aborted', 'The call was cancelled.', { cause: error })
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
  return new ClientError('unreachable', `${url.origin} cannot be reached: ${reason(code, cause)}`, { cause: error })
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
