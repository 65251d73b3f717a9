import type { ByteLender } from '@cyberun/protocol'

/** In front of what is read, so that the headers of a frame and of a WebSocket message can be written in place. */
export const HEADROOM_BYTES = 32

const SMALL_BYTES = 16 * 1024
const BATCH_BYTES = 64 * 1024
const LARGE_BYTES = 1024 * 1024
/** How many free buffers of each size wait for their next use. */
const FREE_BUFFERS = { small: 64, batch: 32, large: 32 } as const
/** While lent buffers that nobody reads into weigh more than this, pieces below `DEAR_BYTES` are copied and not lent. */
const STRETCHED_BYTES = 8 * 1024 * 1024
/** A copy of more costs more than the buffer it would free. */
const DEAR_BYTES = 128 * 1024

export const BUFFER_BYTES = { small: SMALL_BYTES, batch: BATCH_BYTES, large: LARGE_BYTES } as const
export type BufferSize = keyof typeof BUFFER_BYTES

/** A buffer with several users. Whoever takes a reference releases it once; the last one gives it back to the pool. */
export class SharedBuffer {
  readonly size: BufferSize
  /** All of it, headroom included. */
  readonly bytes: Uint8Array
  readonly #pool: BufferPool
  #references = 0

  constructor(pool: BufferPool, size: BufferSize) {
    this.#pool = pool
    this.size = size
    // Not zeroed, so that pages nobody has read into cost nothing.
    this.bytes = new Uint8Array(Buffer.allocUnsafeSlow(HEADROOM_BYTES + BUFFER_BYTES[size]).buffer)
  }

  /** True when only one user is left: it may write into the buffer again. */
  get isSole(): boolean {
    return this.#references === 1
  }

  retain(): void {
    this.#references++
  }

  release(): void {
    if (--this.#references === 0) this.#pool.giveBack(this)
  }

  /** For the callers that want a written-callback: `release` by another name. */
  pieceWritten(): void {
    this.release()
  }
}

/** Buffers that are used again, so that reading neither allocates nor makes garbage. */
class BufferPool {
  readonly #free: Record<BufferSize, SharedBuffer[]> = { small: [], batch: [], large: [] }
  readonly #orphans = new Set<SharedBuffer>()
  #orphanBytes = 0

  /** A buffer with one reference, the caller's. */
  take(size: BufferSize): SharedBuffer {
    const buffer = this.#free[size].pop() ?? new SharedBuffer(this, size)
    buffer.retain()
    return buffer
  }

  /** Its reader goes on with another buffer, while somebody still uses this one. */
  orphan(buffer: SharedBuffer): void {
    this.#orphans.add(buffer)
    this.#orphanBytes += buffer.bytes.length
    buffer.release()
  }

  giveBack(buffer: SharedBuffer): void {
    if (this.#orphans.delete(buffer)) this.#orphanBytes -= buffer.bytes.length
    const free = this.#free[buffer.size]
    if (free.length < FREE_BUFFERS[buffer.size]) free.push(buffer)
  }

  get isStretched(): boolean {
    return this.#orphanBytes > STRETCHED_BYTES
  }
}

/** The buffers of this thread. They carry nothing from one use to the next, so one pool serves all links. */
export const buffers = new BufferPool()

/**
 * The read buffers of one socket: small while it is quiet, large once a read fills them, small again after many short
 * reads, so that an idle socket costs little and a busy one few wake-ups (1 MiB reads: half the CPU of 256 KiB ones).
 */
export class ReadBuffers implements ByteLender {
  #size: BufferSize = 'small'
  #current: SharedBuffer | undefined
  #view: Uint8Array | undefined
  #room: (() => number) | undefined
  #shortReads = 0

  /** From now on a read takes no more than `room` says, or `LEAST_READ_BYTES`. */
  paceBy(room: () => number): void {
    this.#room = room
  }

  /** Where the next read goes; the present buffer again unless it was lent. */
  next(): Uint8Array {
    if (this.#current && (!this.#current.isSole || this.#current.size !== this.#size)) this.#letGo(this.#current)
    this.#current ??= buffers.take(this.#size)
    const length = Math.min(BUFFER_BYTES[this.#size], Math.max(LEAST_READ_BYTES, this.#room?.() ?? BUFFER_BYTES.large))
    if (this.#view?.buffer !== this.#current.bytes.buffer || this.#view.length !== length) {
      this.#view = this.#current.bytes.subarray(HEADROOM_BYTES, HEADROOM_BYTES + length)
    }
    return this.#view
  }

  /** The `length` bytes that a read put into the present buffer. */
  filled(length: number): Uint8Array {
    const current = this.#current
    if (!current) throw new Error('read into no buffer')
    this.#adapt(length)
    return current.bytes.subarray(HEADROOM_BYTES, HEADROOM_BYTES + length)
  }

  lend(): () => void {
    const buffer = this.#current
    if (!buffer) throw new Error('nothing to lend')
    buffer.retain()
    return () => buffer.release()
  }

  isTooDear(bytes: number): boolean {
    return bytes < DEAR_BYTES && buffers.isStretched
  }

  /** The socket is closed: no read will come. */
  close(): void {
    if (this.#current) this.#letGo(this.#current)
  }

  #letGo(buffer: SharedBuffer): void {
    this.#current = undefined
    this.#view = undefined
    if (buffer.isSole) buffer.release()
    else buffers.orphan(buffer)
  }

  #adapt(length: number): void {
    if (length >= (this.#view?.length ?? 0)) {
      this.#size = 'large'
      this.#shortReads = 0
    } else if (this.#size === 'large') {
      this.#shortReads = length < SMALL_BYTES ? this.#shortReads + 1 : 0
      if (this.#shortReads >= SHORT_READS) this.#size = 'small'
    }
  }
}

const SHORT_READS = 64
/** A window that reopens gives a quarter of its 1 MiB or more: smaller reads would only make smaller frames. */
const LEAST_READ_BYTES = 256 * 1024
