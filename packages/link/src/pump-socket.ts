import { connect, type OnReadOpts, type Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { ByteLender } from '@cyberun/protocol'
import { adoptSocket, writeQueueSize } from './adopt.ts'
import { copyOf, ReadBuffers } from './buffers.ts'

/** What a pump socket tells. */
export interface PumpEvents {
  /** Bytes, valid during this call unless lent; `headroom` bytes in front of them are free to use. */
  onBytes(bytes: Uint8Array, headroom: number, lender: ByteLender): void
  /** The other end wrote its last byte. */
  onEnd(): void
  /** The kernel took what was written, or some of it. */
  onWritten(): void
  /** The socket is closed, and every write was told; with the error that closed it, if one did. */
  onClose(error: Error | undefined): void
}

/** Is told when the kernel took its bytes, or never will: exactly once for each write. */
export interface WriteOwner {
  pieceWritten(): void
}

/** For sockets whose bytes Node allocates afresh: they stay valid for whoever keeps them. */
const NOTHING_TO_LEND: ByteLender = { lend: () => () => {}, isTooDear: () => false, copy: copyOf }

/** In place of an owner who was told before Node called back. */
const TOLD: WriteOwner = { pieceWritten() {} }

/**
 * A TCP or TLS socket made for moving bytes. Reads go into buffers of ours. What is written while one event is handled
 * leaves with one call to the kernel, right after it (docs/decisions/0038). When the kernel takes all of it
 * (`writableLength` is 0: about nine of ten times in bulk), the buffers are free before the next read; else their owners
 * wait for Node's callback. Nothing is read before `listen`.
 */
export class PumpSocket {
  readonly #socket: Socket
  readonly #buffers: ReadBuffers | undefined
  #events: PumpEvents | undefined
  #error: Error | undefined
  /** Read by whoever had the socket before us. */
  #head: Uint8Array | undefined
  #isClosed = false
  #isPaused = false
  /** One entry for each callback that Node owes us, in order: `TOLD` where that was not waited for, undefined where nobody asked. */
  readonly #owed: (WriteOwner | undefined)[] = []
  #owedFrom = 0
  #completions = 0
  bytesIn = 0
  bytesOut = 0
  readonly #isTls: boolean
  /** Written while the present event is handled, for one call to the kernel after it. Mostly that is one piece. */
  #held: Uint8Array | Uint8Array[] | undefined
  #heldBytes = 0
  readonly #written = (): void => this.#callbackCame()

  private constructor(socket: Socket, readBuffers: ReadBuffers | undefined) {
    this.#socket = socket
    this.#buffers = readBuffers
    this.#isTls = socket instanceof TLSSocket
    socket.on('error', (error) => {
      this.#error ??= error
    })
    socket.on('end', () => this.#events?.onEnd())
    socket.on('close', () => this.#closed())
    // It is paused and stays so until `listen`.
    if (!readBuffers) socket.on('data', (bytes: Buffer) => this.received(bytes))
  }

  /** Takes over a connected socket; `head` is what was already read from it. One that was taken over stays as it is. */
  static from(socket: Socket | PumpSocket, head?: Uint8Array): PumpSocket {
    if (socket instanceof PumpSocket) return socket
    socket.pause()
    const reader = new OnRead()
    const adopted = adoptSocket(socket, reader.options)
    if (!adopted) socket.setNoDelay(true)
    const pump = adopted ? reader.bind(new PumpSocket(adopted, reader.buffers)) : new PumpSocket(socket, undefined)
    pump.#head = head
    return pump
  }

  /** Dials, reading into our own buffers. Rejects with the error of the system, or the reason of `signal`. */
  static dial(host: string, port: number, signal?: AbortSignal): Promise<PumpSocket> {
    return new Promise((resolve, reject) => {
      const reader = new OnRead()
      const socket = connect({ host, port, allowHalfOpen: true, noDelay: true, onread: reader.options })
      const abort = (): void => {
        socket.destroy()
        reject(signal?.reason)
      }
      if (signal?.aborted) {
        abort()
        return
      }
      signal?.addEventListener('abort', abort, { once: true })
      socket.once('error', (error) => {
        signal?.removeEventListener('abort', abort)
        reject(error)
      })
      socket.once('connect', () => {
        signal?.removeEventListener('abort', abort)
        socket.pause()
        resolve(reader.bind(new PumpSocket(socket, reader.buffers)))
      })
    })
  }

  /** Starts reading, for `events` instead of whoever listened before. What happened before is told at once. */
  listen(events: PumpEvents): void {
    this.#events = events
    if (this.#head && this.#head.length > 0) {
      this.bytesIn += this.#head.length
      events.onBytes(this.#head, 0, NOTHING_TO_LEND)
    }
    this.#head = undefined
    if (this.#isClosed) {
      events.onClose(this.#error)
      return
    }
    if (!this.#isPaused) this.#socket.resume()
  }

  /** Reads no more and tells nothing, until somebody else listens. */
  rest(): void {
    this.#events = undefined
    this.#isPaused = false
    this.#socket.pause()
  }

  /** Reads of about what `room` says, where the socket reads into our buffers. */
  paceBy(room: () => number): void {
    this.#buffers?.paceBy(room)
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#events) this.#socket.resume()
  }

  /** Bytes written that the kernel has not taken. */
  get queuedBytes(): number {
    return this.#socket.writableLength + this.#heldBytes
  }

  /** Those of them that the kernel was offered: what a source has to wait for. */
  get refusedBytes(): number {
    return this.#socket.writableLength
  }

  /** A number that changes while writes make progress. */
  get progress(): number {
    return this.#completions - (writeQueueSize(this.#socket) ?? 0)
  }

  /** The address of the other end. */
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress
  }

  /** The address that the other end connected to. */
  get localAddress(): string | undefined {
    return this.#socket.localAddress
  }

  get isSecure(): boolean {
    return this.#isTls
  }

  /** Writes `bytes`. They must stay unchanged until `owner` is told. */
  write(bytes: Uint8Array, owner?: WriteOwner): void {
    if (this.#isClosed || this.#socket.writableEnded || this.#socket.destroyed) {
      owner?.pieceWritten()
      return
    }
    this.#hold(bytes)
    this.#heldBytes += bytes.length
    this.bytesOut += bytes.length
    this.#owed.push(owner)
  }

  #hold(bytes: Uint8Array): void {
    const held = this.#held
    if (held === undefined) letGoSoon(this, this.#isTls)
    if (held === undefined) this.#held = bytes
    else if (Array.isArray(held)) held.push(bytes)
    else this.#held = [held, bytes]
  }

  /** Offers the kernel what was held. When it took everything, no owner need wait for the callback. */
  letGo(): void {
    if (this.#held === undefined) return
    this.#offer(this.#held)
    if (this.#socket.writableLength > 0 || this.#isClosed) return
    const end = this.#owed.length
    for (let at = this.#owedFrom; at < end; at++) {
      const owner = this.#owed[at]
      this.#owed[at] = TOLD
      owner?.pieceWritten()
    }
    this.#events?.onWritten()
  }

  /** To cork a socket for a single write costs more than the write's own bookkeeping. */
  #offer(held: Uint8Array | Uint8Array[]): void {
    this.#held = undefined
    this.#heldBytes = 0
    if (!Array.isArray(held)) {
      this.#socket.write(held, this.#written)
      return
    }
    this.#socket.cork()
    for (const bytes of held) this.#socket.write(bytes, this.#written)
    this.#socket.uncork()
  }

  /** Sends FIN after what is queued. */
  end(): void {
    this.letGo()
    this.#socket.end()
  }

  /** Closes once what is queued has left. */
  destroySoon(): void {
    this.letGo()
    this.#socket.destroySoon()
  }

  /** Closes now; the queue is dropped. */
  destroy(): void {
    this.letGo()
    this.#socket.destroy()
  }

  /** Closes now with RST, where the transport knows it. */
  reset(): void {
    this.letGo()
    const isTcp = !this.#isTls && this.#socket.remotePort !== undefined
    // While a FIN is on its way out libuv refuses to reset, and Node would keep the handle for good.
    const isEnding = this.#socket.writableEnded && !this.#socket.writableFinished
    if (isTcp && !isEnding) this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }

  /** For the reader alone. */
  received(bytes: Uint8Array): void {
    this.bytesIn += bytes.length
    this.#events?.onBytes(bytes, this.#buffers?.headroom ?? 0, this.#buffers ?? NOTHING_TO_LEND)
  }

  #callbackCame(): void {
    const owner = this.#owed[this.#owedFrom]
    this.#owed[this.#owedFrom++] = undefined
    this.#completions++
    if (this.#owedFrom === this.#owed.length) {
      this.#owed.length = 0
      this.#owedFrom = 0
    }
    if (owner === TOLD) return
    owner?.pieceWritten()
    this.#events?.onWritten()
  }

  #closed(): void {
    this.#isClosed = true
    this.#buffers?.close()
    this.#held = undefined
    this.#heldBytes = 0
    for (const owner of this.#owed.splice(this.#owedFrom)) owner?.pieceWritten()
    this.#owed.length = 0
    this.#owedFrom = 0
    this.#events?.onClose(this.#error)
  }
}

/** Sockets that hold something, in the order of their first write: one tick serves all of an event. */
const holding: PumpSocket[] = []

/** Under TLS, where small writes cost most, a socket holds until the loop turns. */
function letGoSoon(socket: PumpSocket, isTls: boolean): void {
  if (isTls) setImmediate(letGo, socket)
  else if (holding.push(socket) === 1) process.nextTick(letGoAll)
}

function letGo(socket: PumpSocket): void {
  socket.letGo()
}

/** Those that begin to hold meanwhile are at the end of the same list. */
function letGoAll(): void {
  for (const socket of holding) socket.letGo()
  holding.length = 0
}

/** Joins the buffers, Node's `onread` and the socket, which do not exist at the same time. */
class OnRead {
  readonly buffers = new ReadBuffers()
  #pump: PumpSocket | undefined

  /** For Node, which keeps its own of it. */
  get options(): OnReadOpts {
    return {
      buffer: () => this.buffers.next(),
      callback: (length) => {
        this.#pump?.received(this.buffers.filled(length))
        return true
      },
    }
  }

  bind(pump: PumpSocket): PumpSocket {
    this.#pump = pump
    return pump
  }
}
