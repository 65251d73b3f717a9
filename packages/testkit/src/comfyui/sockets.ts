import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import type { ComfyuiFaults, ComfyuiGeneration } from './faults.ts'

const SERVER_FLAGS = { supports_preview_metadata: true, max_upload_size: 104_857_600 }

interface Connection {
  readonly socket: WebSocket
  flags: Readonly<Record<string, unknown>>
}

/** The sockets by the client id they came with: one slot each. */
export class Sockets {
  readonly #connections = new Map<string, Connection>()
  readonly #all = new Set<WebSocket>()
  readonly #generation: ComfyuiGeneration
  readonly #faults: Pick<ComfyuiFaults, 'socketDelayMs'>
  readonly #logReaders = new Set<string>()

  constructor(generation: ComfyuiGeneration, faults: Pick<ComfyuiFaults, 'socketDelayMs'>) {
    this.#generation = generation
    this.#faults = faults
  }

  get features(): Readonly<Record<string, unknown>> {
    return SERVER_FLAGS
  }

  /** `greet` sends what a new socket is told first. */
  accept(socket: WebSocket, clientId: string, greet: (sid: string) => void): void {
    const sid = clientId === '' ? randomUUID().replaceAll('-', '') : clientId
    const connection: Connection = { socket, flags: {} }
    this.#connections.set(sid, connection)
    this.#all.add(socket)
    greet(sid)
    socket.once('message', (data) => this.#readFlags(sid, connection, String(data)))
    socket.on('error', () => socket.terminate())
    socket.on('close', () => {
      this.#all.delete(socket)
      this.#logReaders.delete(sid)
      // Before it was mended, the end of an old socket took the registration of the new one with it.
      if (this.#generation !== 'modern' || this.#connections.get(sid) === connection) this.#connections.delete(sid)
    })
  }

  /** To one client, or to everyone without one. Whom nobody knows is told nothing. */
  send(type: string, data: unknown, sid?: string): void {
    const message = JSON.stringify({ type, data })
    for (const { socket } of this.#receivers(sid)) this.#say(socket, message)
  }

  /** A preview or a final: with metadata to those that understand it, plain to the others. */
  sendPicture(png: Buffer, metadata: Readonly<Record<string, unknown>>, sid?: string): void {
    const json = Buffer.from(JSON.stringify({ ...metadata, image_type: 'image/png' }))
    for (const { socket, flags } of this.#receivers(sid)) {
      const rich = this.#generation !== 'ancient' && flags['supports_preview_metadata'] === true
      this.#say(
        socket,
        rich ? Buffer.concat([u32(4), u32(json.length), json, png]) : Buffer.concat([u32(1), u32(2), png]),
      )
    }
  }

  subscribeToLogs(sid: string, enabled: boolean): void {
    if (enabled) this.#logReaders.add(sid)
    else this.#logReaders.delete(sid)
  }

  sendLog(line: string): void {
    const entries = [{ t: new Date().toISOString(), m: `${line}\n` }]
    for (const sid of this.#logReaders) this.send('logs', { entries, size: { cols: 80, rows: 24 } }, sid)
  }

  /** As a network would: without a word. */
  cut(): void {
    for (const socket of this.#all) socket.terminate()
  }

  #say(socket: WebSocket, message: string | Buffer): void {
    if (this.#faults.socketDelayMs === 0) socket.send(message)
    else setTimeout(() => socket.send(message), this.#faults.socketDelayMs).unref()
  }

  #receivers(sid: string | undefined): Connection[] {
    if (sid === undefined) return [...this.#connections.values()]
    const connection = this.#connections.get(sid)
    return connection === undefined ? [] : [connection]
  }

  #readFlags(sid: string, connection: Connection, text: string): void {
    if (this.#generation === 'ancient') return
    const message = JSON.parse(text) as { type?: unknown; data?: Record<string, unknown> }
    if (message.type !== 'feature_flags') return
    connection.flags = message.data ?? {}
    this.send('feature_flags', SERVER_FLAGS, sid)
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
