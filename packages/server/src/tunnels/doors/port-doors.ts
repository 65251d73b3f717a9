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

/**
 * The listeners of the port doors: one for each open tunnel that has a port. Which tunnel that is decides whoever gets
 * the connections. A port comes round again only after all the others, because a browser may still keep things of the
 * tunnel that had it before.
 */
export class PortDoors {
  readonly #options: PortDoorsOptions
  /** Listening, or trying to. */
  readonly #held = new Map<number, Server | 'opening'>()
  #make: ((port: number) => Server) | undefined
  /** The port given last. */
  #last: number | undefined

  constructor(options: PortDoorsOptions) {
    this.#options = options
  }

  /** Whether a listener of ours has this port. */
  has(port: number): boolean {
    return typeof this.#held.get(port) === 'object'
  }

  /**
   * From here on ports can be taken; listens again on those of tunnels that were open before. `make` makes a listener
   * for a port that is not listening yet.
   */
  async start(make: (port: number) => Server, ports: readonly number[]): Promise<void> {
    this.#make = make
    for (const port of ports) {
      // Its tunnel goes on without it; the port is the operator's to free.
      if (!(await this.#listen(port))) this.#options.log.warn({ port }, 'edge.port_door_taken')
    }
  }

  /** Ports are given on from this one. */
  continueAfter(port: number | undefined): void {
    this.#last = port
  }

  /** Listens on the next free port of the range; undefined when there is none. */
  async take(): Promise<number | undefined> {
    for (const port of this.#candidates()) {
      if (this.#held.has(port)) continue
      if (await this.#listen(port)) {
        this.#last = port
        return port
      }
    }
    return undefined
  }

  /** Closes a listener; connections that it took go on. Releasing twice is harmless. */
  release(port: number): void {
    const server = this.#held.get(port)
    if (typeof server !== 'object') return
    this.#held.delete(port)
    server.close()
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
    this.#held.set(port, 'opening')
    const server = this.#make(port)
    try {
      server.listen({ host: this.#options.host, port })
      await once(server, 'listening')
    } catch {
      // Another program has it, or we may not: the next one, then.
      this.#held.delete(port)
      return false
    }
    if (!this.#make) {
      server.close()
      return false
    }
    server.on('error', (error) => this.#options.log.warn({ error, port }, 'edge.port_door_failed'))
    this.#held.set(port, server)
    return true
  }
}
