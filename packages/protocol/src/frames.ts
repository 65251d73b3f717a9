import { SessionFault, unreachable } from './faults.ts'
import { decodeGreeting, decodeTarget, encodeGreeting, encodeTarget, priorityOf } from './handshake.ts'
import type { Limits } from './limits.ts'
import {
  CLOSE_CODES,
  type CloseCode,
  type CloseReason,
  type Hello,
  PRIORITY,
  type Priority,
  RESET_CODES,
  type ResetCode,
  type StreamTarget,
  type Welcome,
} from './model.ts'
import { utf8Decode, utf8Encode } from './utf8.ts'

/** Type u8, length of the payload u24, stream u32; big endian, as everything on this wire. */
export const FRAME_HEADER_BYTES = 8

/** Each frame type: its number, whether it belongs to a stream, and the limit its payload must respect. */
const FRAME_TYPES = {
  hello: { number: 1, onStream: false, limit: 'handshakeBytes' },
  welcome: { number: 2, onStream: false, limit: 'handshakeBytes' },
  open: { number: 3, onStream: true, limit: 'controlFrameBytes' },
  data: { number: 4, onStream: true, limit: 'frameBytes' },
  credit: { number: 5, onStream: true, limit: 'controlFrameBytes' },
  end: { number: 6, onStream: true, limit: 'controlFrameBytes' },
  reset: { number: 7, onStream: true, limit: 'controlFrameBytes' },
  ping: { number: 8, onStream: false, limit: 'controlFrameBytes' },
  pong: { number: 9, onStream: false, limit: 'controlFrameBytes' },
  goAway: { number: 10, onStream: false, limit: 'controlFrameBytes' },
  ack: { number: 11, onStream: false, limit: 'controlFrameBytes' },
} as const satisfies Record<string, { number: number; onStream: boolean; limit: keyof Limits }>

type FrameType = keyof typeof FRAME_TYPES

/** Every frame but data, whose bytes travel apart from it. */
export type ControlFrame =
  | { type: 'hello'; hello: Hello }
  | { type: 'welcome'; welcome: Welcome }
  /** `window`: what the opener lets the other end send, in bytes. `target`: undefined when its kind is not known here. */
  | { type: 'open'; stream: number; window: number; priority: Priority; target: StreamTarget | undefined }
  | { type: 'credit'; stream: number; bytes: number }
  | { type: 'end'; stream: number }
  | { type: 'reset'; stream: number; code: ResetCode }
  | { type: 'ping'; token: number }
  | { type: 'pong'; token: number }
  | { type: 'goAway'; reason: CloseReason; deadlineMs: number }
  /** `frames`: how many stream frames (open, data, credit, end, reset) the sender of this has received. */
  | { type: 'ack'; frames: number }

const BY_NUMBER: readonly (FrameType | undefined)[] = (Object.keys(FRAME_TYPES) as FrameType[]).reduce<
  (FrameType | undefined)[]
>((table, type) => {
  table[FRAME_TYPES[type].number] = type
  return table
}, [])

const DATA = FRAME_TYPES.data.number

/** Writes the header of a data frame of `length` payload bytes at `target[at]` and the seven bytes after it. */
export function writeDataHeader(target: Uint8Array, at: number, length: number, stream: number): void {
  writeHeader(target, at, DATA, length, stream)
}

/** The frame as it goes on the wire, header and all. */
export function encodeFrame(frame: ControlFrame): Uint8Array {
  const payload = encodePayload(frame)
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.length)
  writeHeader(bytes, 0, FRAME_TYPES[frame.type].number, payload.length, 'stream' in frame ? frame.stream : 0)
  bytes.set(payload, FRAME_HEADER_BYTES)
  return bytes
}

function writeHeader(target: Uint8Array, at: number, type: number, length: number, stream: number): void {
  target[at] = type
  target[at + 1] = length >>> 16
  target[at + 2] = length >>> 8
  target[at + 3] = length
  target[at + 4] = stream >>> 24
  target[at + 5] = stream >>> 16
  target[at + 6] = stream >>> 8
  target[at + 7] = stream
}

