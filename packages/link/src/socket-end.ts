import type { ByteLender, Chunk, ResetCode, StreamEvents } from '@cyberun/protocol'
import type { ByteEnd } from './byte-end.ts'
import type { PumpSocket } from './pump-socket.ts'

/** A socket is not read while more than this is delivered and not released … */
const HIGH_WATER_BYTES = 256 * 1024
/** … and is read again from here on. */
const LOW_WATER_BYTES = 64 * 1024

/** Counts what a source delivered and has not got back, and stops the source above a bound. */
export class HeldBytes {
  readonly #source: { pause(): void; resume(): void }
  #bytes = 0
  #isPaused = false

  constructor(source: { pause(): void; resume(): void }) {
    this.#source = source
  }

  /** A chunk over `bytes`, whose release gives credit to the source once. */
  chunk(bytes: Uint8Array, headroom: number, lender: ByteLender): Chunk {
    // Small pieces of a large buffer would keep all of it: once much is kept that way, they are copied instead.
    const isCopied = lender.isStretched
    const stable = isCopied ? new Uint8Array(bytes) : bytes
    return {
      bytes: stable,
      headroom: isCopied ? 0 : headroom,
      hold: () => {
        const giveBack = isCopied ? undefined : lender.lend()
        this.#add(bytes.length)
        let isReleased = false
        return () => {
          if (isReleased) return
          isReleased = true
          giveBack?.()
          this.#add(-bytes.length)
        }
      },
    }
  }

  #add(bytes: number): void {
    this.#bytes += bytes
    if (!this.#isPaused && this.#bytes >= HIGH_WATER_BYTES) {
      this.#isPaused = true
      this.#source.pause()
    } else if (this.#isPaused && this.#bytes <= LOW_WATER_BYTES) {
      this.#isPaused = false
      this.#source.resume()
    }
  }
}

/** A socket as one end of a relay: FIN is `end`, RST is `reset`. */
export class SocketEnd implements ByteEnd {
  readonly #socket: PumpSocket
  readonly #held: HeldBytes
  #isOver = false

  constructor(socket: PumpSocket) {
    this.#socket = socket
    this.#held = new HeldBytes(socket)
  }

  listen(events: StreamEvents): void {
    this.#socket.listen({
      onBytes: (bytes, headroom, lender) => {
        if (!this.#isOver) events.onData(this.#held.chunk(bytes, headroom, lender))
      },
      onEnd: () => {
        if (!this.#isOver) events.onEnd()
      },
      onWritten: () => {
        if (this.#socket.queuedBytes === 0) events.onDrain()
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
    return this.#socket.queuedBytes < HIGH_WATER_BYTES
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
