import { ClientError } from '@cyberun/api/client'
import type { Context } from './context.ts'
import { CliError } from './errors.ts'
import { type ExitName, exitOfError } from './exit-codes.ts'
import { printable, printableJson } from './text.ts'

/** A failure as it is shown: one sentence, a code for scripts, and what the server's log knows it by. */
export interface Failure {
  exit: ExitName
  code: string
  message: string
  requestId?: string | undefined
}

/** What a thrown value means to the person at the terminal. */
export function failureOf(error: unknown): Failure {
  if (error instanceof CliError) return { exit: error.exit, code: error.code, message: error.message }
  if (isStop(error)) return { exit: 'interrupted', code: 'interrupted', message: 'stopped' }
  if (error instanceof ClientError) {
    const details = error.details.map(({ path, message }) => `${path}: ${message}`)
    // A server sums up several faults by telling the first: then they are told one by one instead.
    const isTold = details[0] !== undefined && error.message.includes(details[0])
    return {
      exit: error.status === undefined ? 'unreachable' : exitOfError(error.code),
      code: error.code,
      message: isTold ? details.join('; ') : [error.message, ...details].join(' '),
      requestId: error.requestId,
    }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { exit: 'failed', code: 'internal', message: `${message} (CYBERUN_DEBUG=1 shows where)` }
}

/** Only Ctrl-C and its like cancel what a command does; time limits end it with an error of their own. */
function isStop(error: unknown): boolean {
  return error instanceof ClientError ? error.code === 'aborted' : error instanceof Error && error.name === 'AbortError'
}

/** Writes a failure to stderr, in one line unless `CYBERUN_DEBUG=1` asks for the stack, and says how to exit. */
export function reportFailure(context: Context, error: unknown): ExitName {
  const { exit, code, message, requestId } = failureOf(error)
  if (context.json) {
    const body = { error_code: code, error_message: message, ...(requestId && { request_id: requestId }) }
    context.stderr.write(`${printableJson(body)}\n`)
  } else {
    const request = exit === 'failed' && requestId ? ` (request ${requestId})` : ''
    context.stderr.write(`error: ${printable(message.replace(/\s*\n\s*/g, '; '))}${request}\n`)
  }
  if (context.env['CYBERUN_DEBUG'] === '1' && error instanceof Error) context.stderr.write(`${error.stack}\n`)
  return exit
}
