import type { DialFailure } from '@cyberun/link'
import { type CloseReason, unreachable } from '@cyberun/protocol'

/** Why an agent gave up: dialling again would help nobody. */
export type FinalExit = 'bad_key' | 'revoked' | 'agent_id_taken' | 'taken_over' | 'refused'

/** What to do after a dial failed or a link was lost. */
export type Verdict =
  | { kind: 'stop'; exit: FinalExit; message: string }
  /** Somebody else holds our agent id: it may be ourselves a moment ago, so this is only final when it lasts. */
  | { kind: 'contend'; message: string; retryAfterMs: number }
  | {
      kind: 'retry'
      error: string
      hint: string
      /** The server answered and said no: spare it. Else nobody is there to be spared. */
      answered: boolean
      /** Nothing came at all, not even a refusal: packets are being swallowed. */
      silent: boolean
      retryAfterMs?: number | undefined
    }

/** While an id is taken, how often to ask again when the server does not say. */
const CONTEND_AGAIN_MS = 10_000

/** What a failed dial means, in words for whoever reads the log. */
export function judgeDial(failure: DialFailure): Verdict {
  switch (failure.kind) {
    case 'http':
      return judgeHttp(failure)
    case 'refused':
      return judgeClose(failure.reason)
    case 'network':
      return {
        kind: 'retry',
        error: failure.code,
        hint: NETWORK_HINTS[failure.code] ?? 'the gateway cannot be reached; "cyberun doctor" finds out why',
        answered: false,
        silent: failure.code === 'ETIMEDOUT',
      }
    case 'tls':
      return {
        kind: 'retry',
        error: failure.code,
        hint: 'the certificate is not accepted: set ca_file for a private authority, and check the name in gateway_url and this clock',
        answered: true,
        silent: false,
      }
    case 'proxy':
      return {
        kind: 'retry',
        error: `the proxy answered ${failure.status}`,
        hint: 'the proxy must allow CONNECT to the gateway: check proxy (or HTTPS_PROXY) and its password, or add the gateway to NO_PROXY',
        answered: true,
        silent: false,
      }
    case 'protocol':
      return {
        kind: 'retry',
        error: failure.message,
        hint: 'what answers there does not speak as a Cyberun edge: check gateway_url, and for proxies that do not pass WebSockets',
        answered: true,
        silent: false,
      }
    default:
      return unreachable(failure)
  }
}

/** What the end of a link, or a refusal during its handshake, means. */
export function judgeClose(reason: CloseReason): Verdict {
  const { message, retryAfterMs } = reason
  switch (reason.code) {
    case 'revoked':
      return { kind: 'stop', exit: 'revoked', message }
    case 'evicted':
      return { kind: 'stop', exit: 'taken_over', message }
    case 'unsupported_version':
    case 'refused':
      return { kind: 'stop', exit: 'refused', message }
    case 'agent_id_taken':
      return { kind: 'contend', message, retryAfterMs: retryAfterMs ?? CONTEND_AGAIN_MS }
    case 'done':
    case 'going_away':
    case 'dead':
    case 'protocol_fault':
    case 'transport':
      return {
        kind: 'retry',
        error: reason.code,
        hint: message,
        answered: reason.code === 'protocol_fault',
        silent: reason.code === 'dead',
        retryAfterMs,
      }
    default:
      return unreachable(reason.code)
  }
}

function judgeHttp(failure: DialFailure & { kind: 'http' }): Verdict {
  if (failure.status === 401) return { kind: 'stop', exit: 'bad_key', message: failure.message }
  return {
    kind: 'retry',
    error: `HTTP ${failure.status}: ${failure.message}`,
    hint: HTTP_HINTS[failure.status] ?? 'gateway_url must be the edge of a Cyberun server, not its API',
    answered: true,
    silent: false,
    retryAfterMs: failure.retryAfterMs,
  }
}

const HTTP_HINTS: Readonly<Record<number, string>> = {
  429: 'too many wrong keys came from this address; it tries again when the server allows',
  502: 'the proxy in front of the server does not reach it',
  503: 'the server is starting, stopping or busy; it tries again when the server asks for it',
}

const NETWORK_HINTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is the server running, and is gateway_url its edge?',
  ECONNRESET: 'the connection was cut: the server stopped, or something on the way does not pass WebSockets',
  ENOTFOUND: "the name in gateway_url does not exist: check its spelling and this machine's DNS",
  EAI_AGAIN: 'the name in gateway_url cannot be looked up now: is this machine online?',
  ETIMEDOUT: 'no answer: this machine may be offline, or a firewall drops the packets',
  EHOSTUNREACH: 'there is no route to the gateway: is this machine online?',
  ENETUNREACH: 'there is no network: is this machine online?',
}
