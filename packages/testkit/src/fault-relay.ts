import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { type CutKind, FaultPipe, type Faults, NO_FAULTS } from './fault-pipe.ts'

export type { CutKind, Faults } from './fault-pipe.ts'

export type Direction = 'toTarget' | 'fromTarget'

/** A TCP relay on loopback that can do to connections what networks do. */
export interface FaultRelay extends AsyncDisposable {
  readonly port: number
  /** Connections open now, on either side. */
  readonly connections: number
  /** Bytes delivered since the start, over all connections. */
  readonly delivered: Readonly<Record<Direction, number>>
  /** Changes the faults of one direction, or of both, for the connections there are and those to come. */
  set(faults: Partial<Faults>, direction?: Direction): void
  /**
   * The network is gone: what flows is swallowed, sockets stay open, new connections are taken and led nowhere.
   * Connections that were in a black hole never recover, as their bytes are lost; after `heal` new ones work.
   */
  blackHole(): void
  /** The cable is out: every connection ends by RST, and new ones as soon as they are made, until `heal`. */
  unplug(): void
  /** Removes every fault for the connections to come and those that lost nothing. */
  heal(): void
  /** Ends every connection now. */
  cutAll(how: CutKind): void
}

/** Starts a relay on 127.0.0.1 to `target.port` of `target.host` (127.0.0.1). Ends with `await using`. */
export async function startFaultRelay(target: { port: number; host?: string }): Promise<FaultRelay> {
  const faults: Record<Direction, Faults> = { toTarget: NO_FAULTS, fromTarget: NO_FAULTS }
  const delivered = { toTarget: 0, fromTarget: 0 }
  const pairs = new Set<Pair>()
  /** Connections that were made into the dark: the target never hears of them. */
  const stranded = new Set<Socket>()
  let network: 'up' | 'dark' | 'unplugged' = 'up'

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (visitor) => {
    if (network === 'unplugged') {
      visitor.resetAndDestroy()
      return
    }
    if (network === 'dark') {
      strand(visitor)
      return
    }
    const service = connect({
      port: target.port,
      host: target.host ?? '127.0.0.1',
      allowHalfOpen: true,
      noDelay: true,
    })
    const pair = new Pair(visitor, service, faults, delivered, () => pairs.delete(pair))
    pairs.add(pair)
  })
  const strand = (visitor: Socket) => {
    stranded.add(visitor)
    visitor.on('error', () => visitor.destroy())
    visitor.on('close', () => stranded.delete(visitor))
    visitor.resume()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  const set = (change: Partial<Faults>, direction?: Direction) => {
    for (const way of direction === undefined ? (['toTarget', 'fromTarget'] as const) : [direction]) {
      faults[way] = { ...faults[way], ...change }
    }
    for (const pair of pairs) pair.set(faults)
  }

  const cutAll = (how: CutKind) => {
    for (const pair of [...pairs]) pair.cut(how)
    for (const visitor of stranded) visitor.destroy()
  }

  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return pairs.size + stranded.size
    },
    delivered,
    set,
    blackHole() {
      network = 'dark'
      for (const pair of pairs) pair.blackHole()
    },
    heal() {
      network = 'up'
      set(NO_FAULTS)
    },
    unplug() {
      network = 'unplugged'
      cutAll('rst')
    },
    cutAll,
    async [Symbol.asyncDispose]() {
      cutAll('rst')
      server.close()
      await once(server, 'close')
    },
  }
}

/** The two sockets of one relayed connection and the pipe each way between them. */
class Pair {
  readonly #sockets: readonly [Socket, Socket]
  readonly #pipes: Record<Direction, FaultPipe>
  #state: 'relaying' | 'lost' | 'over' = 'relaying'

  constructor(
    visitor: Socket,
    service: Socket,
    faults: Record<Direction, Faults>,
    delivered: Record<Direction, number>,
    onOver: () => void,
  ) {
    this.#sockets = [visitor, service]
    const pipe = (from: Socket, to: Socket, way: Direction) =>
      new FaultPipe(from, to, faults[way], {
        cut: (how) => this.cut(how),
        delivered: (bytes) => {
          delivered[way] += bytes
        },
      })
    this.#pipes = { toTarget: pipe(visitor, service, 'toTarget'), fromTarget: pipe(service, visitor, 'fromTarget') }
    for (const socket of this.#sockets) {
      socket.on('error', () => this.#failed())
      socket.on('close', () => {
        if (this.#sockets.some((other) => !other.closed)) return
        this.#stop()
        onOver()
      })
    }
  }

  set(faults: Record<Direction, Faults>): void {
    if (this.#state !== 'relaying') return
    this.#pipes.toTarget.set(faults.toTarget)
    this.#pipes.fromTarget.set(faults.fromTarget)
  }

  blackHole(): void {
    if (this.#state !== 'relaying') return
    this.#state = 'lost'
    for (const pipe of Object.values(this.#pipes)) pipe.set({ ...NO_FAULTS, flow: 'swallow' })
  }

  cut(how: CutKind): void {
    this.#stop()
    for (const socket of this.#sockets) {
      if (how === 'rst') socket.resetAndDestroy()
      else socket.destroySoon()
    }
  }

  /** One side broke: the other hears of it, unless the network between them is gone. */
  #failed(): void {
    if (this.#state === 'relaying') this.cut('rst')
  }

  #stop(): void {
    this.#state = 'over'
    for (const pipe of Object.values(this.#pipes)) pipe.stop()
  }
}
