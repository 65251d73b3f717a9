import { RESET_CODES, type ResetCode, type StreamEvents, WEBSOCKET_CLOSE } from '@cyberun/protocol'
import { type ByteEnd, resetCodeOf } from './byte-end.ts'
import type { PumpSocket } from './pump-socket.ts'
import { SocketChunk } from './socket-end.ts'
import { TCP_SUBPROTOCOL } from './upgrade.ts'
import { GATHER_BYTES, type Masking, type PipeEnd, WebsocketPipe } from './websocket-pipe.ts'

/** `write` says stop, and small writes wait to be told written, while so much is queued. */
const HIGH_WATER_BYTES = 256 * 1024
/** After a plain client closed, the other direction may go on for this long without being delivered. */
const CLOSED_LINGER_MS = 30_000
/** Close codes from here on carry the number of a reset code (protocol.md, "TCP over WebSocket"). */
const RESET_CLOSE_BASE = 4000
/** An idle WebSocket is pinged this often, so that the proxies on its way keep it. */
const KEEPALIVE_MS = 25_000

const NOTHING = new Uint8Array(0)

/** A WebSocket whose binary messages are one TCP connection's bytes. */
export class ByteSocket implements ByteEnd {
  /** What both ends agreed on; without `cyberun.tcp.v1` one direction cannot end before the other. */
  readonly subprotocol: string | undefined
  readonly #pipe: WebsocketPipe
  readonly #hasHalfClose: boolean
  #events: StreamEvents | undefined
  #state: 'open' | 'lingering' | 'over' = 'open'
  #hasEnded = false
  #hasPeerEnded = false
  /** Small writes were copied already, but are told only when the socket has taken them. */
  #waiting: (() => void)[] = []
  #linger: NodeJS.Timeout | undefined
  readonly #keepalive: NodeJS.Timeout

  constructor(socket: PumpSocket, masking: Masking, subprotocol: string | undefined) {
    this.subprotocol = subprotocol
    this.#hasHalfClose = subprotocol === TCP_SUBPROTOCOL
    this.#pipe = new WebsocketPipe(socket, masking)
    this.#keepalive = setInterval(() => this.#pipe.ping(), KEEPALIVE_MS)
  }

  listen(events: StreamEvents): void {
    this.#events = events
    this.#pipe.listen({
      onBytes: (bytes, headroom, lender) => {
        if (this.#state === 'open' && !this.#hasPeerEnded) events.onData(new SocketChunk(bytes, headroom, lender))
      },
      onEmptyText: () => this.#peerEnded(),
      onWritten: () => this.#drained(),
      onOver: (how) => this.#pipeOver(how),
    })
    // Whoever relays may have ended this end before it listened, with what the other one had kept.
    if (this.#state === 'over') events.onClose?.()
  }

  pause(): void {
    this.#pipe.pause()
  }

  resume(): void {
    this.#pipe.resume()
  }

  write(bytes: Uint8Array, onWritten?: () => void, headroom = 0): boolean {
    if (this.#state !== 'open' || this.#hasEnded) {
      onWritten?.()
      if (this.#state === 'lingering') this.#fail('cancelled')
      return false
    }
    if (bytes.length > GATHER_BYTES) {
      this.#pipe.send(NOTHING, bytes, headroom, onWritten && { pieceWritten: onWritten })
    } else {
      this.#pipe.gather(NOTHING, bytes)
      if (onWritten && this.#pipe.refusedBytes < HIGH_WATER_BYTES) onWritten()
      else if (onWritten) this.#waiting.push(onWritten)
    }
    return this.#pipe.refusedBytes < HIGH_WATER_BYTES
  }

  end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#state === 'lingering') this.#finish()
    if (this.#state !== 'open') return
    if (this.#hasHalfClose) this.#pipe.sendEmptyText()
    if (!this.#hasHalfClose || this.#hasPeerEnded) this.#close(WEBSOCKET_CLOSE.normal, '')
  }

  reset(code: ResetCode): void {
    if (this.#state === 'open') this.#close(RESET_CLOSE_BASE + RESET_CODES[code], code)
    else if (this.#state === 'lingering') this.#finish()
  }

  #peerEnded(): void {
    if (this.#hasPeerEnded || this.#state !== 'open') return
    if (!this.#hasHalfClose) {
      this.#pipe.close(WEBSOCKET_CLOSE.unsupported, 'only binary messages are understood')
      this.#fail('cancelled')
      return
    }
    this.#hasPeerEnded = true
    this.#events?.onEnd()
    if (this.#hasEnded) this.#close(WEBSOCKET_CLOSE.normal, '')
  }

  #pipeOver(how: PipeEnd): void {
    if (this.#state !== 'open') return
    const isClean = how.kind === 'closed' && how.code < RESET_CLOSE_BASE && how.code !== WEBSOCKET_CLOSE.protocolError
    if (!isClean) {
      this.#fail((how.kind === 'closed' ? resetCodeOf(how.code - RESET_CLOSE_BASE) : undefined) ?? 'link_lost')
      return
    }
    if (this.#hasEnded) {
      if (!this.#hasPeerEnded) this.#events?.onEnd()
      this.#finish()
      return
    }
    // Like a closed TCP socket: what was sent is delivered, and an answer finds nobody.
    this.#state = 'lingering'
    this.#linger = setTimeout(() => this.#fail('cancelled'), CLOSED_LINGER_MS)
    this.#drained()
    if (!this.#hasPeerEnded) this.#events?.onEnd()
  }

  #drained(): void {
    if (this.#pipe.refusedBytes >= HIGH_WATER_BYTES / 2 && this.#state === 'open') return
    const waiting = this.#waiting
    this.#waiting = []
    for (const onWritten of waiting) onWritten()
    if (this.#state === 'open') this.#events?.onDrain()
  }

  #close(code: number, reason: string): void {
    this.#pipe.close(code, reason)
    this.#finish()
  }

  #fail(code: ResetCode): void {
    if (this.#state === 'over') return
    this.#events?.onReset(code)
    this.#finish()
  }

  #finish(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    clearInterval(this.#keepalive)
    clearTimeout(this.#linger)
    this.#drained()
    this.#events?.onClose?.()
  }
}
