import { Writable } from 'node:stream'
import type { TerminalSize } from '@cyberun/protocol'

/** What a shell is started with. */
export interface PtyOptions extends TerminalSize {
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

/** How the program on a PTY ended. */
export interface PtyEnd {
  readonly code: number
  /** Its number; 0: none. */
  readonly signal: number
}

/** A program on a pseudo terminal of its own. */
export interface Pty {
  readonly pid: number
  onData(take: (bytes: Uint8Array) => void): void
  onEnd(take: (end: PtyEnd) => void): void
  /** Calls `onTaken` once the kernel took the bytes, or never will. They must stay as they are until then. */
  write(bytes: Uint8Array, onTaken: () => void): void
  resize(size: TerminalSize): void
  /** Output waits in the kernel, and then the program does. */
  pause(): void
  resume(): void
  /** Hangs up: the program is told as by a lost modem. */
  hangUp(): void
  /** Ends the program, whatever it ignores; to one of another user the kernel says that its terminal is gone. */
  kill(): void
}

/** Starts a program on a PTY. Throws when it cannot be. */
export type SpawnPty = (options: PtyOptions) => Pty

/** Loads the native part, which not every machine can. Rejects with whatever the loader says. */
export async function loadPty(): Promise<SpawnPty> {
  const { spawn } = await import('@lydell/node-pty')
  return ({ program, args, cwd, env, cols, rows }) => {
    const pty = spawn(program, [...args], { name: 'xterm-256color', cols, rows, cwd, env: { ...env }, encoding: null })
    return {
      pid: pty.pid,
      // With `encoding: null` these are bytes, which its types do not say.
      onData: (take) => void pty.onData((data: unknown) => data instanceof Uint8Array && take(data)),
      onEnd: (take) => void pty.onExit(({ exitCode, signal }) => take({ code: exitCode, signal: signal ?? 0 })),
      write(bytes, onTaken) {
        // The library's own `write` takes text only and never tells when: it would take gigabytes for a program that does
        // not read.
        const socket: unknown = Reflect.get(pty, '_socket')
        if (socket instanceof Writable && socket.writable) socket.write(bytes, () => onTaken())
        else onTaken()
      },
      resize(size) {
        try {
          pty.resize(size.cols, size.rows)
        } catch {
          // Nobody has the other end any more. That the program has ended is told later.
        }
      },
      pause: () => pty.pause(),
      resume: () => pty.resume(),
      hangUp: () => pty.kill('SIGHUP'),
      kill() {
        pty.kill('SIGKILL')
        // The library closes the terminal only once the program has ended.
        const socket: unknown = Reflect.get(pty, '_socket')
        if (socket instanceof Writable) socket.destroy()
      },
    }
  }
}
