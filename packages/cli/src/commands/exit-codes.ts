import { type Context, printResult } from '../context.ts'
import { EXIT_CODES, exitCodesText } from '../exit-codes.ts'

export async function printExitCodes(context: Context): Promise<undefined> {
  const rows = Object.entries(EXIT_CODES).map(([name, [exit_code, meaning]]) => ({ exit_code, name, meaning }))
  printResult(context, { exit_codes: rows }, exitCodesText)
}
