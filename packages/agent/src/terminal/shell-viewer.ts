import type { LinkStream } from '@cyberun/link'
import {
  decodeViewerFrame,
  encodeShellFrame,
  FieldError,
  type ResetCode,
  type ShellFrame,
  TERMINAL_LIMITS,
  type TerminalAttach,
  TerminalFrameReader,
  type TerminalSize,
  type ViewerFrame,
} from '@cyberun/protocol'
import { SHELL_LIMITS } from './limits.ts'

/** What a viewer reads from: its shell, as far as it is its business. */
export interface OutputSource {
  readonly start: number
  readonly end: number
  /** Set once the program has ended: after the last byte every viewer is told. */
  readonly exit: { code: number | null; signal: string | null } | undefined
  read(position: number, most: number): Uint8Array
  /** What a viewer at no position it can go on from is told: from where, and with which modes. */
  redraw(): { position: number; prefix: string }
}

/** What a viewer tells its shell. */
export interface ViewerEvents {
  onInput(bytes: Uint8Array, onTaken: () => void): void
  onReport(bytes: Uint8Array): void
  onResize(size: TerminalSize): void
  /** It has read something: the program may have waited for it. */
  onTaken(): void
  onHangUp(): void
  onGone(): void
}

/** Input that was taken of each viewer, by its name; shared by the connections that a viewer makes in turn. */
export interface InputCount {
  bytes: number
}

/**
 * One viewer's connection to a shell. It is sent output as fast as it takes it and the link carries it, at most
 * `outputWindowBytes` ahead of what it has taken, so a slow one holds nothing of ours and nobody else up.
 */
export class ShellViewer {
  readonly name: string
  size: TerminalSize
  readonly #stream: LinkStream
  readonly #source: OutputSource
  readonly #events: ViewerEvents
  readonly #input: InputCount
  /** Of the next byte to be sent. */
  #position = 0
  #taken = 0
  #unconfirmed = 0
  #canWrite = true
  #isOver = false

  constructor(
    stream: LinkStream,
    attach: TerminalAttach,
    input: InputCount,
    source: OutputSource,
    events: ViewerEvents,
  ) {
    this.name = attach.viewer
    this.size = { cols: attach.cols, rows: attach.rows }
    this.#stream = stream
    this.#input = input
    this.#source = source
    this.#events = events
  }

  /** How much of the output it has not taken. */
  get behind(): number {
    return this.#source.end - this.#taken
  }

  /** The position of what it has been sent up to. */
  get sentTo(): number {
    return this.#position
  }

  /** Begins at `position` when that can be gone on from, else with a redraw. */
  begin(shell: string, position: number | undefined, answerFrom: number, inForce: TerminalSize): void {
    const { start, end } = this.#source
    const goesOn = position !== undefined && position >= start && position <= end
    const from = goesOn ? { position, prefix: '' } : this.#source.redraw()
    this.#position = from.position
    this.#taken = from.position
    const attached = {
      shell,
      ...from,
      answer_from: answerFrom,
      input: this.#input.bytes,
      is_reset: !goesOn,
      ...inForce,
    }
    this.send({ type: 'attached', attached })
    this.pump(shell, inForce)
  }

  /** Sends what there is, as far as it may. */
  pump(shell: string, inForce: TerminalSize): void {
    if (this.#isOver) return
    if (this.#position < this.#source.start) {
      this.begin(shell, undefined, this.#source.end, inForce)
      return
    }
    while (this.#canWrite && this.#position < this.#source.end) {
      const room = TERMINAL_LIMITS.outputWindowBytes - (this.#position - this.#taken)
      if (room <= 0) return
      const bytes = this.#source.read(this.#position, Math.min(room, SHELL_LIMITS.outputBytes))
      this.send({ type: 'output', position: this.#position, bytes })
      this.#position += bytes.length
    }
    if (this.#source.exit && this.#position === this.#source.end) {
      this.send({ type: 'exited', ...this.#source.exit })
      this.leave()
    }
  }

  send(frame: ShellFrame): void {
    if (!this.#isOver) this.#canWrite = this.#stream.write(encodeShellFrame(frame))
  }

  /** Nothing more will be sent; what was sent still arrives. */
  leave(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#stream.end()
    this.#events.onGone()
  }

  cut(code: ResetCode): void {
    this.#stream.reset(code)
    this.#gone()
  }

  /** The stream brought a frame of the viewer. */
  take(frame: ViewerFrame): void {
    switch (frame.type) {
      case 'input':
        this.#takeInput(frame.position, frame.bytes)
        return
      case 'report':
        this.#events.onReport(frame.bytes)
        return
      case 'resize':
        this.size = { cols: frame.cols, rows: frame.rows }
        this.#events.onResize(this.size)
        return
      case 'taken':
        // Never beyond what was sent, nor back: the viewer's word moves a window of ours.
        this.#taken = Math.max(this.#taken, Math.min(frame.position, this.#position))
        this.#events.onTaken()
        return
      case 'hang_up':
        this.#events.onHangUp()
        return
      case 'ping':
        this.send({ type: 'pong', token: frame.token })
        return
      case 'attach':
      case 'end_scope':
        this.cut('internal')
        return
    }
  }

  onDrain(): void {
    this.#canWrite = true
    this.#events.onTaken()
  }

  onOver(): void {
    if (!this.#isOver) this.#stream.end()
    this.#gone()
  }

  /** Bytes that were taken before are skipped: the viewer could not know. A hole is a fault of the viewer. */
  #takeInput(position: number, bytes: Uint8Array): void {
    const known = this.#input.bytes - position
    if (known < 0) {
      this.cut('internal')
      return
    }
    const fresh = Uint8Array.from(bytes.subarray(Math.min(known, bytes.length)))
    this.#unconfirmed += fresh.length
    if (this.#unconfirmed > TERMINAL_LIMITS.inputWindowBytes) {
      this.cut('flow_control')
      return
    }
    this.#input.bytes += fresh.length
    const upTo = this.#input.bytes
    const confirm = (): void => {
      this.#unconfirmed -= fresh.length
      this.send({ type: 'received', position: upTo })
    }
    if (fresh.length === 0) confirm()
    else this.#events.onInput(fresh, confirm)
  }

  #gone(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#events.onGone()
  }
}

/** Who reads what a stream brings: whoever waits for its first frame, then its viewer. */
export interface FrameTaker {
  take(frame: ViewerFrame): void
  onDrain(): void
  onOver(): void
}

/** Reads the frames of a stream for `taker`, which may change from frame to frame. A frame out of bounds resets it. */
export function listenForFrames(stream: LinkStream, taker: () => FrameTaker): void {
  const reader = new TerminalFrameReader()
  let isOver = false
  const finish = (): void => {
    if (isOver) return
    isOver = true
    taker().onOver()
  }
  stream.listen({
    onData({ bytes }) {
      try {
        for (const bytesOfFrame of isOver ? [] : reader.push(bytes)) {
          const frame = decodeViewerFrame(bytesOfFrame)
          if (frame && !isOver) taker().take(frame)
        }
      } catch (error) {
        if (!(error instanceof FieldError)) throw error
        stream.reset('internal')
        finish()
      }
    },
    onEnd: finish,
    onReset: finish,
    onDrain: () => taker().onDrain(),
  })
}
