import type { Socket } from 'node:net'
import type { Exchange, Turn } from './exchange.ts'

/** Pipelined requests that wait for their turn before the connection is read no further. */
const MAX_WAITING = 16

/** One connection of a visitor: its requests are served one after the other (RFC 9112, section 9.3.2). */
export class VisitorConnection implements Turn {
  readonly #socket: Socket
  readonly #waiting: (() => void)[] = []
  #current: Exchange | undefined
  #closing = false

  constructor(socket: Socket) {
    this.#socket = socket
    socket.once('close', () => this.#current?.visitorGone())
  }

  /** Whether a request is being served. */
  get busy(): boolean {
    return this.#current !== undefined
  }

  /** Has `serve` called when the requests before this one are answered. */
  wait(serve: () => void): void {
    this.#waiting.push(serve)
    if (this.#waiting.length >= MAX_WAITING) this.#socket.pause()
  }

  /** Notes the exchange that serves the request whose turn it is. */
  serve(exchange: Exchange): void {
    this.#current = exchange
    exchange.start()
  }

  /** The request being served has its answer: the next one's turn. */
  next(): void {
    this.#current = undefined
    if (this.#closing) {
      this.#socket.destroySoon()
      return
    }
    const wasFull = this.#waiting.length >= MAX_WAITING
    while (this.#waiting.length > 0 && !this.busy) this.#waiting.shift()?.()
    if (wasFull && this.#waiting.length < MAX_WAITING) this.#socket.resume()
  }

  /**
   * What came cannot be parsed. A request being served goes on when it was complete before that, and the connection
   * ends after it. Returns whether the fault itself can still be answered.
   */
  fault(): boolean {
    this.#waiting.length = 0
    const current = this.#current
    if (!current) return true
    if (current.requestComplete) {
      this.#closing = true
      return false
    }
    const unanswered = !current.answering
    current.visitorGone()
    return unanswered
  }
}
