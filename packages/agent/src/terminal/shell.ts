import { constants } from 'node:os'
import type { LinkStream } from '@cyberun/link'
import { TERMINAL_LIMITS, type TerminalAttach, type TerminalSize } from '@cyberun/protocol'
import type { TreeMark } from '../tools/process-tree.ts'
import { SHELL_LIMITS } from './limits.ts'
import { OutputRing } from './output-ring.ts'
import type { Pty, PtyEnd } from './pty.ts'
import { type InputCount, type OutputSource, ShellViewer } from './shell-viewer.ts'
import { TerminalModes } from './terminal-modes.ts'

/** What a terminal may answer by itself: what it is (a VT100), that it is well, and where its cursor stands. */
const REPORTS = /^\[(?:\?1;2c|0n|\d{1,3};\d{1,4}R)$/
const ESC = 0x1b

/** A shell on a PTY, with everybody who looks at it. It lives on while nobody does. */
export class Shell implements OutputSource {
  readonly id: string
  readonly scope: string
  /** What it was started by, when that can end alone. */
  readonly right: string | undefined
  readonly #pty: Pty
  readonly #mark: TreeMark
  readonly #now: () => number
  /** In the order in which they came. */
  readonly #viewers = new Set<ShellViewer>()
  /** Whose size it has, and whose terminal answers: who typed last, or else came first. */
  #leader: ShellViewer | undefined
  #size: TerminalSize
  readonly #inputs = new Map<string, InputCount>()
  /** What was dropped from the ring has set these. */
  readonly #modesBefore = new TerminalModes()
  readonly #modesNow = new TerminalModes()
  readonly #ring = new OutputRing(SHELL_LIMITS.ringBytes, (bytes) => this.#modesBefore.feed(bytes))
  /** Output before this was sent to somebody, whose terminal answered what it asked. */
  #shownTo = 0
  #isPaused = false
  #isHangingUp = false
  #leftAt: number
  #endedAt: number | undefined
  exit: OutputSource['exit']
  readonly #ended = Promise.withResolvers<void>()

  constructor(id: string, { scope, right, cols, rows }: TerminalAttach, pty: Pty, mark: TreeMark, now: () => number) {
    this.id = id
    this.scope = scope
    this.right = right
    this.#pty = pty
    this.#size = { cols, rows }
    this.#mark = mark
    this.#now = now
    this.#leftAt = now()
    pty.onData((bytes) => this.#onOutput(bytes))
    pty.onEnd((end) => void this.#onEnd(end))
  }

  get start(): number {
    return this.#ring.start
  }
  get end(): number {
    return this.#ring.end
  }
  /** Resolves when the program and whatever it started are gone. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }
  get isFull(): boolean {
    return this.#viewers.size >= SHELL_LIMITS.viewers
  }

  read(position: number, most: number): Uint8Array {
    return this.#ring.read(position, most)
  }

  redraw(): { position: number; prefix: string } {
    const modes = this.#modesBefore.copy()
    let position = this.start
    // What is kept may begin in the middle of a sequence, of which a hostile one has no end.
    const head = this.#ring.read(position, SHELL_LIMITS.outputBytes)
    for (const byte of modes.isBetween ? [] : head) {
      modes.feed(Uint8Array.of(byte))
      position++
      if (modes.isBetween) break
    }
    // Nor in the middle of a character (UTF-8's later bytes are 10xxxxxx).
    const next = position === 0 ? [] : this.#ring.read(position, 3)
    for (const byte of next) {
      if ((byte & 0xc0) !== 0x80) break
      position++
    }
    return { position, prefix: modes.prefix }
  }

  /** Takes a viewer in; an older connection of the same one is over. */
  attach(stream: LinkStream, attach: TerminalAttach): ShellViewer {
    for (const other of [...this.#viewers]) if (other.name === attach.viewer) other.cut('cancelled')
    const viewer: ShellViewer = new ShellViewer(stream, attach, this.#inputOf(attach.viewer), this, {
      onInput: (bytes, onTaken) => {
        this.#lead(viewer)
        this.#pty.write(bytes, onTaken)
      },
      onReport: (bytes) => {
        if (
          this.#leader === viewer &&
          bytes[0] === ESC &&
          REPORTS.test(Buffer.from(bytes.subarray(1)).toString('latin1'))
        ) {
          this.#pty.write(Uint8Array.from(bytes), () => {})
        }
      },
      onResize: () => {
        if (this.#leader === viewer) this.#resize(viewer.size)
      },
      onTaken: () => this.#flow(),
      onHangUp: () => this.hangUp(),
      onGone: () => this.#detach(viewer),
    })
    const isAlone = this.#viewers.size === 0
    this.#viewers.add(viewer)
    if (isAlone) this.#lead(viewer)
    // Who comes back alone was the one to answer, and could not.
    const answerFrom = isAlone && attach.position !== undefined ? attach.position : this.#shownTo
    viewer.begin(this.id, attach.position, Math.max(answerFrom, this.start), this.#size)
    if (!this.exit && this.#modesNow.isAlternateScreen && (attach.position ?? -1) < this.start) this.#askToDraw()
    this.#tellState()
    this.#flow()
    return viewer
  }

  /** Ends the program and what it started: asked first, then killed. */
  hangUp(): void {
    if (this.#isHangingUp || this.#endedAt !== undefined) return
    this.#isHangingUp = true
    this.#pty.hangUp()
    const kill = (): void => {
      // Its program may have thrown the mark away, or belong to another user by now (`exec sudo -i`).
      if (this.#endedAt === undefined) this.#pty.kill()
      void this.#mark.kill()
    }
    setTimeout(kill, SHELL_LIMITS.graceMs)
  }

  /** Nobody waits for it any more, and nobody may. */
  isOver(now: number): boolean {
    if (this.#endedAt !== undefined) return now - this.#endedAt >= SHELL_LIMITS.endedMs
    return this.#viewers.size === 0 && now - this.#leftAt >= SHELL_LIMITS.idleMs
  }

  /** Ends every viewer's connection, without a word on the shell. */
  cutViewers(): void {
    for (const viewer of [...this.#viewers]) viewer.cut('cancelled')
  }

  #onOutput(bytes: Uint8Array): void {
    this.#modesNow.feed(bytes)
    this.#ring.append(bytes)
    this.#flow()
  }

  /** Lets output on to whoever has room; the program waits while nobody has. */
  #flow(): void {
    for (const viewer of [...this.#viewers]) {
      viewer.pump(this.id, this.#size)
      this.#shownTo = Math.max(this.#shownTo, viewer.sentTo)
    }
    const least = Math.min(...[...this.#viewers].map(({ behind }) => behind))
    const mustWait = this.#viewers.size > 0 && least >= TERMINAL_LIMITS.outputWindowBytes
    if (mustWait === this.#isPaused || this.#endedAt !== undefined) return
    this.#isPaused = mustWait
    if (mustWait) this.#pty.pause()
    else this.#pty.resume()
  }

  async #onEnd({ code, signal }: PtyEnd): Promise<void> {
    this.#endedAt = this.#now()
    this.exit = signal === 0 ? { code: code & 0xff, signal: null } : { code: null, signal: signalName(signal) }
    this.#flow()
    await this.#mark.kill()
    this.#mark.forget()
    this.#ended.resolve()
  }

  #lead(viewer: ShellViewer): void {
    if (this.#leader === viewer) return
    this.#leader = viewer
    this.#resize(viewer.size)
  }

  #resize(size: TerminalSize): void {
    if (size.cols === this.#size.cols && size.rows === this.#size.rows) return
    this.#size = size
    if (this.#endedAt === undefined) this.#pty.resize(size)
    this.#tellState()
  }

  /** A program that draws the whole screen draws it anew when the size changes: for a moment it is another one. */
  #askToDraw(): void {
    const { cols, rows } = this.#size
    this.#pty.resize({ cols, rows: rows > 1 ? rows - 1 : rows + 1 })
    const back = (): void => {
      if (this.#endedAt === undefined) this.#pty.resize(this.#size)
    }
    // Two changes at once would be none to a program that compares.
    setTimeout(back, SHELL_LIMITS.otherSizeMs)
  }

  #tellState(): void {
    for (const viewer of this.#viewers) viewer.send({ type: 'state', ...this.#size, viewers: this.#viewers.size })
  }

  #detach(viewer: ShellViewer): void {
    if (!this.#viewers.delete(viewer)) return
    this.#leftAt = this.#now()
    if (this.#leader === viewer) this.#leader = [...this.#viewers].at(-1)
    this.#tellState()
    this.#flow()
  }

  #inputOf(viewer: string): InputCount {
    const count = this.#inputs.get(viewer) ?? { bytes: 0 }
    this.#inputs.delete(viewer)
    this.#inputs.set(viewer, count)
    const [oldest] = this.#inputs.keys()
    if (this.#inputs.size > SHELL_LIMITS.rememberedViewers && oldest !== undefined) this.#inputs.delete(oldest)
    return count
  }
}

/** `SIGHUP` for 1. */
function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`
}
