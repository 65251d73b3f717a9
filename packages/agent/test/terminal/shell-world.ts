import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import {
  type Chunk,
  decodeShellFrame,
  encodeViewerFrame,
  type LinkStream,
  type ResetCode,
  type ShellFrame,
  type StreamEvents,
  type TerminalAttach,
  TerminalFrameReader,
  type TerminalSize,
  type ViewerFrame,
} from '@cyberun/protocol'
import type { Pty, PtyEnd, PtyOptions } from '../../src/terminal/pty.ts'
import { createTerminals, type Terminals } from '../../src/terminal/terminals.ts'

/** A program that says what the test has it say. */
export class FakePty implements Pty {
  readonly pid = 4711
  readonly options: PtyOptions
  readonly sizes: TerminalSize[] = []
  typed = ''
  isPaused = false
  hangUps = 0
  /** While set, what is typed is not taken. */
  isDeaf = false
  readonly #untaken: (() => void)[] = []
  #onData: (bytes: Uint8Array) => void = () => {}
  #onEnd: (end: PtyEnd) => void = () => {}

  constructor(options: PtyOptions) {
    this.options = options
  }
  onData(take: (bytes: Uint8Array) => void): void {
    this.#onData = take
  }
  onEnd(take: (end: PtyEnd) => void): void {
    this.#onEnd = take
  }
  write(bytes: Uint8Array, onTaken: () => void): void {
    this.typed += Buffer.from(bytes).toString('latin1')
    if (this.isDeaf) this.#untaken.push(onTaken)
    else onTaken()
  }
  resize(size: TerminalSize): void {
    this.sizes.push(size)
  }
  pause(): void {
    this.isPaused = true
  }
  resume(): void {
    this.isPaused = false
  }
  kill(): void {}
  hangUp(): void {
    this.hangUps++
    this.end({ code: 0, signal: 1 })
  }
  say(text: string | Uint8Array): void {
    this.#onData(typeof text === 'string' ? Buffer.from(text) : text)
  }
  end(end: PtyEnd): void {
    this.#onEnd(end)
  }
}

/** The server's end of a stream of kind `terminal`, and what came over it. */
export class FakeStream implements LinkStream {
  readonly id = 1
  readonly init = { target: { kind: 'terminal' }, priority: 'terminal' } as const
  readonly accepted = Promise.resolve()
  readonly queuedBytes = 0
  readonly frames: ShellFrame[] = []
  /** Every byte of output, in order; starts anew when the viewer is told to clear its screen. */
  screen = ''
  /** While set, the link takes nothing. */
  isBlocked = false
  resetBy: ResetCode | undefined
  hasEnded = false
  readonly #reader = new TerminalFrameReader()
  #events: StreamEvents | undefined

  listen(events: StreamEvents): void {
    this.#events = events
  }
  accept(): void {}
  write(bytes: Uint8Array): boolean {
    if (this.resetBy || this.hasEnded) return true
    for (const whole of this.#reader.push(bytes)) {
      const frame = decodeShellFrame(Uint8Array.from(whole))
      if (!frame) throw new Error('the agent wrote what nobody can read')
      this.frames.push(frame)
      if (frame.type === 'output') this.screen += Buffer.from(frame.bytes).toString('latin1')
      if (frame.type === 'attached' && frame.attached.is_reset) this.screen = frame.attached.prefix
    }
    return !this.isBlocked
  }
  pass({ bytes }: Chunk): boolean {
    return this.write(bytes)
  }
  end(): void {
    this.hasEnded = true
  }
  reset(code: ResetCode): void {
    this.resetBy ??= code
  }

  send(frame: ViewerFrame): void {
    this.sendBytes(encodeViewerFrame(frame))
  }
  sendBytes(bytes: Uint8Array): void {
    this.#events?.onData({ bytes, headroom: 0, hold: () => () => {} })
  }
  /** The link takes bytes again. */
  unblock(): void {
    this.isBlocked = false
    this.#events?.onDrain()
  }
  /** The link is lost, or the server reset the stream. */
  lose(): void {
    this.resetBy = 'link_lost'
    this.#events?.onReset('link_lost')
  }

  last<T extends ShellFrame['type']>(type: T): Extract<ShellFrame, { type: T }> {
    const found = this.frames.findLast((frame) => frame.type === type)
    if (!found) throw new Error(`no ${type} came`)
    return found as Extract<ShellFrame, { type: T }>
  }
}

export interface ShellWorld extends Disposable {
  readonly terminals: Terminals
  readonly ptys: FakePty[]
  /** The clock, in milliseconds. */
  clock: { now: number }
  /** Looks at a shell, a new one unless `attach` names one. */
  look(attach?: Partial<TerminalAttach>): FakeStream
  /** The PTY of the shell made last. */
  readonly pty: FakePty
}

export const ATTACH: TerminalAttach = { scope: 'user:1', viewer: 'viewer-1', cols: 80, rows: 24 }

export function shellWorld(): ShellWorld {
  const stateDir = mkdtempSync(join(tmpdir(), 'cyberun-shells-'))
  const ptys: FakePty[] = []
  const clock = { now: 0 }
  const command = { program: '/bin/sh', args: [], cwd: '/', env: { TERM: 'xterm-256color' }, user: 'studio' }
  const terminals = createTerminals(
    { stateDir, now: () => clock.now, log: createLog({ level: 'silent', format: 'json' }) },
    command,
    (options) => {
      const pty = new FakePty(options)
      ptys.push(pty)
      return pty
    },
  )
  return {
    terminals,
    ptys,
    clock,
    look(attach = {}) {
      const stream = new FakeStream()
      terminals.onStream(stream)
      stream.send({ type: 'attach', attach: { ...ATTACH, ...attach } })
      return stream
    },
    get pty() {
      const pty = ptys.at(-1)
      if (!pty) throw new Error('no shell was started')
      return pty
    },
    [Symbol.dispose]() {
      void terminals.stop()
      rmSync(stateDir, { recursive: true, force: true })
    },
  }
}
