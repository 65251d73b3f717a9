import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { type ProcessTree, processDir, spawnTree, type TreeEnd } from '../process-tree.ts'
import type { ToolDeps } from '../tool.ts'
import type { EngineLife } from './engine.ts'
import type { ComfyuiSettings } from './settings.ts'

/** Before the first start again; doubled by each that follows. */
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
/** A life of this length ends the doubling. */
const GOOD_LIFE_MS = 60_000
/** Between asking it to end and killing it. */
const TERM_MS = 5_000
/** Lines of its output that are kept, to say why it ended. */
const KEPT_LINES = 50
const LINE_CHARACTERS = 2_000

type Start = NonNullable<ComfyuiSettings['start']>
type Life = { -readonly [name in keyof EngineLife]: EngineLife[name] }

/** Keeps a ComfyUI of our own running: starts it, starts it again when it ends, and ends it with all its children. */
export class Supervisor {
  readonly #start: Start
  readonly #deps: ToolDeps
  readonly #over = new AbortController()
  readonly #lines: string[] = []
  #tree: ProcessTree | undefined
  #life: Life = { end: undefined }
  #lastEnd: string | undefined
  #loop: Promise<void> | undefined

  constructor(start: Start, deps: ToolDeps) {
    this.#start = start
    this.#deps = deps
  }

  /** Why there is no process now; undefined while there is one. */
  down(): string | undefined {
    return this.#tree === undefined ? (this.#lastEnd ?? 'ComfyUI is being started.') : undefined
  }

  /** The present process, or the last one; before the first, the one that is being started. */
  get life(): EngineLife {
    return this.#life
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
    this.#deps.log.warn({ reason }, 'comfyui.restarting')
    const tree = this.#tree
    tree?.kill()
    await tree?.ended
  }

  /** Ends it for good. Twice is harmless. */
  async stop(): Promise<void> {
    this.#over.abort()
    const tree = this.#tree
    tree?.terminate()
    const timer = setTimeout(() => tree?.kill(), TERM_MS)
    await this.#loop
    clearTimeout(timer)
  }

  async #keepRunning(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#over.signal.aborted) {
      const began = this.#deps.now()
      this.#lastEnd = await this.#runOnce().catch((error: unknown) => this.#giveUp(error))
      if (this.#over.signal.aborted) return
      this.#deps.log.warn({ reason: this.#lastEnd, last_lines: this.#lines.slice(-5) }, 'comfyui.ended')
      if (this.#deps.now() - began >= GOOD_LIFE_MS) pauseMs = FIRST_PAUSE_MS
      // The end of everything cuts the pause short, and the loop looks at that itself.
      await pause(pauseMs, undefined, { signal: this.#over.signal }).catch(() => {})
      pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
    }
  }

  /** Resolves with why it ended. */
  async #runOnce(): Promise<string> {
    const tree = spawnTree({
      program: this.#start.command,
      args: comfyuiArguments(this.#start),
      cwd: this.#start.cwd ?? '.',
      env: comfyuiEnvironment(this.#deps.env),
      recordDir: processDir(this.#deps.stateDir),
    })
    this.#tree = tree
    const life: Life = { end: undefined }
    this.#life = life
    this.#deps.log.info({ port: this.#start.port }, 'comfyui.started')
    for (const output of [tree.stdout, tree.stderr]) {
      createInterface({ input: output }).on('line', (line) => this.#keep(line.slice(0, LINE_CHARACTERS)))
    }
    const end = await tree.ended
    this.#tree = undefined
    life.end = this.#describe(end)
    return life.end
  }

  /** The system could not start it, or could not let it be watched: over, and tried again as after any other end. */
  #giveUp(error: unknown): string {
    this.#tree?.kill()
    this.#tree = undefined
    this.#life.end = `ComfyUI cannot be started: ${error instanceof Error ? error.message : String(error)}`
    return this.#life.end
  }

  #keep(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
    this.#deps.log.debug({ line }, 'comfyui.output')
  }

  #describe(end: TreeEnd): string {
    if (end.kind === 'not_started') return `ComfyUI cannot be started: ${end.error.message}`
    const how = end.kind === 'exited' ? `exit code ${end.code}` : end.signal
    const last = this.#lines.findLast((line) => line.trim() !== '')
    return `ComfyUI ended (${how})${last === undefined ? '' : `; its last line: ${last}`}`
  }
}

/** The owner's arguments; where to listen is added, unless they say so themselves. */
export function comfyuiArguments({ args, port }: Start): string[] {
  const saysWhere = args.some((argument) => argument === '--port' || argument.startsWith('--port='))
  return saysWhere ? args : [...args, '--listen', '127.0.0.1', '--port', String(port)]
}

/**
 * Everything of the agent's environment (caches, GPU drivers and allocators are set up by dozens of variables) but its
 * own settings, as they may hold its key.
 */
export function comfyuiEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const passed = Object.entries(env).flatMap(([name, value]) =>
    value === undefined || name.startsWith('CYBERUN_') ? [] : [[name, value] as const],
  )
  return { ...Object.fromEntries(passed), PYTHONUNBUFFERED: '1' }
}
