/** What went one way through a WebSocket. */
export interface FramesCounted {
  /** Messages that are complete; one in fragments is one. */
  messages: number
  /** Bytes of what messages hold, without the heads of frames. */
  bytes: number
  /** Of the close frame: its status (RFC 6455, section 7.4), 1005 for none. Absent until one has passed. */
  closeCode?: number
}

/** Where in a frame the next byte stands. */
type Part = 'head' | 'payload' | 'lost'

const HEAD_BYTES_MAX = 14
const CLOSE = 8
const NO_STATUS = 1005

/**
 * Counts the messages of one direction of a WebSocket from the heads of their frames (RFC 6455, section 5.2), however
 * its bytes are cut. Looks at no payload but a close frame's status. What cannot be frames ends the counting, and
 * nothing else.
 */
export class FrameCounter {
  readonly counted: FramesCounted = { messages: 0, bytes: 0 }
  readonly #head = Buffer.alloc(HEAD_BYTES_MAX)
  #headLength = 0
  #part: Part = 'head'
  /** Of the frame being read. */
  #opcode = 0
  #isLast = false
  #mask: Buffer | undefined
  #payloadLength = 0
  #payloadRead = 0

  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length && this.#part !== 'lost') {
      at = this.#part === 'head' ? this.#readHead(bytes, at) : this.#readPayload(bytes, at)
    }
  }

  #readHead(bytes: Uint8Array, at: number): number {
    const missing = headBytes(this.#head, this.#headLength) - this.#headLength
    const taken = Math.min(missing, bytes.length - at)
    this.#head.set(bytes.subarray(at, at + taken), this.#headLength)
    this.#headLength += taken
    if (this.#headLength >= 2 && this.#headLength === headBytes(this.#head, this.#headLength)) this.#begin()
    return at + taken
  }

  #begin(): void {
    const [first = 0, second = 0] = this.#head
    this.#opcode = first & 0x0f
    this.#isLast = first >= 0x80
    const short = second & 0x7f
    if (short < 126) this.#payloadLength = short
    else this.#payloadLength = short === 126 ? this.#head.readUInt16BE(2) : Number(this.#head.readBigUInt64BE(2))
    this.#mask = second >= 0x80 ? this.#head.subarray(this.#headLength - 4, this.#headLength) : undefined
    const isControl = this.#opcode >= 8
    if (!Number.isSafeInteger(this.#payloadLength) || (isControl && this.#payloadLength > 125)) {
      this.#part = 'lost'
      return
    }
    this.#payloadRead = 0
    this.#part = 'payload'
    if (this.#opcode === CLOSE) this.counted.closeCode = this.#payloadLength === 0 ? NO_STATUS : 0
    if (this.#payloadLength === 0) this.#finish()
  }

  #readPayload(bytes: Uint8Array, at: number): number {
    const taken = Math.min(this.#payloadLength - this.#payloadRead, bytes.length - at)
    if (this.#opcode === CLOSE) this.#readStatus(bytes.subarray(at, at + taken))
    this.#payloadRead += taken
    if (this.#opcode < 8) this.counted.bytes += taken
    if (this.#payloadRead === this.#payloadLength) this.#finish()
    return at + taken
  }

  #readStatus(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length && this.#payloadRead + i < 2; i++) {
      const plain = (bytes[i] ?? 0) ^ (this.#mask?.[this.#payloadRead + i] ?? 0)
      this.counted.closeCode = (this.counted.closeCode ?? 0) * 256 + plain
    }
  }

  #finish(): void {
    if (this.#opcode < 8 && this.#isLast) this.counted.messages += 1
    this.#part = 'head'
    this.#headLength = 0
  }
}

/** How many bytes the head has of which `length` are known; 2 as long as those are not. */
function headBytes(head: Buffer, length: number): number {
  if (length < 2) return 2
  const second = head[1] ?? 0
  const short = second & 0x7f
  const extended = short === 126 ? 2 : short === 127 ? 8 : 0
  return 2 + extended + (second >= 0x80 ? 4 : 0)
}