function encodePayload(frame: ControlFrame): Uint8Array {
  switch (frame.type) {
    case 'hello':
      return encodeGreeting(frame.hello)
    case 'welcome':
      return encodeGreeting(frame.welcome)
    case 'open':
      if (!frame.target) throw new Error('an open frame needs a target that this version knows')
      return concat(u32(frame.window), Uint8Array.of(PRIORITY[frame.priority]), encodeTarget(frame.target))
    case 'credit':
      return u32(frame.bytes)
    case 'end':
      return new Uint8Array(0)
    case 'reset':
      return u32(RESET_CODES[frame.code])
    case 'ping':
    case 'pong':
      return u32(frame.token)
    case 'goAway': {
      const { code, retryAfterMs, message } = frame.reason
      return concat(u32(CLOSE_CODES[code]), u32(frame.deadlineMs), u32(retryAfterMs ?? 0), utf8Encode(message))
    }
    case 'ack':
      return concat(u32(Math.floor(frame.frames / 2 ** 32)), u32(frame.frames))
    default:
      return unreachable(frame)
  }
}

/** Who is told what a `FrameDecoder` found. */
export interface FrameHandler {
  frame(frame: ControlFrame): void
  /** A data frame of `length` bytes begins: its payload follows in one or more `data` calls. */
  dataBegins(stream: number, length: number): void
  /**
   * Bytes of the data frame that began last, in the pieces in which they arrived. The `headroom` bytes in front of them
   * were read already, so whoever owns the bytes may overwrite those.
   */
  data(stream: number, bytes: Uint8Array, headroom: number): void
}

/**
 * Takes frames out of a byte stream that is cut anywhere. Holds at most one control frame, and no data at all. Throws
 * `SessionFault` on the first thing that is not this protocol, and must not be used after that.
 */
export class FrameDecoder {
  readonly #limits: Limits
  readonly #handler: FrameHandler
  /** A header that did not arrive in one piece. Nearly all do, and an idle link keeps no place for one. */
  #header: Uint8Array | undefined
  #headerFill = 0
  #type: FrameType = 'data'
  #stream = 0
  /** Payload bytes of the present frame still to come. */
  #left = 0
  /** The payload of a control frame that did not arrive in one piece. */
  #partial: Uint8Array | undefined

  constructor(limits: Limits, handler: FrameHandler) {
    this.#limits = limits
    this.#handler = handler
  }

