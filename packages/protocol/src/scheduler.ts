import { PRIORITY } from './model.ts'

/** What one stream may send before the next of its class has its turn, while something light is alive … */
const LIGHT_TURN_BYTES = 64 * 1024
/** … and while there is only bulk. Each turn is a write of its own: 16 streams cost a third less than with 64 KiB. */
const BULK_TURN_BYTES = 256 * 1024
/** Bytes handed to the socket cannot be overtaken: so much is handed over while only bulk is moving … */
const BULK_HANDOVER_BYTES = 1024 * 1024
/** … and so much while something lighter is alive. */
const LIGHT_HANDOVER_BYTES = 128 * 1024
/** How long a lighter stream counts as alive after it moved. */
const LIGHT_ALIVE_MS = 500
/** An interactive stream that moves more than this in one span is bulk, whatever it was opened as. */
const HEAVY_BYTES = 1024 * 1024
const HEAVY_SPAN_MS = 250

/** What the scheduler knows of a stream. The links between them are its own. */
export interface Scheduled {
  /** Its class at this moment, 0 first. */
  readonly rank: number
  /** Bytes it may still send in this turn. */
  turnBytes: number
  nextScheduled: Scheduled | undefined
  isScheduled: boolean
}

interface Ring {
  first: Scheduled | undefined
  last: Scheduled | undefined
}

/**
 * Decides who writes next: the lower rank first, and within a rank deficit round robin (Shreedhar and Varghese, 1995).
 * Every operation takes constant time, however many streams there are.
 */
export class Scheduler<S extends Scheduled> {
  readonly #rings: readonly Ring[] = Object.keys(PRIORITY).map(() => ({ first: undefined, last: undefined }))
  #light: { stream: S; at: number } | undefined

  /** A stream that has something to send and may send it. Harmless when it waits already. */
  add(stream: S): void {
    if (stream.isScheduled) return
    stream.isScheduled = true
    stream.turnBytes = 0
    append(this.#ring(stream.rank), stream)
  }

  /** The stream whose turn it is, taken out: it is put back by `sent`, or by `add` when it has something again. */
  take(): S | undefined {
    for (const ring of this.#rings) {
      const stream = ring.first
      if (!stream) continue
      ring.first = stream.nextScheduled
      if (!ring.first) ring.last = undefined
      stream.nextScheduled = undefined
      stream.isScheduled = false
      return stream as S
    }
    return undefined
  }

  /** The largest frame that a stream taken may send now; `alone` bounds it while nobody else waits. */
  frameBytes(stream: S, now: number, alone: number): number {
    const turn = this.isLight(now) ? LIGHT_TURN_BYTES : BULK_TURN_BYTES
    if (stream.turnBytes <= 0) stream.turnBytes = turn
    return this.isEmpty && turn === BULK_TURN_BYTES ? alone : Math.min(turn, stream.turnBytes)
  }

  /** Nobody waits. */
  get isEmpty(): boolean {
    for (const ring of this.#rings) if (ring.first) return false
    return true
  }

  /** After a stream taken sent `bytes` and has more: it keeps its turn, or goes to the end of its ring. */
  sent(stream: S, bytes: number): void {
    // Below zero is what was sent while nobody waited, which took from nobody: there is no debt to carry.
    stream.turnBytes = Math.max(0, stream.turnBytes - bytes)
    stream.isScheduled = true
    const ring = this.#ring(stream.rank)
    if (stream.turnBytes > 0) {
      stream.nextScheduled = ring.first
      ring.first = stream
      ring.last ??= stream
    } else {
      append(ring, stream)
    }
  }

  /** This stream moved. One that turns out to be bulk has not been light. */
  moved(stream: S, now: number): void {
    if (stream.rank === PRIORITY.bulk) return
    if (this.#light?.stream === stream) this.#light.at = now
    else this.#light = { stream, at: now }
  }

  /** How many bytes may be with the socket at once. */
  handoverBytes(now: number): number {
    return this.isLight(now) ? LIGHT_HANDOVER_BYTES : BULK_HANDOVER_BYTES
  }

  /** True while something lighter than bulk moves. */
  isLight(now: number): boolean {
    const light = this.#light
    return light !== undefined && light.stream.rank !== PRIORITY.bulk && now - light.at < LIGHT_ALIVE_MS
  }

  #ring(rank: number): Ring {
    const ring = this.#rings[rank]
    if (!ring) throw new Error(`no priority class ${rank}`)
    return ring
  }
}

function append(ring: Ring, stream: Scheduled): void {
  stream.nextScheduled = undefined
  if (ring.last) ring.last.nextScheduled = stream
  else ring.first = stream
  ring.last = stream
}

/** Notices streams that move so much that they are bulk by what they do. */
export class Weight {
  #since = Number.NEGATIVE_INFINITY
  #bytes = 0
  #heavy = false

  /** Counts bytes of either direction; true while the stream is heavy. */
  add(bytes: number, now: number): boolean {
    if (now - this.#since > HEAVY_SPAN_MS) {
      this.#heavy = this.#bytes > HEAVY_BYTES && now - this.#since < 2 * HEAVY_SPAN_MS
      this.#since = now
      this.#bytes = 0
    }
    this.#bytes += bytes
    if (this.#bytes > HEAVY_BYTES) this.#heavy = true
    return this.#heavy
  }
}
