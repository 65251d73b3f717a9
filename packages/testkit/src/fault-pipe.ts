import type { Socket } from 'node:net'

/** What the relay does to one direction of its connections; it may change while bytes flow. */
export interface Faults {
  /** How long each byte is under way, in milliseconds. Bandwidth is not limited: many bytes travel at once. */
  delayMs: number
  /**
   * `pass`: bytes go through. `stall`: nothing is read or delivered, nothing is lost, and TCP pushes back on the
   * sender. `swallow`: bytes and ends are read and forgotten while both sockets stay open: a black hole.
   */
  flow: 'pass' | 'stall' | 'swallow'
  /** How the bytes are cut into writes. `merge` gathers at least `bytes`, but waits no longer than `withinMs`. */
  writes: { kind: 'as_read' } | { kind: 'split'; bytes: number } | { kind: 'merge'; bytes: number; withinMs: number }
  /** Ends the connection, both ways, once exactly `afterBytes` of this direction were delivered. */
  cut: { afterBytes: number; how: CutKind } | undefined
}

/** How a connection is ended: an orderly FIN or a RST. */
export type CutKind = 'fin' | 'rst'

export const NO_FAULTS: Faults = { delayMs: 0, flow: 'pass', writes: { kind: 'as_read' }, cut: undefined }

/** Bytes under way in one pipe; above it the source is paused, as a network buffers only so much. */
const CAPACITY_BYTES = 64 * 1024 * 1024

type Parcel = { kind: 'bytes'; bytes: Buffer; dueAt: number } | { kind: 'end'; dueAt: number }

/** One direction of one relayed connection: a queue of bytes, each with the time at which it is due. */
export class FaultPipe {
  readonly #from: Socket
  readonly #to: Socket
  readonly #onCut: (how: CutKind) => void
  readonly #onDelivered: (bytes: number) => void
  #faults: Faults
  #parcels: Parcel[] = []
  #queuedBytes = 0
  #gathered: Buffer[] = []
  #gatherTimer: NodeJS.Timeout | undefined
  #wakeTimer: NodeJS.Timeout | undefined
  #turn: NodeJS.Immediate | undefined
  #delivered = 0
  #blocked = false
  #over = false

  constructor(
    from: Socket,
    to: Socket,
    faults: Faults,
    on: { cut: (how: CutKind) => void; delivered: (bytes: number) => void },
  ) {
    this.#from = from
    this.#to = to
    this.#faults = faults
    this.#onCut = on.cut
    this.#onDelivered = on.delivered
    from.on('data', (bytes) => this.#take(bytes))
    from.on('end', () => this.#takeEnd())
    to.on('drain', () => {
      this.#blocked = false
      this.#pump()
    })
    this.#settleSource()
  }

  set(faults: Faults): void {
    this.#faults = faults
    if (faults.writes.kind !== 'merge') this.#releaseGathered()
    this.#settleSource()
    this.#pump()
  }

  /** Drops what is under way and every timer. Nothing is delivered afterwards. */
  stop(): void {
    this.#over = true
    this.#parcels = []
    this.#gathered = []
    clearTimeout(this.#gatherTimer)
    clearTimeout(this.#wakeTimer)
    clearImmediate(this.#turn)
  }

  #take(bytes: Buffer): void {
    if (this.#over || this.#faults.flow === 'swallow') return
    const { writes } = this.#faults
    if (writes.kind === 'merge') {
      this.#gathered.push(bytes)
      const total = this.#gathered.reduce((sum, part) => sum + part.length, 0)
      if (total >= writes.bytes) this.#releaseGathered()
      else this.#gatherTimer ??= setTimeout(() => this.#releaseGathered(), writes.withinMs)
      return
    }
    if (writes.kind === 'as_read') this.#queue(bytes)
    else for (let at = 0; at < bytes.length; at += writes.bytes) this.#queue(bytes.subarray(at, at + writes.bytes))
    this.#pump()
  }

  #takeEnd(): void {
    if (this.#over || this.#faults.flow === 'swallow') return
    this.#releaseGathered()
    this.#parcels.push({ kind: 'end', dueAt: performance.now() + this.#faults.delayMs })
    this.#pump()
  }

  #releaseGathered(): void {
    clearTimeout(this.#gatherTimer)
    this.#gatherTimer = undefined
    if (this.#gathered.length === 0) return
    const bytes = Buffer.concat(this.#gathered)
    this.#gathered = []
    this.#queue(bytes)
    this.#pump()
  }

  #queue(bytes: Buffer): void {
    this.#parcels.push({ kind: 'bytes', bytes, dueAt: performance.now() + this.#faults.delayMs })
    this.#queuedBytes += bytes.length
    this.#settleSource()
  }

  /** Delivers everything that is due, as far as the faults and the destination let it. */
  #pump(): void {
    if (this.#turn !== undefined) return
    for (let parcel = this.#parcels[0]; parcel !== undefined; parcel = this.#parcels[0]) {
      if (this.#over || this.#blocked || this.#faults.flow !== 'pass') return
      const waitMs = parcel.dueAt - performance.now()
      if (waitMs > 0) {
        this.#wakeIn(waitMs)
        return
      }
      this.#parcels.shift()
      if (parcel.kind === 'end') {
        this.#to.end()
        return
      }
      this.#queuedBytes -= parcel.bytes.length
      this.#settleSource()
      this.#deliver(parcel.bytes)
      if (this.#faults.writes.kind === 'split') {
        this.#pumpNextTurn()
        return
      }
    }
  }

  #deliver(bytes: Buffer): void {
    const { cut } = this.#faults
    const left = cut === undefined ? Infinity : Math.max(0, cut.afterBytes - this.#delivered)
    const whole = bytes.length < left
    const part = whole ? bytes : bytes.subarray(0, left)
    this.#delivered += part.length
    this.#onDelivered(part.length)
    if (whole) {
      this.#blocked = !this.#to.write(part)
      return
    }
    this.#over = true
    // The cut waits for the kernel to take what comes before it, so that the byte at which it happens is exact.
    this.#to.write(part, () => this.#onCut(cut?.how ?? 'fin'))
  }

  #wakeIn(waitMs: number): void {
    clearTimeout(this.#wakeTimer)
    this.#wakeTimer = setTimeout(() => this.#pump(), Math.ceil(waitMs))
  }

  /** Split pieces go out one a loop turn, or the receiver's kernel would join them again. */
  #pumpNextTurn(): void {
    this.#turn = setImmediate(() => {
      this.#turn = undefined
      this.#pump()
    })
  }

  #settleSource(): void {
    if (this.#faults.flow === 'stall' || this.#queuedBytes > CAPACITY_BYTES) this.#from.pause()
    else this.#from.resume()
  }
}
