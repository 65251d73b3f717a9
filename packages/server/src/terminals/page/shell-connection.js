// A viewer's connection to its shell, over as many sockets as it takes: what was missed comes with the next one, and what was
// typed meanwhile goes with it, each exactly once.

import { hangUpFrame, inputFrame, pingFrame, readFrame, reportFrame, resizeFrame, takenFrame } from './frames.js'

const PING_MS = 5_000
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 8_000
const INPUT_PIECE = 16 * 1024
/** What is on its way to the program, and what waits here behind that. */
const INPUT_WINDOW = 64 * 1024
const MOST_INPUT = 1024 * 1024
/** Told at once when so much was shown, else after a moment. */
const TAKEN_STEP = 32 * 1024
const TAKEN_MS = 50
/** What the server answers with when trying again helps nobody. */
const FINAL = [400, 401, 403, 404]

/**
 * @typedef {object} ShellEvents
 * @property {(state: { kind: string, message: string, retryable?: boolean }) => void} onState
 * @property {(attached: { is_reset: boolean, prefix: string, cols: number, rows: number, answer_from: number, shell: string }) => void} onAttached
 * @property {(position: number, bytes: Uint8Array) => void} onOutput
 * @property {(size: { cols: number, rows: number, viewers: number }) => void} onSize
 */

export class ShellConnection {
  #agent
  #token
  #events
  #size
  #viewer = crypto.randomUUID()
  /** @type {string | undefined} */
  #shell
  /** Of the next byte of output that is not on the screen yet, and of the next one to arrive. */
  #shown = 0
  #next = 0
  #told = 0
  /** Typed and not confirmed: the first of these bytes is number `#confirmed`. */
  #typed = new Uint8Array(0)
  #confirmed = 0
  #sent = 0
  /** @type {WebSocket | undefined} */
  #socket
  #isAttached = false
  #isOver = false
  #pause = FIRST_PAUSE_MS
  #heard = true
  #timers = { ping: 0, retry: 0, taken: 0 }

  /** @param {{ agent: string, token: string, shell: string | undefined, size: { cols: number, rows: number } }} about @param {ShellEvents} events */
  constructor({ agent, token, shell, size }, events) {
    this.#agent = agent
    this.#token = token
    this.#shell = shell
    this.#size = size
    this.#events = events
    this.#timers.ping = setInterval(() => this.#ping(), PING_MS)
    this.#dial()
  }

  get shell() {
    return this.#shell
  }

