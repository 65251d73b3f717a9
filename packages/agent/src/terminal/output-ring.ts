/** The last bytes of a shell's output, by their positions since its first byte. */
export class OutputRing {
  readonly #bytes: Buffer
  readonly #onDropped: (bytes: Uint8Array) => void
  #end = 0

  /** `onDropped` sees what is overwritten, in order, valid during the call only. */
  constructor(capacityBytes: number, onDropped: (bytes: Uint8Array) => void) {
    this.#bytes = Buffer.allocUnsafe(capacityBytes)
    this.#onDropped = onDropped
  }

  /** Position of the oldest byte that is kept. */
  get start(): number {
    return Math.max(0, this.#end - this.#bytes.length)
  }

  /** Position of the next byte that comes. */
  get end(): number {
    return this.#end
  }

  append(bytes: Uint8Array): void {
    const capacity = this.#bytes.length
    for (let from = 0; from < bytes.length; ) {
      const at = this.#end % capacity
      const piece = bytes.subarray(from, from + capacity - at)
      if (this.#end >= capacity) this.#onDropped(this.#bytes.subarray(at, at + piece.length))
      this.#bytes.set(piece, at)
      this.#end += piece.length
      from += piece.length
    }
  }

  /** What is kept from `position` on, at most `most` bytes, in memory of its own. `position` is not before `start`. */
  read(position: number, most: number): Uint8Array {
    const capacity = this.#bytes.length
    const length = Math.min(most, this.#end - position)
    const at = position % capacity
    const first = this.#bytes.subarray(at, Math.min(at + length, capacity))
    return Uint8Array.from(
      first.length === length ? first : Buffer.concat([first, this.#bytes.subarray(0, length - first.length)]),
    )
  }
}
