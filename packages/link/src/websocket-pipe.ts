import { randomBytes } from 'node:crypto'
import {
  applyMask,
  type ByteLender,
  encodeClose,
  encodeWebsocketFrame,
  MAX_WEBSOCKET_HEADER_BYTES,
  type Mask,
  OPCODE,
  RateLimit,
  SessionFault,
  WEBSOCKET_CLOSE,
  type WebsocketHandler,
  WebsocketReader,
  websocketHeaderBytes,
  writeWebsocketHeader,
} from '@cyberun/protocol'
import { BUFFER_BYTES, buffers, type SharedBuffer } from './buffers.ts'
import type { PumpEvents, PumpSocket, WriteOwner } from './pump-socket.ts'

/** Payloads up to this size are gathered and leave together when the loop turns; larger ones leave at once. */
export const GATHER_BYTES = 8 * 1024
/**
 * What was gathered leaves before the loop turns when it is as much as this, so that the other end, on another core, begins
 * while this one still reads. At 64 connections that is a sixth more requests a second than with 64 KiB, for 2 % more
 * CPU; 1.5 KiB bring nothing and cost 15 to 35 %.
 */
const BATCH_BYTES = 6 * 1024

/** How the frames of this end are masked: a server never masks, a client always sends a mask. */
export type Masking = 'none' | 'zero' | 'random'

export interface PipeEvents {
  onBytes(bytes: Uint8Array, headroom: number, lender: ByteLender): void
  /** An empty text message, which a subprotocol may give a meaning. */
  onEmptyText(): void
  /** See `PumpEvents`. */
  onWritten(): void
  /** The WebSocket is over: a close frame (`code`), a fault of the peer (`fault`), or the end of the socket. */
  onOver(how: PipeEnd): void
}

export type PipeEnd =
  | { kind: 'closed'; code: number; reason: string }
  | { kind: 'fault'; fault: SessionFault }
  | { kind: 'lost'; error: Error | undefined }

/** How long the other end may take to close the socket once a close frame was sent. */
const CLOSE_LINGER_MS = 2_000
const PINGS_PER_SECOND = 50
const NOTHING = new Uint8Array(0)

/** A WebSocket as two byte streams: binary messages each way, whose borders mean nothing. */
export class WebsocketPipe implements PumpEvents, WebsocketHandler {
  readonly #socket: PumpSocket
  readonly #masking: Masking
  readonly #reader: WebsocketReader
  #events: PipeEvents | undefined
  #lender: ByteLender | undefined
  #batch: SharedBuffer | undefined
  #batchEnd = MAX_WEBSOCKET_HEADER_BYTES
  #isFlushDue = false
  #lingering: NodeJS.Timeout | undefined
  #state: 'open' | 'closing' | 'over' = 'open'
  /** Made when the first ping of the WebSocket comes: links ping with frames. */
  #pings: RateLimit | undefined

  constructor(socket: PumpSocket, masking: Masking) {
    this.#socket = socket
    this.#masking = masking
    this.#reader = new WebsocketReader(this, masking === 'none')
  }

  /** Starts reading. */
  listen(events: PipeEvents): void {
    this.#events = events
    this.#socket.listen(this)
  }

  /** Bytes that are gathered, or with the socket and not taken by the kernel. */
  get queuedBytes(): number {
    return this.#socket.queuedBytes + this.#batchEnd - MAX_WEBSOCKET_HEADER_BYTES
  }

