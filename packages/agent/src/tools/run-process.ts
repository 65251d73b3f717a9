import { readLines } from './lines.ts'
import { type ProcessTree, spawnTree, type TreeEnd, type TreeOptions } from './process-tree.ts'
import type { Outcome, Run } from './tool.ts'

/** What a program's output is looked at for. True when the text is no log line. */
export type OutputWatcher = (text: string) => boolean

/** How a program ended, with the last thing it said to standard error, or else to standard output. */
export type ProgramEnd = { readonly kind: 'cancelled' } | { readonly kind: 'ended'; end: TreeEnd; lastLine: string }

const LAST_LINE_CHARACTERS = 300

/** Runs a program as a part of `run`: its lines are the run's log, the cancel ladder is the program's. */
export async function runProgram(
  run: Run,
  options: TreeOptions,
  watch: OutputWatcher,
  signal: AbortSignal,
): Promise<ProgramEnd> {
  if (signal.aborted) return { kind: 'cancelled' }
  const tree = spawnTree(options)
  const last = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    readLines(
      tree[stream],
      (line) => {
        if (watch(line)) return
        if (line.trim() !== '') last[stream] = line.slice(0, LAST_LINE_CHARACTERS)
        run.log(stream, line)
      },
      (text) => void watch(text),
    )
  }
  const unlisten = climb(run, tree, signal)
  try {
    const end = await tree.ended
    return signal.aborted ? { kind: 'cancelled' } : { kind: 'ended', end, lastLine: last.stderr || last.stdout }
  } finally {
    unlisten()
  }
}

/** Asked, asked again, killed: as the run is. */
function climb(run: Run, tree: ProcessTree, signal: AbortSignal): () => void {
  const asked = (): void => tree.terminate()
  const killed = (): void => tree.kill()
  signal.addEventListener('abort', asked, { once: true })
  run.again.addEventListener('abort', asked, { once: true })
  run.kill.addEventListener('abort', killed, { once: true })
  return () => {
    signal.removeEventListener('abort', asked)
    run.again.removeEventListener('abort', asked)
    run.kill.removeEventListener('abort', killed)
  }
}

/** Why a program is no success; undefined when it is one. `name` is how the task's owner knows it. */
export function failureOfProgram(name: string, { end, lastLine }: ProgramEnd & { kind: 'ended' }): Outcome | undefined {
  const said = lastLine === '' ? '' : ` Its last line: ${lastLine}`
  switch (end.kind) {
    case 'exited':
      if (end.code === 0) return undefined
      return failed('exit_code', `${name} ended with exit code ${end.code}.${said}`, 'tool')
    case 'signalled': {
      const hint = end.signal === 'SIGKILL' ? ' The machine may have run out of memory.' : ''
      return failed('killed', `${name} was ended by ${end.signal}.${hint}${said}`, 'tool')
    }
    case 'not_started':
      // Its owner has to mend that; another machine may have what is missing here.
      return failed('program_missing', `${name} could not be started on this agent: ${end.error.code}.`, 'missing')
  }
}

function failed(code: string, message: string, fault: 'tool' | 'missing'): Outcome {
  return { kind: 'failed', code, message, fault }
}
