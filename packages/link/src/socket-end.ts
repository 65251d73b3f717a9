import type { ByteLender, Chunk, ResetCode, StreamEvents } from '@cyberun/protocol'
import type { ByteEnd } from './byte-end.ts'
import type { PumpSocket } from './pump-socket.ts'

/** `write` says stop while this many bytes wait. */
const HIGH_WATER_BYTES = 256 * 1024

/** A chunk over bytes that `lender` lends. */
export class SocketChunk implements Chunk {
  bytes: Uint8Array
  headroom: number
  readonly #lender: ByteLender

  constructor(bytes: Uint8Array, headroom: number, lender: ByteLender) {
    this.bytes = bytes
    this.headroom = headroom
    this.#lender = lender
  }

  hold(): () => void {
    // Small pieces of a large buffer would keep all of it: once much is kept that way, they are copied instead.
    if (!this.#lender.isTooDear(this.bytes.length)) return this.#lender.lend()
    this.bytes = this.#lender.copy(this.bytes)
    this.headroom = 0
    return () => {}
  }
}

/** A socket as one end of a relay: FIN is `end`, RST is `reset`. */
export class SocketEnd implements ByteEnd {
  readonly #socket: PumpSocket
  #isOver = false

  constructor(socket: PumpSocket) {
    this.#socket = socket
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  paceBy(room: () => number): void {
    this.#socket.paceBy(room)
  }

  listen(events: StreamEvents): void {
    this.#socket.listen({
      onBytes: (bytes, headroom, lender) => {
        if (!this.#isOver) events.onData(new SocketChunk(bytes, headroom, lender))
      },
      onEnd: () => {
        if (!this.#isOver) events.onEnd()
      },
      onWritten: () => {
        if (this.#socket.refusedBytes === 0) events.onDrain()
      },
      onClose: (error) => {
        if (error && !this.#isOver) events.onReset(resetOf(error))
        this.#isOver = true
        events.onClose?.()
      },
    })
  }

  write(bytes: Uint8Array, onWritten?: () => void): boolean {
    this.#socket.write(bytes, onWritten && { pieceWritten: onWritten })
    return this.#socket.refusedBytes < HIGH_WATER_BYTES
  }

  end(): void {
    this.#socket.end()
  }

  reset(): void {
    this.#isOver = true
    this.#socket.reset()
  }
}

function resetOf(error: Error): ResetCode {
  return 'code' in error && error.code === 'ETIMEDOUT' ? 'target_timeout' : 'target_reset'
}