  /** See `PumpSocket.refusedBytes`. */
  get refusedBytes(): number {
    return this.#socket.refusedBytes
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Copies `prefix` and `bytes` into the batch that leaves when the loop turns, or before when it is large enough. */
  gather(prefix: Uint8Array, bytes: Uint8Array): void {
    if (this.#state !== 'open') return
    if (bytes.length > GATHER_BYTES) {
      this.send(prefix, bytes, 0)
      return
    }
    const end = this.#batchEnd + prefix.length + bytes.length
    const batch = this.#batchOf(end)
    batch.set(prefix, this.#batchEnd)
    batch.set(bytes, this.#batchEnd + prefix.length)
    this.#batchEnd = end
    if (this.#batchEnd >= BATCH_BYTES) this.#leave()
    else this.#leaveSoon()
  }

  /**
   * The batch, with room up to `end`. It begins small: thousands of idle links may answer a ping in one turn of the loop, and
   * with 64 KiB for each, which the allocator keeps, a server of 2,000 was 20 MiB larger (docs/decisions/0057).
   */
  #batchOf(end: number): Uint8Array {
    const batch = this.#batch
    if (batch && end <= batch.bytes.length) return batch.bytes
    const taken = buffers.take(end <= BUFFER_BYTES.small ? 'small' : 'medium')
    if (batch) {
      taken.bytes.set(batch.bytes.subarray(0, this.#batchEnd))
      batch.release()
    }
    this.#batch = taken
    return taken.bytes
  }

  #leaveSoon(): void {
    if (this.#isFlushDue) return
    this.#isFlushDue = true
    setImmediate(flushLater, this)
  }

  /**
   * Sends `prefix` and `bytes` as one message, after what was gathered; nothing is copied. With enough `headroom` in front
   * of `bytes` all headers are written in place.
   */
  send(prefix: Uint8Array, bytes: Uint8Array, headroom: number, owner?: WriteOwner): void {
    this.#leave()
    if (this.#state !== 'open') {
      owner?.pieceWritten()
      return
    }
    const length = prefix.length + bytes.length
    const mask = this.#mask()
    const header = websocketHeaderBytes(length, mask !== undefined)
    if (this.#masking === 'random') {
      // Masking in place would change bytes that are not ours.
      this.#socket.write(encodeWebsocketFrame(OPCODE.binary, Buffer.concat([prefix, bytes]), mask))
      owner?.pieceWritten()
      return
    }
    const front = header + prefix.length
    const isInPlace = headroom >= front
    const target = isInPlace
      ? Buffer.from(bytes.buffer, bytes.byteOffset - front, bytes.length + front)
      : Buffer.allocUnsafe(front)
    target.set(prefix, writeWebsocketHeader(target, 0, OPCODE.binary, length, mask))
    if (isInPlace) this.#socket.write(target, owner)
    else {
      this.#socket.write(target)
      this.#socket.write(bytes, owner)
    }
  }

  /** Asks the other end for a sign of life. */
  ping(): void {
    this.#leave()
    if (this.#state === 'open') this.#socket.write(encodeWebsocketFrame(OPCODE.ping, NOTHING, this.#mask()))
  }

  /** An empty text message. */
  sendEmptyText(): void {
    this.#leave()
    if (this.#state === 'open') this.#socket.write(encodeWebsocketFrame(OPCODE.text, NOTHING, this.#mask()))
  }

  /** For the turn of the loop alone. */
  flush(): void {
    this.#isFlushDue = false
    this.#leave()
  }

  /** Sends what was gathered. */
  #leave(): void {
    const batch = this.#batch
    if (!batch) return
    const length = this.#batchEnd - MAX_WEBSOCKET_HEADER_BYTES
    this.#batch = undefined
    this.#batchEnd = MAX_WEBSOCKET_HEADER_BYTES
    const mask = this.#mask()
    const start = MAX_WEBSOCKET_HEADER_BYTES - websocketHeaderBytes(length, mask !== undefined)
    const whole = batch.bytes.subarray(start, MAX_WEBSOCKET_HEADER_BYTES + length)
    const payloadAt = writeWebsocketHeader(whole, 0, OPCODE.binary, length, mask)
    if (mask !== undefined) applyMask(whole.subarray(payloadAt), mask, 0)
    this.#socket.write(whole, batch)
  }

  /** Says close after what was sent; the socket ends when the other end answers, or soon after. */
  close(code: number, reason: string): void {
    this.#leave()
    if (this.#state !== 'open') return
    this.#state = 'closing'
    this.#socket.write(encodeWebsocketFrame(OPCODE.close, encodeClose(code, reason), this.#mask()))
    this.#linger()
  }

  /** Drops everything now. */
  destroy(): void {
    this.#state = 'over'
    this.#socket.destroy()
  }

  // What the socket tells

  onBytes(bytes: Uint8Array, headroom: number, lender: ByteLender): void {
    if (this.#state === 'over') return
    this.#lender = lender
    try {
      this.#reader.push(bytes, headroom)
    } catch (error) {
      if (!(error instanceof SessionFault)) throw error
      this.close(WEBSOCKET_CLOSE.protocolError, error.message)
      this.#over({ kind: 'fault', fault: error })
    } finally {
      this.#lender = undefined
    }
  }

  onEnd(): void {
    this.#over({ kind: 'lost', error: undefined })
  }

  onWritten(): void {
    this.#events?.onWritten()
  }

  onClose(error: Error | undefined): void {
    clearTimeout(this.#lingering)
    this.#over({ kind: 'lost', error })
  }

  // What the reader found

  binary(bytes: Uint8Array, headroom: number): void {
    if (this.#lender && this.#state !== 'over') this.#events?.onBytes(bytes, headroom, this.#lender)
  }

  emptyText(): void {
    this.#events?.onEmptyText()
  }

  pinged(payload: Uint8Array): void {
    const now = performance.now()
    this.#pings ??= new RateLimit(PINGS_PER_SECOND, now)
    if (!this.#pings.take(now)) throw new SessionFault('limit_exceeded', 'too many WebSocket pings')
    this.#leave()
    if (this.#state === 'open') this.#socket.write(encodeWebsocketFrame(OPCODE.pong, payload, this.#mask()))
  }

  closed(code: number, reason: string): void {
    this.close(code === 1005 ? WEBSOCKET_CLOSE.normal : code, '')
    this.#socket.end()
    this.#over({ kind: 'closed', code, reason })
  }

  // The rest

  #linger(): void {
    this.#lingering = setTimeout(() => this.#socket.destroy(), CLOSE_LINGER_MS)
    this.#socket.end()
  }

  #over(how: PipeEnd): void {
    if (how.kind === 'lost') this.#socket.destroy()
    const events = this.#events
    this.#events = undefined
    this.#state = 'over'
    if (this.#batch) this.#batch.release()
    this.#batch = undefined
    this.#batchEnd = MAX_WEBSOCKET_HEADER_BYTES
    events?.onOver(how)
  }

  #mask(): Mask | undefined {
    if (this.#masking === 'none') return undefined
    return this.#masking === 'zero' ? 0 : randomBytes(4).readUInt32BE(0)
  }
}

/** One function for all pipes: a closure of each would be kept by each. */
function flushLater(pipe: WebsocketPipe): void {
  pipe.flush()
}
