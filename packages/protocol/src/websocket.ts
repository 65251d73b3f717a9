import { SessionFault } from './faults.ts'
import { utf8Decode, utf8Encode } from './utf8.ts'

/** Opcodes of RFC 6455, section 5.2. */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** Close codes of RFC 6455, section 7.4.1, that this software sends. */
export const WEBSOCKET_CLOSE = { normal: 1000, goingAway: 1001, protocolError: 1002, unsupported: 1003 } as const

/** Largest header: opcode and length, eight bytes of extended length, four of mask. */
export const MAX_WEBSOCKET_HEADER_BYTES = 14

const MAX_CONTROL_BYTES = 125
const NOTHING = new Uint8Array(0)

/** Four bytes of mask as one big-endian number; zero changes nothing (RFC 6455, section 5.3). */
export type Mask = number

export function websocketHeaderBytes(length: number, masked: boolean): number {
  return 2 + (length < 126 ? 0 : length < 65_536 ? 2 : 8) + (masked ? 4 : 0)
}

/** Writes a header with FIN set at `target[at]`; `mask` undefined means an unmasked frame. Returns where it ends. */
export function writeWebsocketHeader(
  target: Uint8Array,
  at: number,
  opcode: number,
  length: number,
  mask: Mask | undefined,
): number {
  const maskBit = mask === undefined ? 0 : 0x80
  let next = at
  target[next++] = 0x80 | opcode
  if (length < 126) {
    target[next++] = maskBit | length
  } else if (length < 65_536) {
    target[next++] = maskBit | 126
    target[next++] = length >>> 8
    target[next++] = length
  } else {
    target[next++] = maskBit | 127
    next = writeU32(target, next, Math.floor(length / 2 ** 32))
    next = writeU32(target, next, length)
  }
  return mask === undefined ? next : writeU32(target, next, mask)
}

/** A whole frame, for the small ones. The payload is masked in the copy. */
export function encodeWebsocketFrame(opcode: number, payload: Uint8Array, mask: Mask | undefined): Uint8Array {
  const bytes = new Uint8Array(websocketHeaderBytes(payload.length, mask !== undefined) + payload.length)
  const start = writeWebsocketHeader(bytes, 0, opcode, payload.length, mask)
  bytes.set(payload, start)
  if (mask !== undefined) applyMask(bytes.subarray(start), mask, 0)
  return bytes
}

/** The payload of a close frame. */
export function encodeClose(code: number, reason: string): Uint8Array {
  const text = utf8Encode(reason)
  const bytes = new Uint8Array(2 + Math.min(text.length, MAX_CONTROL_BYTES - 2))
  bytes[0] = code >>> 8
  bytes[1] = code
  // A cut inside a character would be invalid UTF-8, so a reason that does not fit is left out.
  if (text.length <= MAX_CONTROL_BYTES - 2) bytes.set(text, 2)
  return text.length <= MAX_CONTROL_BYTES - 2 ? bytes : bytes.subarray(0, 2)
}

/** Applies `mask` in place; `offset` is how many bytes of the same frame came before. */
export function applyMask(bytes: Uint8Array, mask: Mask, offset: number): void {
  if (mask === 0) return
  const key = [mask >>> 24, (mask >>> 16) & 0xff, (mask >>> 8) & 0xff, mask & 0xff]
  // Up to the first aligned address byte by byte, then four bytes at a time.
  const head = Math.min(bytes.length, (4 - (bytes.byteOffset & 3)) & 3)
  maskBytes(bytes, 0, head, key, offset)
  const words = (bytes.length - head) >>> 2
  if (words > 0) maskWords(new Int32Array(bytes.buffer, bytes.byteOffset + head, words), key, offset + head)
  maskBytes(bytes, head + words * 4, bytes.length, key, offset)
}

function maskWords(words: Int32Array, key: readonly number[], offset: number): void {
  const rotated = new Uint8Array(4).map((_, i) => key[(offset + i) & 3] ?? 0)
  const word = new Int32Array(rotated.buffer)[0] ?? 0
  for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) ^ word
}

