const EMPTY = Buffer.alloc(0)

/** Bytes of an unfinished line or section, in one array that doubles: a head cut into single bytes costs no more. */
export class SectionBytes {
  #bytes = EMPTY
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The byte `back` places before the end, 1 being the last. */
  last(back: number): number | undefined {
    return back > this.#length ? undefined : this.#bytes[this.#length - back]
  }

  append(source: Uint8Array, from: number, to: number): void {
    const needed = this.#length + (to - from)
    if (needed > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(256, needed, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, this.#length)
      this.#bytes = grown
    }
    this.#bytes.set(source.subarray(from, to), this.#length)
    this.#length = needed
  }

  /** All that is held, then `source` from `from` to `to`, as text of one character a byte. Holds nothing afterwards. */
  take(source: Uint8Array, from: number, to: number): string {
    if (this.#length === 0) return asBuffer(source).toString('latin1', from, to)
    this.append(source, from, to)
    const text = this.#bytes.toString('latin1', 0, this.#length)
    this.clear()
    return text
  }

  /** What is held up to the first `byte`, or all of it, as text of one character a byte. */
  textUntil(byte: number): string {
    const end = this.#bytes.subarray(0, this.#length).indexOf(byte)
    return this.#bytes.toString('latin1', 0, end < 0 ? this.#length : end)
  }

  /** All that is held; nothing is held afterwards. */
  takeBytes(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#length)
    this.clear()
    return bytes
  }

  clear(): void {
    this.#bytes = EMPTY
    this.#length = 0
  }
}

/** Most are one, which spares a view of them. */
function asBuffer(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
