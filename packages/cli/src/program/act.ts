import type { Context } from '../context.ts'
import type { ExitName } from '../exit-codes.ts'

/** What a command returns: how it ended, or the exit code of what it ran; nothing means `ok`. */
export type Work = (context: Context, ...given: never[]) => Promise<ExitName | number | undefined>

/** Makes of a command's work what commander calls with the arguments and options that were given. */
export type Act = (work: Work) => (...given: unknown[]) => Promise<void>
