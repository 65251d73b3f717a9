import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'

/** A program that serves HTTP on a port of the loopback. */
export interface RunningApplication extends AsyncDisposable {
  readonly port: number
}

export interface ApplicationStart {
  readonly port: number
  /** The program and its words. */
  readonly command: readonly [string, ...string[]]
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** Asked for until it is answered, whatever the status. */
  readonly readyPath?: string
}

const START_MS = 90_000
const MOST_OUTPUT = 10_000

/**
 * Starts an application with a home of its own (`cwd`), so that it neither reads nor leaves anything of the user's, and
 * waits until it answers. Its whole process group ends with it.
 */
export async function startApplication(start: ApplicationStart): Promise<RunningApplication> {
  const [program, ...words] = start.command
  const child = spawn(program, words, {
    cwd: start.cwd,
    env: { ...process.env, HOME: start.cwd, ...start.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-MOST_OUTPUT)
    })
  }
  const stop = () => end(child)
  process.once('exit', stop)
  const running: RunningApplication = {
    port: start.port,
    async [Symbol.asyncDispose]() {
      process.off('exit', stop)
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit')
        stop()
        await exited
      }
    },
  }
  const url = `http://127.0.0.1:${start.port}${start.readyPath ?? '/'}`
  for (const last = performance.now() + START_MS; performance.now() < last; await delay(100)) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}:\n${output}`)
    if (await answers(url)) return running
  }
  await running[Symbol.asyncDispose]()
  throw new Error(`${program} did not answer at ${url} within ${START_MS / 1000} s:\n${output}`)
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { redirect: 'manual' })
    await response.body?.cancel()
    return true
  } catch {
    return false // Nothing listens yet.
  }
}

/** Ends the process and its group. What has a session of its own (a notebook's kernel) sees that and ends by itself. */
function end(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}
