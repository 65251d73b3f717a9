import type { ErrorCode } from '@cyberun/api'

/** What a script can tell from the exit code: name → number and meaning. Printed by `cyberun help exit-codes`. */
export const EXIT_CODES = {
  ok: [0, 'it worked; for up, server, agent and forward: stopped when asked to'],
  failed: [1, 'it did not work, and none of the codes below says it better'],
  usage: [2, 'a wrong argument, option, setting or configuration file'],
  refused: [3, 'not signed in, the key or sign-in is not accepted, or your role does not allow it'],
  not_found: [4, 'no such agent, tunnel, key, workflow or task in your team'],
  target: [5, 'the agent is not connected, or nothing listens on its port, or its owner does not allow the port'],
  unreachable: [6, 'the server does not answer: run "cyberun doctor"'],
  busy: [7, 'the server is busy or limits the rate: try again later'],
  agent_id_taken: [8, 'agent: another machine, or another process of this one, goes by its agent id'],
  task_failed: [9, 'run and tasks events: the task failed or was cancelled'],
  interrupted: [
    130,
    'stopped before the work was done, by Ctrl-C or because nobody reads what it prints; a submitted task goes on',
  ],
} as const satisfies Record<string, readonly [number, string]>

export type ExitName = keyof typeof EXIT_CODES

/** How each answer of the API ends a command. */
const EXIT_OF_ERROR = {
  invalid_request: 'usage',
  unauthenticated: 'refused',
  forbidden: 'refused',
  port_not_allowed: 'target',
  not_found: 'not_found',
  method_not_allowed: 'failed',
  conflict: 'failed',
  workflow_disabled: 'failed',
  already_member: 'failed',
  agent_offline: 'target',
  idempotency_mismatch: 'failed',
  length_required: 'failed',
  precondition_failed: 'failed',
  payload_too_large: 'failed',
  range_not_satisfiable: 'failed',
  rate_limited: 'busy',
  internal: 'failed',
  misdirected_request: 'failed',
  target_refused: 'target',
  unavailable: 'busy',
  timeout: 'busy',
  storage_full: 'busy',
} as const satisfies Record<ErrorCode, ExitName>

/** The exit code for an error code of the API; a code that this release does not know is a plain failure. */
export function exitOfError(code: string): ExitName {
  return isErrorCode(code) ? EXIT_OF_ERROR[code] : 'failed'
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(EXIT_OF_ERROR, code)
}

/** The table as text, one code a line. */
export function exitCodesText(): string {
  return Object.values(EXIT_CODES)
    .map(([code, meaning]) => `${String(code).padStart(4)}  ${meaning}\n`)
    .join('')
}
