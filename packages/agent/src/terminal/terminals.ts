import { randomBytes } from 'node:crypto'
import type { LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { encodeShellFrame, type TerminalAttach, type TerminalRefusal } from '@cyberun/protocol'
import { inTime } from '../in-time.ts'
import type { Env } from '../proxy.ts'
import { markTree } from '../tools/process-tree.ts'
import { type ShellCommand, shellCommand, TerminalSettingsError } from './account.ts'
import { endLeftoverShells, shellDir } from './leftovers.ts'
import { SHELL_LIMITS } from './limits.ts'
import { loadPty, type SpawnPty } from './pty.ts'
import type { TerminalSettings } from './settings.ts'
import { Shell } from './shell.ts'
import { type FrameTaker, listenForFrames } from './shell-viewer.ts'

/** The shells of this machine, as the rest of the agent sees them. */
export interface Terminals {
  /** Whether shells can be opened here: what the hello says. */
  readonly isOffered: boolean
  /** Owns a stream of kind `terminal`. */
  onStream(stream: LinkStream): void
  /** Ends shells that nobody looks at, and forgets those that have ended. */
  sweep(): void
  /** Ends every shell. Twice is harmless. */
  stop(): Promise<void>
}

export interface TerminalsOptions {
  readonly settings: TerminalSettings
  readonly stateDir: string
  /** The agent's own environment; of it shells get what a program needs, and no secret. */
  readonly env: Env
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly log: Log
}

const NONE: Terminals = {
  isOffered: false,
  onStream: (stream) => stream.reset('refused'),
  sweep() {},
  stop: () => Promise.resolve(),
}

/**
 * Gets ready to open shells, when the owner has allowed it. What stands in the way is one line in the log, and the agent
 * then does everything else. Never rejects.
 */
export async function startTerminals(options: TerminalsOptions): Promise<Terminals> {
  const { settings, stateDir, env, log } = options
  await endLeftoverShells(stateDir)
  if (settings === false) return NONE
  try {
    const command = await shellCommand(settings, env)
    const spawn = await loadPty()
    log.info({ user: command.user }, 'terminal.offered')
    return createTerminals(options, command, spawn)
  } catch (error) {
    if (error instanceof TerminalSettingsError) log.error({ hint: error.message }, 'terminal.not_offered')
    else {
      const hint =
        'the native part of @lydell/node-pty does not load here: it exists for Linux with glibc and for macOS'
      log.error({ hint, error }, 'terminal.not_offered')
    }
    return NONE
  }
}

/** The shells, each started with `command` on a PTY of `spawn`. */
export function createTerminals(
  { stateDir, now, log }: Pick<TerminalsOptions, 'stateDir' | 'now' | 'log'>,
  command: ShellCommand,
  spawn: SpawnPty,
): Terminals {
  const shells = new Map<string, Shell>()
  let isStopped = false

  function open(attach: TerminalAttach): Shell | TerminalRefusal {
    if (shells.size >= SHELL_LIMITS.shells) return 'too_many'
    const mark = markTree(shellDir(stateDir))
    const size = { cols: attach.cols, rows: attach.rows }
    try {
      const pty = spawn({ ...command, env: { ...command.env, ...mark.variables }, ...size })
      const shell = new Shell(randomBytes(16).toString('hex'), attach, pty, mark, now)
      shells.set(shell.id, shell)
      log.info({ shell: shell.id, pid: pty.pid, user: command.user, shells: shells.size }, 'terminal.shell_started')
      void shell.ended.then(() => log.info({ shell: shell.id, ...shell.exit }, 'terminal.shell_ended'))
      return shell
    } catch (error) {
      mark.forget()
      log.error({ error, program: command.program }, 'terminal.shell_failed')
      return 'failed'
    }
  }

  function attach(stream: LinkStream, asked: TerminalAttach): FrameTaker | undefined {
    const known = asked.shell === undefined ? open(asked) : shells.get(asked.shell)
    if (typeof known === 'string') return refuse(stream, known)
    if (known?.scope !== asked.scope) return refuse(stream, 'unknown_shell')
    return known.isFull ? refuse(stream, 'too_many') : known.attach(stream, asked)
  }

  function endScope(scope: string): void {
    for (const shell of shells.values()) {
      if (shell.scope !== scope && shell.right !== scope) continue
      shell.cutViewers()
      shell.hangUp()
    }
  }

  const sweep = (): void => {
    for (const [id, shell] of shells) {
      if (!shell.isOver(now())) continue
      if (shell.exit) shells.delete(id)
      else shell.hangUp()
    }
  }
  const timer = setInterval(sweep, SHELL_LIMITS.sweepMs)
  timer.unref()

  return {
    isOffered: true,
    onStream(stream) {
      if (isStopped) {
        stream.reset('refused')
        return
      }
      let viewer: FrameTaker | undefined
      let isAnswered = false
      const first: FrameTaker = {
        take(frame) {
          if (isAnswered) {
            // A stream is for one answer, and was ended with it.
            stream.reset('internal')
            return
          }
          isAnswered = true
          if (frame.type === 'attach') viewer = attach(stream, frame.attach)
          else if (frame.type === 'end_scope') {
            endScope(frame.scope)
            stream.end()
          } else stream.reset('internal')
        },
        onDrain() {},
        onOver: () => stream.end(),
      }
      listenForFrames(stream, () => viewer ?? first)
      stream.accept()
    },
    sweep,
    async stop() {
      isStopped = true
      clearInterval(timer)
      const all = [...shells.values()]
      shells.clear()
      for (const shell of all) {
        shell.hangUp()
        shell.cutViewers()
      }
      // A program of another user, as of `sudo`, may go on in spite of all.
      await inTime(Promise.all(all.map(({ ended }) => ended)), SHELL_LIMITS.stopMs)
    },
  }
}

const WHY = {
  unknown_shell: 'This shell has ended, or was never yours.',
  too_many: `A machine has at most ${SHELL_LIMITS.shells} shells, and a shell ${SHELL_LIMITS.viewers} viewers: end one first.`,
  failed: 'The shell could not be started: the log of the agent says why.',
} as const satisfies Record<TerminalRefusal, string>

function refuse(stream: LinkStream, reason: TerminalRefusal): undefined {
  stream.write(encodeShellFrame({ type: 'refused', reason, message: WHY[reason] }))
  stream.end()
  return undefined
}