function maskBytes(bytes: Uint8Array, from: number, to: number, key: readonly number[], offset: number): void {
  for (let i = from; i < to; i++) bytes[i] = (bytes[i] ?? 0) ^ (key[(offset + i) & 3] ?? 0)
}

/** Who is told what a `WebsocketReader` found. */
export interface WebsocketHandler {
  /**
   * Bytes of a binary message, in the pieces in which they arrived; borders of messages mean nothing here. The `headroom`
   * bytes in front of them were read already, so whoever owns the bytes may overwrite those.
   */
  binary(bytes: Uint8Array, headroom: number): void
  /** A text message without a character ended. One with characters is a fault. */
  emptyText(): void
  /** A ping came, to be answered with its payload. Pongs are not told: any byte is a sign of life. */
  pinged(payload: Uint8Array): void
  /** The last thing: nothing may follow a close. `code` is 1005 when the frame carried none. */
  closed(code: number, reason: string): void
}

/**
 * Reads RFC 6455 frames from bytes cut anywhere: fragments, masks and control frames between fragments. Nothing is
 * reassembled, so memory is one control frame whatever the peer announces. Masked bytes are unmasked in place. No
 * extension is ever agreed, so a reserved bit is a fault.
 */
export class WebsocketReader {
  readonly #handler: WebsocketHandler
  /** A server must get masked frames, a client unmasked ones (RFC 6455, section 5.1). */
  readonly #masked: boolean
  /** A header that did not arrive in one piece. Nearly all do, and an idle connection keeps no place for one. */
  #header: Uint8Array | undefined
  #headerFill = 0
  #opcode: number = OPCODE.binary
  #final = true
  #mask: Mask = 0
  #length = 0
  /** Payload bytes of the present frame already seen. */
  #seen = 0
  #inPayload = false
  /** The opcode of the message whose fragments are arriving. */
  #message: number | undefined
  /** The payload of control frames, made when the first comes that has one. */
  #control: Uint8Array | undefined
  #closed = false

  constructor(handler: WebsocketHandler, masked: boolean) {
    this.#handler = handler
    this.#masked = masked
  }

  /** `headroom`: so many bytes in front of `bytes` mean nothing. */
  push(bytes: Uint8Array, headroom: number): void {
    let at = 0
    let payloadEnd = -headroom
    while (at < bytes.length && !this.#closed) {
      if (!this.#inPayload) at = this.#readHeader(bytes, at)
      else payloadEnd = at = this.#readPayload(bytes, at, at - payloadEnd)
    }
  }

  #readHeader(bytes: Uint8Array, at: number): number {
    if (this.#headerFill === 0) {
      const end = at + headerBytesAt(bytes, at, bytes.length - at)
      if (end <= bytes.length) {
        this.#judge(bytes[at] ?? 0, bytes[at + 1] ?? 0)
        this.#begin(bytes, at)
        return end
      }
    }
    return this.#collectHeader(bytes, at)
  }

