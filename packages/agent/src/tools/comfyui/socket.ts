import { randomUUID } from 'node:crypto'
import type { Log } from '@cyberun/link/log'
import { WebSocket } from 'ws'
import type { ComfyuiTimes } from './settings.ts'
import { looksLikeStates, readMessage, readPicture, type SocketEvent } from './socket-events.ts'

/** A full-size picture may come in one message. */
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024
/** States between two that are this close together are not read. */
const STATES_MS = 100

/** What the listener of the socket is told, besides what ComfyUI says. */
export type SocketNews = SocketEvent | { readonly kind: 'opened' } | { readonly kind: 'closed' }

export interface SocketOptions {
  /** Of ComfyUI: `http://127.0.0.1:8188`. */
  readonly url: string
  readonly times: Pick<ComfyuiTimes, 'pingMs' | 'redialMs'>
  readonly log: Log
  now(): number
  /** A new socket is up, under a new id. */
  onOpen(clientId: string): void
}

/**
 * The one socket to a ComfyUI, dialled again for as long as `stop` was not called. Each connection has an id of its own:
 * a second one under the same id can be left deaf when the first ends, and nothing is ever repeated to it anyway.
 */
export class ComfyuiSocket {
  readonly #options: SocketOptions
  readonly #listeners = new Set<(news: SocketNews) => void>()
  #socket: WebSocket | undefined
  #clientId: string | undefined
  #redial: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: SocketOptions) {
    this.#options = options
    this.#dial()
  }

  /** Whom ComfyUI tells about a prompt submitted now; undefined while there is no socket. */
  get clientId(): string | undefined {
    return this.#clientId
  }

  /** Returns what ends it. */
  listen(listener: (news: SocketNews) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#redial)
    this.#socket?.terminate()
  }

  #dial(): void {
    const id = randomUUID()
    const socket = new WebSocket(`${this.#options.url.replace(/^http/, 'ws')}/ws?clientId=${id}`, {
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
      handshakeTimeout: this.#options.times.pingMs,
    })
    this.#socket = socket
    let alive = true
    const pinging = setInterval(() => {
      if (socket.readyState !== WebSocket.OPEN) return
      if (!alive) socket.terminate()
      alive = false
      socket.ping()
    }, this.#options.times.pingMs)
    let statesReadAt = Number.NEGATIVE_INFINITY
    socket.on('open', () => {
      // Only the first message is read by ComfyUI, and only this one.
      socket.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }))
      this.#clientId = id
      this.#tell({ kind: 'opened' })
      this.#options.onOpen(id)
    })
    socket.on('pong', () => {
      alive = true
    })
    socket.on('message', (data: Buffer, isBinary) => {
      alive = true
      if (!isBinary && looksLikeStates(data)) {
        if (this.#options.now() - statesReadAt < STATES_MS) return
        statesReadAt = this.#options.now()
      }
      const event = isBinary ? readPicture(data) : readMessage(data.toString('utf8'))
      if (event !== undefined) this.#tell(event)
    })
    // What went wrong is only worth a line while there was a socket: a ComfyUI that is not up is told of by its health.
    socket.on('error', (error) => this.#options.log.debug({ error: error.message }, 'comfyui.socket_error'))
    socket.on('close', () => {
      clearInterval(pinging)
      if (this.#clientId === id) {
        this.#clientId = undefined
        this.#tell({ kind: 'closed' })
      }
      if (!this.#stopped) this.#redial = setTimeout(() => this.#dial(), this.#options.times.redialMs)
    })
  }

  #tell(news: SocketNews): void {
    for (const listener of [...this.#listeners]) listener(news)
  }
}
