import { spawn } from 'node:child_process'

export interface ProgramResult {
  /** The exit code, or the signal that ended it. */
  status: number | NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  input?: string | Uint8Array
  env?: Readonly<Record<string, string>>
  cwd?: string
}

/** Runs a program to its end and never throws for what it does: its caller looks at status and output. */
export async function runProgram(
  path: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<ProgramResult> {
  const child = spawn(path, args, { cwd: options.cwd, env: { ...process.env, ...options.env } })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
  child.stderr.on('data', (bytes: Buffer) => stderr.push(bytes))
  // A program that exits before it has read everything breaks the pipe; its status says why it did.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const status = await new Promise<ProgramResult['status']>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(code ?? signal))
  })
  return { status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }
}
