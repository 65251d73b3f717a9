/** Frames that wait to be sent before any data, bounded in bytes. */
export class ControlQueue {
  readonly #limitBytes: number
  readonly #frames: Uint8Array[] = []
  #bytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** False when the bound is passed: the peer makes us answer and does not read. */
  push(frame: Uint8Array): boolean {
    this.#frames.push(frame)
    this.#bytes += frame.length
    return this.#bytes <= this.#limitBytes
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0
  }

  take(): Uint8Array | undefined {
    const frame = this.#frames.shift()
    if (frame) this.#bytes -= frame.length
    return frame
  }
}
