import type { ByteLender } from '@cyberun/protocol'

/** In front of what is read, so that the headers of a frame and of a WebSocket message can be written in place. */
export const HEADROOM_BYTES = 32

const KIB = 1024
const QUIET_BYTES = 16 * KIB
export const BUFFER_BYTES = { small: KIB / 2, medium: 64 * KIB, large: 1024 * KIB } as const
export type BufferSize = keyof typeof BUFFER_BYTES

/** How many free buffers of each size wait for their next use. */
const FREE_BUFFERS = { small: 256, medium: 16, large: 32 } as const
/** With so many large buffers in use, who wants one gets a medium one: a thousand quiet sockets were busy once. */
const LARGE_IN_USE = 64
/** While lent buffers that nobody reads into weigh more than this, pieces below `DEAR_BYTES` are copied and not lent. */
const STRETCHED_BYTES = 8 * 1024 * KIB
/**
 * A copy of more costs more than the buffer it would free. With 128 KiB the first and last piece of each read of 16 uploads
 * were copied, and a third of the server's time was making, filling and collecting the copies.
 */
const DEAR_BYTES = 16 * KIB
/** After so many reads that a quiet socket could have made, a socket is quiet. */
const SHORT_READS = 64
/** A window that reopens gives a quarter of its 1 MiB or more: smaller reads would only make smaller frames. */
const LEAST_READ_BYTES = 256 * KIB

/** Small ones come from Node's own pool, which spares the allocator a call for each. */
export function copyOf(bytes: Uint8Array): Uint8Array {
  return Buffer.from(bytes)
}

/** A buffer with several users. Whoever takes a reference releases it once; the last one gives it back to the pool. */
export class SharedBuffer {
  readonly size: BufferSize
  /** All of it, headroom included. */
  readonly bytes: Buffer
  readonly #pool: BufferPool
  #references = 0

  constructor(pool: BufferPool, size: BufferSize) {
    this.#pool = pool
    this.size = size
    // Not zeroed, so that pages nobody has read into cost nothing.
    this.bytes = Buffer.allocUnsafeSlow(HEADROOM_BYTES + BUFFER_BYTES[size])
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
  readonly #free: Record<BufferSize, SharedBuffer[]> = { small: [], medium: [], large: [] }
  readonly #orphans = new Set<SharedBuffer>()
  readonly #largeInUse = new Set<SharedBuffer>()
  #orphanBytes = 0
  /**
   * Where all quiet sockets of this thread read: a read is handed on before the next one begins, and what somebody
   * wants to keep is copied. So an idle connection has no buffer at all.
   */
  readonly quiet = Buffer.alloc(QUIET_BYTES)

  /** A buffer with one reference, the caller's. */
  take(size: BufferSize): SharedBuffer {
    const given = size === 'large' && this.#largeInUse.size >= LARGE_IN_USE ? 'medium' : size
    const buffer = this.#free[given].pop() ?? new SharedBuffer(this, given)
    if (given === 'large') this.#largeInUse.add(buffer)
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
    this.#largeInUse.delete(buffer)
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
 * Where one socket reads: into the buffer of all quiet sockets, into a large one of its own once a read fills that, and
 * back after many short reads. A busy socket so has few wake-ups (1 MiB reads: half the CPU of 256 KiB ones).
 */
export class ReadBuffers implements ByteLender {
  #isQuiet = true
  /** The buffer of our own; undefined while we read where all quiet sockets do. */
  #own: SharedBuffer | undefined
  #view: Uint8Array = buffers.quiet
  /** Where in our own buffer, which has its memory to itself, the bytes end that were read last. */
  #end = 0
  #room: (() => number) | undefined
  #shortReads = 0

  /** From now on a read takes no more than `room` says, or `LEAST_READ_BYTES`. */
  paceBy(room: () => number): void {
    this.#room = room
  }

  /** Where the next read goes: the present place again, or behind what was lent of it, or a buffer that is free. */
  next(): Uint8Array {
    if (this.#own && (this.#isQuiet || !this.#hasRoom(this.#own))) this.close()
    if (this.#isQuiet) return this.#view
    this.#own ??= buffers.take('large')
    const start = HEADROOM_BYTES + (this.#own.isSole ? 0 : this.#end)
    const most = this.#room ? Math.max(LEAST_READ_BYTES, this.#room()) : BUFFER_BYTES.large
    const length = Math.min(this.#own.bytes.length - start, most)
    if (
      this.#view.buffer !== this.#own.bytes.buffer ||
      this.#view.byteOffset !== start ||
      this.#view.length !== length
    ) {
      this.#view = this.#own.bytes.subarray(start, start + length)
    }
    return this.#view
  }

  /**
   * True when all of it is free, or half of it behind what is lent: a window of short reads would keep three times its
   * size in buffers.
   */
  #hasRoom(own: SharedBuffer): boolean {
    return own.isSole || this.#end <= own.bytes.length / 2
  }

  /** The `length` bytes that were just read. */
  filled(length: number): Uint8Array {
    if (length >= this.#view.length) {
      this.#isQuiet = false
      this.#shortReads = 0
    } else if (!this.#isQuiet) {
      this.#shortReads = length < QUIET_BYTES ? this.#shortReads + 1 : 0
      this.#isQuiet = this.#shortReads >= SHORT_READS
    }
    this.#end = this.#view.byteOffset + length
    return this.#view.subarray(0, length)
  }

  /** Bytes in front of what was just read that mean nothing. */
  get headroom(): number {
    return this.#own ? HEADROOM_BYTES : 0
  }

  lend(): () => void {
    const buffer = this.#own
    if (!buffer) throw new Error('bytes of the quiet buffer are copied, not lent')
    buffer.retain()
    return () => buffer.release()
  }

  isTooDear(bytes: number): boolean {
    return this.#own === undefined || (bytes < DEAR_BYTES && buffers.isStretched)
  }

  copy(bytes: Uint8Array): Uint8Array {
    return copyOf(bytes)
  }

  /** Lets go of the buffer of our own. */
  close(): void {
    const buffer = this.#own
    this.#own = undefined
    this.#view = buffers.quiet
    if (buffer?.isSole) buffer.release()
    else if (buffer) buffers.orphan(buffer)
  }
}
