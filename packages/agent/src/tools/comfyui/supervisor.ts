import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Log } from '@cyberun/link/log'
import type { ComfyuiSettings } from './settings.ts'

/** Before the first start again; doubled by each that follows. */
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
/** A life of this length ends the doubling. */
const GOOD_LIFE_MS = 60_000
/** Between asking it to end and killing it. */
const TERM_MS = 5_000
/** Lines of its output that are kept, to say why it ended. */
const KEPT_LINES = 200
const LINE_CHARACTERS = 2_000

export interface SupervisorOptions {
  readonly start: NonNullable<ComfyuiSettings['start']>
  readonly log: Log
  now(): number
}

/** Keeps a ComfyUI of our own running: starts it, starts it again when it ends, and ends it with all its children. */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #over = new AbortController()
  readonly #lines: string[] = []
  #child: ChildProcess | undefined
  #lastEnd: string | undefined
  #loop: Promise<void> | undefined

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** The last lines that it printed. */
  get lines(): readonly string[] {
    return this.#lines
  }

  /** Why there is no process now; undefined while there is one. */
  down(): string | undefined {
    return this.#child === undefined ? (this.#lastEnd ?? 'ComfyUI is being started.') : undefined
  }

  /** Why the last one ended; undefined before one did. */
  get lastEnd(): string | undefined {
    return this.#lastEnd
  }

  /** Starts it, once. */
  begin(): void {
    this.#loop ??= this.#keepRunning()
  }

  /** Ends the present process, if there is one; the next is started after the usual pause. */
  async restart(reason: string): Promise<void> {
    this.#options.log.warn({ reason }, 'comfyui.restarting')
    if (this.#child !== undefined) await endTree(this.#child, 0)
  }

  /** Ends it for good. Twice is harmless. */
  async stop(): Promise<void> {
    this.#over.abort()
    if (this.#child !== undefined) await endTree(this.#child, TERM_MS)
    await this.#loop
  }

  async #keepRunning(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#over.signal.aborted) {
      const began = this.#options.now()
      this.#lastEnd = await this.#runOnce()
      if (this.#over.signal.aborted) return
      this.#options.log.warn({ reason: this.#lastEnd, last_lines: this.#lines.slice(-5) }, 'comfyui.ended')
      if (this.#options.now() - began >= GOOD_LIFE_MS) pauseMs = FIRST_PAUSE_MS
      await this.#pause(pauseMs)
      pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
    }
  }

  /** Resolves with why it ended. */
  async #runOnce(): Promise<string> {
    const { start, log } = this.#options
    const child = spawn(start.command, comfyuiArguments(start), {
      ...(start.cwd !== undefined && { cwd: start.cwd }),
      env: childEnvironment(),
      // Its own process group, so that everything it starts can be ended with it.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const output of [child.stdout, child.stderr])
      createInterface({ input: output }).on('line', (line) => this.#keep(line))
    try {
      await once(child, 'spawn')
    } catch (error) {
      return `${start.command} cannot be started: ${(error as Error).message}`
    }
    log.info({ pid: child.pid, port: start.port }, 'comfyui.started')
    this.#child = child
    const [code, signal] = await once(child, 'exit')
    this.#child = undefined
    const last = this.#lines.at(-1)
    return `ComfyUI ended (${signal ?? `exit code ${code}`})${last === undefined ? '' : `; its last line: ${last}`}`
  }

  #keep(line: string): void {
    this.#lines.push(line.slice(0, LINE_CHARACTERS))
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
    this.#options.log.debug({ line: line.slice(0, LINE_CHARACTERS) }, 'comfyui.output')
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#over.signal.addEventListener(
        'abort',
        () => {
          clearTimeout(timer)
          resolve()
        },
        { once: true },
      )
    })
  }
}

/** The owner's arguments; where to listen is added, unless they say so themselves. */
export function comfyuiArguments({ args, port }: SupervisorOptions['start']): string[] {
  const saysWhere = args.some((argument) => argument === '--port' || argument.startsWith('--port='))
  return saysWhere ? args : [...args, '--listen', '127.0.0.1', '--port', String(port)]
}

/** The agent's own settings hold its key: they are none of ComfyUI's business. */
function childEnvironment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('CYBERUN_'))
  return { ...Object.fromEntries(own), PYTHONUNBUFFERED: '1' }
}

async function endTree(child: ChildProcess, patienceMs: number): Promise<void> {
  const ended = child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : once(child, 'exit')
  if (patienceMs > 0) signalGroup(child, 'SIGTERM')
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), patienceMs)
  await ended
  clearTimeout(timer)
  // The parent may be gone before its children.
  signalGroup(child, 'SIGKILL')
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal)
  } catch (error) {
    // ESRCH: nobody of the group is left.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
