import type { ExitName } from './exit-codes.ts'

/**
 * Why a command ends without having done its work: one sentence that says what happened and what to do, and how the
 * process exits. `code` is for `--json`: the API's error code, or one of ours in the same style.
 */
export class CliError extends Error {
  readonly exit: ExitName
  readonly code: string

  constructor(exit: ExitName, code: string, message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.name = 'CliError'
    this.exit = exit
    this.code = code
  }
}
