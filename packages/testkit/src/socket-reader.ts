import type { Socket } from 'node:net'

/** How the other end finished: `end` is a FIN, `reset` an RST or a socket that died otherwise. */
export type SocketEnd = 'end' | 'reset'

/** Unread bytes above which the socket is paused, so that a test feels back-pressure like any program. */
const HIGH_WATER_BYTES = 1 << 20

/** Reads a socket piece by piece, as a parser wants it, and remembers how it ended. */
export class SocketReader {
  readonly #socket: Socket
  #unread: Buffer = Buffer.alloc(0)
  #end: SocketEnd | undefined
  #waiting: (() => void)[] = []
  #receivedBytes = 0

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (bytes: Buffer) => {
      this.#receivedBytes += bytes.length
      this.#unread = this.#unread.length === 0 ? bytes : Buffer.concat([this.#unread, bytes])
      if (this.#unread.length > HIGH_WATER_BYTES) socket.pause()
      this.#wake()
    })
    socket.on('end', () => this.#finish('end'))
    socket.on('error', () => this.#finish('reset'))
    socket.on('close', () => this.#finish('reset'))
  }

  /** Every byte that came in, read or not. */
  get receivedBytes(): number {
    return this.#receivedBytes
  }

  /** How the other end finished, or undefined while it has not. */
  get end(): SocketEnd | undefined {
    return this.#end
  }

  /** At most `max` bytes; undefined at the end. */
  async readSome(max = Number.MAX_SAFE_INTEGER): Promise<Buffer | undefined> {
    if (this.#unread.length === 0 && !(await this.#more())) return undefined
    const bytes = this.#unread.subarray(0, max)
    this.#unread = this.#unread.subarray(bytes.length)
    return bytes
  }

  /** Exactly `length` bytes, or what there was before the end. */
  async readExact(length: number): Promise<Buffer> {
    const pieces: Buffer[] = []
    for (let missing = length; missing > 0; ) {
      const piece = await this.readSome(missing)
      if (!piece) break
      pieces.push(piece)
      missing -= piece.length
    }
    return Buffer.concat(pieces)
  }

  /** Everything up to the end. */
  async readAll(): Promise<Buffer> {
    return this.readExact(Number.MAX_SAFE_INTEGER)
  }

  /** A line without its CR LF; undefined at the end. What follows the last line is lost with it. */
  async readLine(): Promise<string | undefined> {
    for (;;) {
      const at = this.#unread.indexOf('\r\n')
      if (at >= 0) {
        const line = this.#unread.toString('latin1', 0, at)
        this.#unread = this.#unread.subarray(at + 2)
        return line
      }
      if (!(await this.#more())) return undefined
    }
  }

  /** Waits for the other end to finish and throws away what still comes. */
  async waitEnd(): Promise<SocketEnd> {
    for (;;) {
      this.#unread = Buffer.alloc(0)
      if (!(await this.#more())) return this.#end ?? 'reset'
    }
  }

  async #more(): Promise<boolean> {
    if (this.#end !== undefined) return false
    const before = this.#receivedBytes
    this.#socket.resume()
    await new Promise<void>((resolve) => this.#waiting.push(resolve))
    return this.#receivedBytes > before
  }

  #finish(end: SocketEnd): void {
    this.#end ??= end
    this.#wake()
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}

/** Writes and waits until the kernel has it. A peer that is gone is no error here: its reader tells how it ended. */
export function writeAll(socket: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve()
    else socket.write(bytes, () => resolve())
  })
}
