import type { Chunk } from './stream.ts'

/** Whoever gave us the bytes that are being received, and can keep them from being overwritten. */
export interface ByteLender {
  /** Keeps the bytes of this delivery valid until the returned function is called. */
  lend(): () => void
  /** True when a piece this short should be copied: it would keep a large buffer from its next use. */
  isTooDear(bytes: number): boolean
  /** The same bytes where nobody writes over them. */
  copy(bytes: Uint8Array): Uint8Array
}

/** The stream that a delivery belongs to. */
export interface ReadingStream {
  /** Bytes delivered were consumed. */
  consumed(bytes: number): void
}

/** One delivery. What `hold` returns may be called twice; it counts once. */
export class DeliveredChunk implements Chunk {
  bytes: Uint8Array
  headroom: number
  readonly #lender: ByteLender | undefined
  readonly #stream: ReadingStream
  #isHeld = false

  constructor(bytes: Uint8Array, headroom: number, lender: ByteLender | undefined, stream: ReadingStream) {
    this.bytes = bytes
    this.headroom = headroom
    this.#lender = lender
    this.#stream = stream
  }

  hold(): () => void {
    if (this.#isHeld) throw new Error('a chunk is held once')
    this.#isHeld = true
    const giveBack = this.#keep()
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      giveBack?.()
      this.#stream.consumed(this.bytes.length)
    }
  }

  /** The call that delivered it is over: without a hold, it is consumed. */
  delivered(): void {
    if (!this.#isHeld) this.#stream.consumed(this.bytes.length)
  }

  #keep(): (() => void) | undefined {
    const lender = this.#lender
    if (!lender?.isTooDear(this.bytes.length)) return lender?.lend()
    this.bytes = lender.copy(this.bytes)
    this.headroom = 0
    return undefined
  }
}