  /** `headroom`: so many bytes in front of `bytes` mean nothing. */
  push(bytes: Uint8Array, headroom: number): void {
    let frames = 0
    let at = 0
    let payloadEnd = -headroom
    while (at < bytes.length) {
      if (this.#left > 0) {
        payloadEnd = at = this.#readPayload(bytes, at, at - payloadEnd)
        continue
      }
      at = this.#readHeader(bytes, at)
      if (this.#headerFill > 0) return
      if (++frames > this.#limits.framesPerReceive) {
        throw new SessionFault('limit_exceeded', `more than ${this.#limits.framesPerReceive} frames at once`)
      }
    }
  }

  /** Reads as much of a header as there is; `#headerFill` is 0 again once it is whole and judged. */
  #readHeader(bytes: Uint8Array, at: number): number {
    if (this.#headerFill === 0 && bytes.length - at >= FRAME_HEADER_BYTES) {
      this.#begin(bytes, at)
      return at + FRAME_HEADER_BYTES
    }
    this.#header ??= new Uint8Array(FRAME_HEADER_BYTES)
    const header = this.#header
    let from = at
    while (this.#headerFill < FRAME_HEADER_BYTES && from < bytes.length) header[this.#headerFill++] = bytes[from++] ?? 0
    if (this.#headerFill < FRAME_HEADER_BYTES) return from
    this.#header = undefined
    this.#headerFill = 0
    this.#begin(header, 0)
    return from
  }

  /** The header is at `header[at]`, whole. */
  #begin(header: Uint8Array, at: number): void {
    const first = u32At(header, at)
    const number = first >>> 24
    const length = first & 0xffffff
    const stream = u32At(header, at + 4)
    const type = BY_NUMBER[number]
    if (!type) throw new SessionFault('frame_unknown', `frame type ${number} is not known to this version`)
    const { onStream, limit } = FRAME_TYPES[type]
    if (length > this.#limits[limit]) throw new SessionFault('frame_too_large', `${type} of ${length} bytes declared`)
    if (onStream !== stream > 0) throw new SessionFault('frame_malformed', `${type} on stream ${stream}`)
    this.#type = type
    this.#stream = stream
    this.#left = length
    if (type === 'data') {
      if (length === 0) throw new SessionFault('frame_malformed', 'data without bytes')
      this.#handler.dataBegins(stream, length)
    } else if (length === 0) {
      this.#handler.frame(decodePayload(type, stream, new Uint8Array(0)))
    }
  }

  #readPayload(bytes: Uint8Array, at: number, headroom: number): number {
    const taken = Math.min(this.#left, bytes.length - at)
    const piece = bytes.subarray(at, at + taken)
    const whole = taken === this.#left && !this.#partial
    if (this.#type === 'data') {
      this.#left -= taken
      this.#handler.data(this.#stream, piece, headroom)
    } else if (whole) {
      this.#left = 0
      this.#handler.frame(decodePayload(this.#type, this.#stream, piece))
    } else {
      this.#collect(piece)
    }
    return at + taken
  }

  #collect(piece: Uint8Array): void {
    this.#partial ??= new Uint8Array(this.#left)
    this.#partial.set(piece, this.#partial.length - this.#left)
    this.#left -= piece.length
    if (this.#left > 0) return
    const payload = this.#partial
    this.#partial = undefined
    this.#handler.frame(decodePayload(this.#type, this.#stream, payload))
  }
}

/** Bytes a later version may append to a control frame are skipped; too few are a fault. */
function decodePayload(type: FrameType, stream: number, payload: Uint8Array): ControlFrame {
  switch (type) {
    case 'hello':
      return { type, hello: decodeGreeting(payload) }
    case 'welcome':
      return { type, welcome: decodeGreeting(payload) }
    case 'open': {
      atLeast(5, type, payload)
      const target = decodeTarget(payload.subarray(5))
      return { type, stream, window: u32At(payload, 0), priority: priorityOf(payload[4] ?? 0), target }
    }
    case 'credit':
      atLeast(4, type, payload)
      return { type, stream, bytes: u32At(payload, 0) }
    case 'end':
      return { type, stream }
    case 'reset':
      atLeast(4, type, payload)
      return { type, stream, code: RESET_BY_NUMBER.get(u32At(payload, 0)) ?? 'internal' }
    case 'ping':
    case 'pong':
      atLeast(4, type, payload)
      return { type, token: u32At(payload, 0) }
    case 'goAway':
      atLeast(12, type, payload)
      return { type, reason: decodeReason(payload), deadlineMs: u32At(payload, 4) }
    case 'ack':
      atLeast(8, type, payload)
      return { type, frames: u32At(payload, 0) * 2 ** 32 + u32At(payload, 4) }
    case 'data':
      throw new Error('data has no payload to decode')
    default:
      return unreachable(type)
  }
}

const RESET_BY_NUMBER = new Map(
  Object.entries(RESET_CODES).map(([code, number]) => [number as number, code as ResetCode]),
)
const CLOSE_BY_NUMBER = new Map(
  Object.entries(CLOSE_CODES).map(([code, number]) => [number as number, code as CloseCode]),
)

function decodeReason(payload: Uint8Array): CloseReason {
  const message = utf8Decode(payload.subarray(12))
  if (message === undefined) throw new SessionFault('frame_malformed', 'the message of a go-away is not UTF-8')
  const code = CLOSE_BY_NUMBER.get(u32At(payload, 0)) ?? 'refused'
  const retryAfterMs = u32At(payload, 8)
  return { code, message, ...(retryAfterMs > 0 && { retryAfterMs }) }
}

function atLeast(bytes: number, type: FrameType, payload: Uint8Array): void {
  if (payload.length < bytes) throw new SessionFault('frame_malformed', `${type} of ${payload.length} bytes`)
}

function u32At(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  )
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value)
}

function concat(...parts: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}
