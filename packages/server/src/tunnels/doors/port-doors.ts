import { once } from 'node:events'
import type { Server } from 'node:net'
import type { Log } from '@cyberun/link/log'

/** The ports that tunnels may have for themselves, both ends included. */
export interface PortRange {
  first: number
  last: number
}

export interface PortDoorsOptions {
  /** Undefined: no tunnel has a port. */
  range: PortRange | undefined
  /** Address to listen on. */
  host: string
  log: Log
}

interface Listener {
  readonly server: Server
  /** It listens; before that it tries to. */
  isOpen: boolean
}

/**
 * The listeners of the port doors: one for each open tunnel that has a port. Which tunnel that is decides whoever gets
 * the connections. A port comes round again only after all the others, because a browser may still keep things of the
 * tunnel that had it before.
 */
export class PortDoors {
  readonly #options: PortDoorsOptions
  readonly #held = new Map<number, Listener>()
  /** Of open tunnels, while another program has them: no other tunnel gets them. */
  readonly #lost = new Set<number>()
  #make: ((port: number) => Server) | undefined
  /** The port given last. */
  #last: number | undefined

  constructor(options: PortDoorsOptions) {
    this.#options = options
  }

  /** Whether a listener of ours has this port. */
  has(port: number): boolean {
    return this.#held.get(port)?.isOpen === true
  }

  /**
   * From here on ports can be taken; listens again on those of tunnels that were open before. `make` makes a listener
   * for a port that is not listening yet.
   */
  async start(make: (port: number) => Server, ports: readonly number[]): Promise<void> {
    this.#make = make
    for (const port of ports) {
      this.#lost.add(port)
      if (await this.#listen(port)) this.#lost.delete(port)
      // Its tunnel goes on without it; the port is the operator's to free.
      else if (this.#lost.has(port)) this.#options.log.warn({ port }, 'edge.port_door_taken')
    }
  }

  /** Ports are given on from this one. */
  continueAfter(port: number | undefined): void {
    this.#last = port
  }

  /** Listens on the next free port of the range; undefined when there is none. */
  async take(): Promise<number | undefined> {
    if (!this.#make) return undefined
    for (const port of this.#candidates()) {
      if (this.#held.has(port) || this.#lost.has(port)) continue
      // Before the wait, so that of two who take at once the later one is the last.
      this.#last = port
      if (await this.#listen(port)) return port
    }
    return undefined
  }

  /** Closes a listener; connections that it took go on. Releasing twice is harmless. */
  release(port: number): void {
    this.#lost.delete(port)
    const listener = this.#held.get(port)
    this.#held.delete(port)
    if (listener?.isOpen) listener.server.close()
  }

  /** Takes no further connections on any port. */
  stop(): void {
    this.#make = undefined
    for (const port of [...this.#held.keys()]) this.release(port)
  }

  /** Each port of the range once, the one after the last given first. */
  *#candidates(): Generator<number> {
    const { range } = this.#options
    if (!range) return
    const count = range.last - range.first + 1
    const start = this.#last === undefined ? 0 : this.#last + 1 - range.first
    for (let i = 0; i < count; i++) yield range.first + ((((start + i) % count) + count) % count)
  }

  async #listen(port: number): Promise<boolean> {
    if (!this.#make || this.#held.has(port)) return false
    const server = this.#make(port)
    const listener: Listener = { server, isOpen: false }
    this.#held.set(port, listener)
    try {
      server.listen({ host: this.#options.host, port })
      await once(server, 'listening')
    } catch {
      // Another program has it, or we may not: the next one, then.
      if (this.#held.get(port) === listener) this.#held.delete(port)
      return false
    }
    // Given back in the meantime, as all are when the edge stops.
    if (this.#held.get(port) !== listener) {
      server.close()
      return false
    }
    listener.isOpen = true
    server.on('error', (error) => this.#options.log.warn({ error, port }, 'edge.port_door_failed'))
    return true
  }
}