  #collectHeader(bytes: Uint8Array, at: number): number {
    this.#header ??= new Uint8Array(MAX_WEBSOCKET_HEADER_BYTES)
    const header = this.#header
    let from = at
    while (from < bytes.length && this.#headerFill < headerBytesAt(header, 0, this.#headerFill))
      header[this.#headerFill++] = bytes[from++] ?? 0
    if (this.#headerFill >= 2) this.#judge(header[0] ?? 0, header[1] ?? 0)
    if (this.#headerFill < headerBytesAt(header, 0, this.#headerFill)) return from
    this.#header = undefined
    this.#headerFill = 0
    this.#begin(header, 0)
    return from
  }

  #judge(first: number, second: number): void {
    const opcode = first & 0x0f
    if (first & 0x70) throw invalid('a reserved bit is set')
    if (Boolean(second & 0x80) !== this.#masked) throw invalid(this.#masked ? 'a frame without mask' : 'a masked frame')
    if (opcode >= OPCODE.close) {
      if (opcode > OPCODE.pong) throw invalid(`opcode ${opcode}`)
      if (!(first & 0x80) || (second & 0x7f) > MAX_CONTROL_BYTES) throw invalid('a fragmented or long control frame')
    } else if (opcode > OPCODE.binary) {
      throw invalid(`opcode ${opcode}`)
    } else if ((opcode === OPCODE.continuation) !== (this.#message !== undefined)) {
      throw invalid('a fragment out of place')
    }
  }

  /** The header is at `header[at]`, whole and judged. */
  #begin(header: Uint8Array, at: number): void {
    const first = header[at] ?? 0
    const short = (header[at + 1] ?? 0) & 0x7f
    let next = at + 2
    this.#length = short
    if (short === 126) {
      this.#length = ((header[next] ?? 0) << 8) | (header[next + 1] ?? 0)
      next += 2
    } else if (short === 127) {
      const high = readU32(header, next)
      if (high > 0x1fffff) throw invalid('a frame longer than 2^53 bytes')
      this.#length = high * 2 ** 32 + readU32(header, next + 4)
      next += 8
    }
    this.#mask = this.#masked ? readU32(header, next) : 0
    this.#opcode = first & 0x0f
    this.#final = (first & 0x80) !== 0
    this.#seen = 0
    this.#inPayload = this.#length > 0
    if (this.#opcode === OPCODE.text || this.#opcode === OPCODE.binary) this.#message = this.#opcode
    if (this.#message === OPCODE.text && this.#opcode < OPCODE.close && this.#length > 0) {
      throw new SessionFault('websocket_invalid', 'a text message, where only binary ones are understood')
    }
    if (this.#length === 0) this.#end()
  }

  #readPayload(bytes: Uint8Array, at: number, headroom: number): number {
    const taken = Math.min(this.#length - this.#seen, bytes.length - at)
    const piece = bytes.subarray(at, at + taken)
    applyMask(piece, this.#mask, this.#seen)
    if (this.#opcode >= OPCODE.close) {
      this.#control ??= new Uint8Array(MAX_CONTROL_BYTES)
      this.#control.set(piece, this.#seen)
    }
    this.#seen += taken
    const ended = this.#seen === this.#length
    if (ended) this.#inPayload = false
    if (this.#opcode < OPCODE.close) this.#handler.binary(piece, headroom)
    if (ended) this.#end()
    return at + taken
  }

  #end(): void {
    const payload = this.#opcode >= OPCODE.close ? (this.#control?.subarray(0, this.#length) ?? NOTHING) : NOTHING
    switch (this.#opcode) {
      case OPCODE.ping:
        this.#handler.pinged(payload)
        break
      case OPCODE.pong:
        break
      case OPCODE.close:
        this.#closed = true
        this.#readClose(payload)
        break
      default:
        this.#endFragment()
    }
  }

  #endFragment(): void {
    if (!this.#final) return
    const message = this.#message
    this.#message = undefined
    if (message === OPCODE.text) this.#handler.emptyText()
  }

  #readClose(payload: Uint8Array): void {
    if (payload.length === 0) {
      this.#handler.closed(1005, '')
      return
    }
    const code = ((payload[0] ?? 0) << 8) | (payload[1] ?? 0)
    const reason = utf8Decode(payload.subarray(2))
    if (payload.length === 1 || !isCloseCode(code) || reason === undefined) throw invalid('a malformed close')
    this.#handler.closed(code, reason)
  }
}

/** How long the header at `bytes[at]` is, as far as is known of its first `known` bytes: two tell the rest. */
function headerBytesAt(bytes: Uint8Array, at: number, known: number): number {
  if (known < 2) return 2
  const second = bytes[at + 1] ?? 0
  const length = second & 0x7f
  return 2 + (length === 127 ? 8 : length === 126 ? 2 : 0) + (second & 0x80 ? 4 : 0)
}

/** Codes that may stand in a close frame (RFC 6455, section 7.4). */
function isCloseCode(code: number): boolean {
  return (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999)
}

function invalid(what: string): SessionFault {
  return new SessionFault('websocket_invalid', `not WebSocket as RFC 6455 has it: ${what}`)
}

function writeU32(target: Uint8Array, at: number, value: number): number {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
  return at + 4
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  )
}
