import { setImmediate } from 'node:timers/promises'
import { CommanderError } from 'commander'
import type { Context } from './context.ts'
import { CliError } from './errors.ts'
import { EXIT_CODES, type ExitName } from './exit-codes.ts'
import { createProgram } from './program.ts'

/** Of the process, what commands use. */
type ProcessLike = Pick<NodeJS.Process, 'argv' | 'execPath' | 'env' | 'stdin' | 'stdout' | 'stderr' | 'cwd'>

/** Runs one command and resolves with the exit code. The only place that reads arguments, environment and clock. */
export async function main(process: ProcessLike): Promise<number> {
  const unread = new AbortController()
  const context: Context = {
    env: process.env,
    cwd: process.cwd(),
    program: [process.execPath, ...process.argv.slice(1, 2)],
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    json: process.argv.includes('--json'),
    unread: unread.signal,
    now: Date.now,
  }
  let unwritten: NodeJS.ErrnoException | undefined
  context.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // A reader may go when it has seen enough; anything else, a full disk say, loses what was asked for.
    if (error.code !== 'EPIPE') unwritten ??= error
    unread.abort()
  })
  context.stderr.on('error', () => {}) // whoever read it has gone
  let exit: ExitName | number = 'ok'
  const program = createProgram(context, (ended) => {
    exit = ended
  })
  try {
    await program.parseAsync(process.argv)
  } catch (error) {
    exit = await endBy(context, error)
  }
  // What failed to be written is told of a moment later.
  await setImmediate()
  if (unwritten) exit = await endBy(context, outputError(unwritten))
  return typeof exit === 'number' ? exit : EXIT_CODES[exit][0]
}

/** How the process exits for what was thrown. Commander throws for help too, which fails only in place of a command. */
async function endBy(context: Context, error: unknown): Promise<ExitName> {
  if (error instanceof CommanderError && error.exitCode === 0) return 'ok'
  if (error instanceof CommanderError && error.code === 'commander.help') return 'usage'
  // Brings the API's client with it, which help need not wait for.
  const { reportFailure } = await import('./failure.ts')
  return reportFailure(context, error instanceof CommanderError ? usageError(error) : error)
}

function outputError(cause: NodeJS.ErrnoException): CliError {
  const message = `what this command prints could not all be written: ${cause.code ?? cause.message}`
  return new CliError('failed', 'output_failed', message, { cause })
}

function usageError(error: CommanderError): CliError {
  const message = error.message.replace(/^error: /, '').replace(/\n\((.*)\)$/, '. $1')
  const advice = message.endsWith('?') ? '' : '; see "cyberun help"'
  return new CliError('usage', 'usage', `${message.replace(/\.$/, '')}${advice}`)
}
