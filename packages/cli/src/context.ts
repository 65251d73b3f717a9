import type { Writable } from 'node:stream'
import { printable, printableJson } from './text.ts'

/** What a command may know of the process it runs in. Nothing below `main` reads it from anywhere else. */
export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** How this program was started: the runtime and our script. */
  readonly program: readonly string[]
  readonly stdin: NodeJS.ReadStream
  readonly stdout: Output
  readonly stderr: Output
  /** `--json`: results as JSON on stdout, errors as one JSON object on stderr. */
  readonly json: boolean
  /** Aborts when what read stdout has gone, as in `cyberun tasks events … | head -1`. */
  readonly unread: AbortSignal
  /** Milliseconds since 1970. */
  readonly now: () => number
}

export type Output = Writable & { isTTY?: boolean; columns?: number; rows?: number }

/** Prints a result: the value with `--json`, else the text that `text` makes for a person. */
export function printResult(context: Context, value: unknown, text: () => string): void {
  context.stdout.write(context.json ? `${printableJson(value)}\n` : text())
}

/** One line on stderr about what is going on; nothing with `--json`. */
export function printNote(context: Context, line: string): void {
  if (!context.json) context.stderr.write(`${printable(line)}\n`)
}