  /** False: too much waits already, and nothing of this was taken. @param {Uint8Array} bytes */
  type(bytes) {
    if (this.#isOver || this.#typed.length + bytes.length > MOST_INPUT) return false
    const all = new Uint8Array(this.#typed.length + bytes.length)
    all.set(this.#typed)
    all.set(bytes, this.#typed.length)
    this.#typed = all
    this.#sendTyped()
    return true
  }

  /** What the terminal answered by itself; worth nothing later. @param {string} report */
  report(report) {
    if (this.#isAttached) this.#send(reportFrame(new TextEncoder().encode(report)))
  }

  /** @param {{ cols: number, rows: number }} size */
  resize(size) {
    this.#size = size
    if (this.#isAttached) this.#send(resizeFrame(size))
  }

  /** Output before `position` is on the screen. @param {number} position */
  shown(position) {
    this.#shown = position
    if (position - this.#told >= TAKEN_STEP) this.#tellTaken()
    else if (this.#timers.taken === 0) this.#timers.taken = setTimeout(() => this.#tellTaken(), TAKEN_MS)
  }

  /** Ends the shell. */
  hangUp() {
    this.#send(hangUpFrame())
  }

  /** Tries again now, when it waits for that. */
  retryNow() {
    if (this.#isOver || this.#socket) return
    clearTimeout(this.#timers.retry)
    this.#dial()
  }

  /** Leaves the shell to itself. */
  close() {
    this.#isOver = true
    for (const timer of Object.values(this.#timers)) clearTimeout(timer)
    this.#socket?.close()
  }

  #dial() {
    const url = new URL(`/api/v1/agents/${encodeURIComponent(this.#agent)}/terminal`, location.href)
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
    url.hash = ''
    const socket = new WebSocket(url)
    socket.binaryType = 'arraybuffer'
    this.#socket = socket
    this.#heard = true
    this.#events.onState({ kind: 'connecting', message: this.#next > 0 ? 'reconnecting…' : 'connecting…' })
    socket.onopen = () => socket.send(JSON.stringify(this.#opening()))
    socket.onmessage = ({ data }) => {
      this.#heard = true
      if (typeof data === 'string') this.#refused(socket, JSON.parse(data))
      else this.#take(readFrame(data))
    }
    socket.onclose = () => this.#lost(socket)
  }

  #opening() {
    const known =
      this.#shell === undefined ? {} : { shell: this.#shell, ...(this.#next > 0 && { position: this.#next }) }
    return { admin_token: this.#token, viewer: this.#viewer, ...known, ...this.#size }
  }

  /** @param {ReturnType<typeof readFrame>} frame */
  #take(frame) {
    switch (frame?.type) {
      case 'attached':
        this.#attached(frame)
        break
      case 'output':
        this.#next = frame.position + frame.bytes.length
        this.#events.onOutput(frame.position, frame.bytes)
        break
      case 'state':
        this.#events.onSize(frame)
        break
      case 'received':
        this.#received(frame.position)
        break
      case 'exited':
        this.#end(
          frame.signal === null
            ? `the shell has ended (exit code ${frame.code})`
            : `the shell was ended (${frame.signal})`,
        )
        break
      case 'refused':
        this.#end(frame.message)
        break
    }
  }

  /** @param {any} attached */
  #attached(attached) {
    this.#pause = FIRST_PAUSE_MS
    this.#shell = attached.shell
    this.#next = attached.position
    if (attached.is_reset) this.#shown = attached.position
    this.#told = attached.position
    this.#events.onAttached(attached)
    this.#events.onState({ kind: 'open', message: 'connected' })
    this.#received(attached.input)
    // What was sent and not taken is sent again.
    this.#sent = this.#confirmed
    this.#isAttached = true
    this.#sendTyped()
  }

  /** @param {number} position */
  #received(position) {
    const count = position - this.#confirmed
    if (count <= 0) return
    this.#typed = this.#typed.slice(count)
    this.#confirmed = position
    this.#sent = Math.max(this.#sent, position)
    this.#sendTyped()
  }

  #sendTyped() {
    if (!this.#isAttached) return
    const end = this.#confirmed + Math.min(this.#typed.length, INPUT_WINDOW)
    while (this.#sent < end) {
      const from = this.#sent - this.#confirmed
      const piece = this.#typed.subarray(from, Math.min(from + INPUT_PIECE, end - this.#confirmed))
      this.#send(inputFrame(this.#sent, piece))
      this.#sent += piece.length
    }
  }

  #tellTaken() {
    clearTimeout(this.#timers.taken)
    this.#timers.taken = 0
    if (!this.#isAttached || this.#shown <= this.#told) return
    this.#told = this.#shown
    this.#send(takenFrame(this.#shown))
  }

  #ping() {
    if (!this.#socket) return
    // A network that is gone says nothing, and a browser does not tell for minutes.
    if (!this.#heard) this.#lost(this.#socket)
    else if (this.#isAttached) {
      this.#heard = false
      this.#send(pingFrame(1))
    }
  }

  /** @param {Uint8Array<ArrayBuffer>} frame */
  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(frame)
  }

  /** @param {WebSocket} socket @param {{ status: number, error_message: string, retry_after_seconds?: number }} refusal */
  #refused(socket, { status, error_message, retry_after_seconds }) {
    if (FINAL.includes(status)) {
      this.close()
      this.#events.onState({ kind: 'refused', message: error_message })
      return
    }
    this.#pause = Math.max(this.#pause, (retry_after_seconds ?? 0) * 1_000)
    this.#lost(socket, error_message)
  }

  /** @param {string} message */
  #end(message) {
    this.close()
    this.#events.onState({ kind: 'ended', message })
  }

  /** @param {WebSocket} socket @param {string} [why] */
  #lost(socket, why) {
    if (this.#socket !== socket || this.#isOver) return
    this.#socket = undefined
    this.#isAttached = false
    socket.onmessage = null
    socket.onclose = null
    socket.close()
    const pause = this.#pause * (0.5 + Math.random() / 2)
    this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2)
    this.#timers.retry = setTimeout(() => this.#dial(), pause)
    const typed = 'what you type is sent when the connection is back'
    this.#events.onState({ kind: 'waiting', message: why ?? `connection lost, trying again: ${typed}` })
  }
}
