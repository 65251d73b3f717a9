import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

/** The variable that marks every process of a tree, also one that has left its group. */
const MARK = 'CYBERUN_PROCESS_TREE'
/** A tree that forks while it is killed is looked at again, so often. */
const MOST_SWEEPS = 20

/** Where trees are recorded while they live, so that a next process of the agent can end what this one left. */
export const processDir = (stateDir: string): string => join(stateDir, 'processes')

export interface TreeOptions {
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** `processDir` of the agent. */
  readonly recordDir: string
}

/** How the first process of a tree ended. */
export type TreeEnd =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signalled'; readonly signal: NodeJS.Signals }
  | { readonly kind: 'not_started'; readonly error: NodeJS.ErrnoException }

/** A program and everything it starts. */
export interface ProcessTree {
  readonly stdout: Readable
  readonly stderr: Readable
  /** Resolves when the program has ended, whatever it started is gone, and its output is read. */
  readonly ended: Promise<TreeEnd>
  /** Asks the group to end. */
  terminate(): void
  /** Ends all of it, also what has left the group. */
  kill(): void
}

/** Names everything that is started with `variables` in its environment, and whatever that starts in turn. */
export interface TreeMark {
  readonly variables: Readonly<Record<string, string>>
  /** Kills every process that has the mark. Only Linux shows environments; elsewhere this finds none. */
  kill(): Promise<void>
  /** The tree is gone: a next process of the agent need not look for it. */
  forget(): void
}

/** Makes a mark and records it in `recordDir`, before anything has it: a tree without a record could not be found again. */
export function markTree(recordDir: string): TreeMark {
  const mark = randomUUID()
  const record = join(recordDir, mark)
  mkdirSync(recordDir, { recursive: true, mode: 0o700 })
  writeFileSync(record, '')
  return {
    variables: { [MARK]: mark },
    kill: () => killMarked(mark),
    forget() {
      try {
        rmSync(record, { force: true })
      } catch {
        // It stays where nothing can be removed: the next process of the agent looks for a tree that is gone.
      }
    },
  }
}

/**
 * Starts a program in a process group of its own, with the given environment and nothing else. What it started goes
 * when it ends, so that nothing keeps a GPU. Throws only for arguments that no process can have (NUL characters).
 */
export function spawnTree(options: TreeOptions): ProcessTree {
  const mark = markTree(options.recordDir)
  const child = spawn(options.program, options.args, {
    cwd: options.cwd,
    env: { ...options.env, ...mark.variables },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return {
    stdout: child.stdout,
    stderr: child.stderr,
    ended: endOf(child, mark).finally(() => mark.forget()),
    terminate: () => signalGroup(child.pid, 'SIGTERM'),
    kill() {
      signalGroup(child.pid, 'SIGKILL')
      void mark.kill()
    },
  }
}

async function endOf(child: ChildProcess, mark: TreeMark): Promise<TreeEnd> {
  const closed = new Promise((resolve) => child.once('close', resolve))
  const end = await new Promise<TreeEnd>((resolve) => {
    child.once('error', (error) => resolve({ kind: 'not_started', error }))
    child.once('exit', (code, signal) => {
      resolve(signal === null ? { kind: 'exited', code: code ?? 0 } : { kind: 'signalled', signal })
    })
  })
  if (end.kind === 'not_started') return end
  signalGroup(child.pid, 'SIGKILL')
  await mark.kill()
  await closed
  return end
}

/** Ends what a former process of this agent started and left behind. Resolves with how many trees those were. */
export async function killLeftovers(recordDir: string): Promise<number> {
  const marks = await readdir(recordDir).catch(() => [])
  for (const mark of marks) {
    await killMarked(mark)
    await rm(join(recordDir, mark), { force: true })
  }
  return marks.length
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // The group is gone, which is what is wanted.
  }
}

/** Kills every process whose environment has the mark. Only Linux shows environments; elsewhere the group is all. */
async function killMarked(mark: string): Promise<void> {
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    const marked = await markedProcesses(mark)
    for (const pid of marked) killOne(pid)
    if (marked.length === 0) return
  }
}

async function markedProcesses(mark: string): Promise<number[]> {
  const entries = await readdir('/proc').catch(() => [])
  const wanted = Buffer.from(`${MARK}=${mark}`)
  const found = await Promise.all(
    entries
      .filter((entry) => /^\d+$/.test(entry))
      .map(async (pid) => {
        // Gone meanwhile, or of another user: not ours either way.
        const environment = await readFile(`/proc/${pid}/environ`).catch(() => undefined)
        return environment?.includes(wanted) ? Number(pid) : undefined
      }),
  )
  return found.filter((pid) => pid !== undefined)
}

function killOne(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It was quicker.
  }
}
