import {
  type CloseReason,
  FRAME_HEADER_BYTES,
  LIMITS,
  type Limits,
  type LinkStream,
  Session,
  type SessionHost,
  type SessionRole,
  type StreamEvents,
  type StreamHandler,
  writeDataHeader,
} from '@cyberun/protocol'

export interface PairOptions {
  /** How long bytes travel, one way. */
  delayMs?: number
  /** Bytes a millisecond that each direction carries. */
  bytesPerMs?: number
  limits?: Partial<Limits>
  firstStream?: number
  onStream?: Partial<Record<SessionRole, StreamHandler>>
  greets?: boolean
}

/** Bytes arrive in pieces of this size. */
const PACKET_BYTES = 16 * 1024
/** Frames up to this size are copied, as the pump does. */
const SHORT_BYTES = 8 * 1024

/** One end of the pair, and the wire that leads away from it. */
export class End {
  readonly session: Session
  readonly goingAway: CloseReason[] = []
  readonly bugs: unknown[] = []
  closed: CloseReason | undefined
  /** While true the wire takes bytes and delivers none. */
  isBlackHole = false
  /** Whole frames in the order they were handed to the wire, by name of stream. */
  readonly sent: { stream: number; length: number; at: number }[] = []
  readonly #pair: VirtualPair
  #freeAt = 0
  #isPumping = false
  #onWire = 0

  constructor(pair: VirtualPair, role: SessionRole, options: PairOptions) {
    this.#pair = pair
    const host: SessionHost = {
      outputReady: () => this.pump(),
      takeShort: (stream, bytes) => this.#takeShort(stream, bytes),
      onHello: () => {
        if (options.greets !== false) this.session.welcome('test/1', {})
      },
      onWelcome: () => {},
      onStream: options.onStream?.[role] ?? refuse,
      onGoingAway: (reason) => this.goingAway.push(reason),
      onClosed: (reason) => {
        this.closed = reason
        this.pump()
      },
      onBug: (error) => this.bugs.push(error),
    }
    this.session = new Session({
      role,
      limits: { ...LIMITS, ...options.limits },
      now: () => pair.now,
      host,
      ...(options.firstStream !== undefined && role === 'dialler' && { firstStream: options.firstStream }),
    })
  }

  /** Gives the wire what the session lets go; a frame is written once the wire carried it. */
  pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#onWire < this.session.handoverBytes) {
      const frame = this.session.nextFrame()
      if (!frame) break
      if (frame.kind === 'control') {
        this.#carry(frame.bytes, () => {})
        continue
      }
      const { write, offset, length, stream } = frame
      const bytes = new Uint8Array(FRAME_HEADER_BYTES + length)
      writeDataHeader(bytes, 0, length, stream)
      bytes.set(write.bytes.subarray(offset, offset + length), FRAME_HEADER_BYTES)
      this.sent.push({ stream, length, at: this.#pair.now })
      this.#carry(bytes, () => write.pieceWritten())
    }
    this.#isPumping = false
  }

  #takeShort(stream: number, bytes: Uint8Array): boolean {
    if (this.#isPumping || bytes.length > SHORT_BYTES || this.#onWire >= this.session.handoverBytes) return false
    const frame = new Uint8Array(FRAME_HEADER_BYTES + bytes.length)
    writeDataHeader(frame, 0, bytes.length, stream)
    frame.set(bytes, FRAME_HEADER_BYTES)
    this.sent.push({ stream, length: bytes.length, at: this.#pair.now })
    this.#carry(frame, () => {})
    return true
  }

  /** Sends bytes that no session would. */
  inject(bytes: Uint8Array): void {
    this.#carry(bytes, () => {})
  }

  #carry(bytes: Uint8Array, written: () => void): void {
    const { bytesPerMs, delayMs } = this.#pair.wire
    this.#onWire += bytes.length
    this.#freeAt = Math.max(this.#freeAt, this.#pair.now)
    for (let at = 0; at < bytes.length; at += PACKET_BYTES) {
      const packet = bytes.subarray(at, at + PACKET_BYTES)
      this.#freeAt += packet.length / bytesPerMs
      this.#pair.at(this.#freeAt + delayMs, () => {
        if (!this.isBlackHole) this.#pair.other(this).session.receive(packet)
      })
    }
    this.#pair.at(this.#freeAt, () => {
      this.#onWire -= bytes.length
      written()
      this.pump()
    })
  }
}

const refuse: StreamHandler = (stream) => {
  stream.reset('refused')
  return undefined
}

/** Two sessions joined by a wire with a delay and a rate, in a time that only moves when it is told to. */
export class VirtualPair {
  now = 0
  readonly wire: { delayMs: number; bytesPerMs: number }
  readonly dialler: End
  readonly acceptor: End
  readonly #agenda: { at: number; order: number; run: () => void }[] = []
  #order = 0

  constructor(options: PairOptions = {}) {
    this.wire = { delayMs: options.delayMs ?? 1, bytesPerMs: options.bytesPerMs ?? 1_000_000 }
    this.dialler = new End(this, 'dialler', options)
    this.acceptor = new End(this, 'acceptor', options)
    this.dialler.session.hello('test/1', {})
    if (options.greets !== false) this.run(10 * this.wire.delayMs + 10)
  }

  at(when: number, run: () => void): void {
    const entry = { at: when, order: this.#order++, run }
    let at = this.#agenda.length
    while (at > 0 && isAfter(this.#agenda[at - 1], entry)) at--
    this.#agenda.splice(at, 0, entry)
  }

  other(end: End): End {
    return end === this.dialler ? this.acceptor : this.dialler
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    const until = this.now + ms
    for (;;) {
      const tick = Math.min(
        ...[this.dialler, this.acceptor].map((end) => Math.max(end.session.nextDeadline(), this.now)),
      )
      const next = this.#agenda[0]
      if (next && next.at <= Math.min(tick, until)) {
        this.#agenda.shift()
        this.now = Math.max(this.now, next.at)
        next.run()
      } else if (tick <= until) {
        // A timer fires a little after its time.
        this.now = tick + 0.01
        this.dialler.session.tick()
        this.acceptor.session.tick()
      } else {
        this.now = until
        return
      }
    }
  }
}

function isAfter(one: { at: number } | undefined, other: { at: number }): boolean {
  return one !== undefined && one.at > other.at
}

/** Keeps everything a stream tells, in order. */
export function recorder(): StreamEvents & { told: string[]; bytes: () => Buffer; size: number } {
  const chunks: Uint8Array[] = []
  const told: string[] = []
  const events = {
    told,
    size: 0,
    bytes: () => Buffer.concat(chunks),
    onData(chunk: { bytes: Uint8Array }) {
      chunks.push(Uint8Array.from(chunk.bytes))
      events.size += chunk.bytes.length
    },
    onEnd: () => void told.push('end'),
    onReset: (code: string) => void told.push(`reset ${code}`),
    onDrain: () => void told.push('drain'),
    onClose: () => void told.push('close'),
  }
  return events
}

/** Accepts every stream and sends back what comes, ending when the other end does. */
export const echo: StreamHandler = (stream: LinkStream) => {
  stream.accept()
  return {
    onData(chunk) {
      stream.pass(chunk)
    },
    onEnd: () => stream.end(),
    onReset() {},
    onDrain() {},
  }
}
