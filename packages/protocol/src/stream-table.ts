import { SessionFault } from './faults.ts'
import type { SessionStream } from './session-stream.ts'

const HIGHEST_STREAM = 0xffffffff
/** So near to the last id a session says go-away, while its owner can still make the next link first. */
const RESERVE_OF_IDS = 1 << 20

/** The streams of a session by id. Ids rise by two from each end and are never used again (protocol.md, "Streams"). */
export class StreamTable {
  readonly #streams = new Map<number, SessionStream>()
  /** Those that are over while bytes of them are still held. */
  readonly #leftOver = new Set<SessionStream>()
  /** The lowest bit of the ids that we give. */
  readonly #ownParity: number
  #nextOwn: number
  #lastOfPeer = 0

  constructor(firstOwn: number) {
    this.#ownParity = firstOwn & 1
    this.#nextOwn = firstOwn
  }

  get size(): number {
    return this.#streams.size
  }

  /** An id for a stream of ours. */
  takeId(): number {
    const id = this.#nextOwn
    this.#nextOwn += 2
    return id
  }

  get isNearEndOfIds(): boolean {
    return this.#nextOwn > HIGHEST_STREAM - RESERVE_OF_IDS
  }

  /** The peer uses an id; throws `SessionFault` when it is not the peer's, or not a new one. */
  peerTakes(id: number): void {
    if (id <= this.#lastOfPeer || (id & 1) === this.#ownParity) {
      throw new SessionFault('frame_unexpected', `open of stream ${id}, which is used or not the peer's`)
    }
    this.#lastOfPeer = id
  }

  add(stream: SessionStream): void {
    this.#streams.set(stream.id, stream)
  }

  /** The stream is over. */
  delete(stream: SessionStream): void {
    this.#streams.delete(stream.id)
    if (stream.window.held > 0) this.#leftOver.add(stream)
  }

  /** Bytes of a stream that is over were released. */
  released(stream: SessionStream): void {
    if (stream.window.held === 0) this.#leftOver.delete(stream)
  }

  /**
   * The stream with this id, or undefined when it is over: frames for it crossed its end on the wire. Throws
   * `SessionFault` for an id that was never used.
   */
  find(id: number): SessionStream | undefined {
    const stream = this.#streams.get(id)
    if (stream) return stream
    const isKnown = (id & 1) === this.#ownParity ? id < this.#nextOwn : id <= this.#lastOfPeer
    if (!isKnown) throw new SessionFault('frame_unexpected', `a frame of stream ${id}, which was never opened`)
    return undefined
  }

  /** A list that stays as it is while streams end. */
  all(): SessionStream[] {
    return [...this.#streams.values()]
  }

  /** The stream for which most is held, be it over or not. Looks at them all. */
  fullest(): SessionStream | undefined {
    let fullest: SessionStream | undefined
    for (const stream of [...this.#streams.values(), ...this.#leftOver]) {
      if (stream.window.held > (fullest?.window.held ?? 0)) fullest = stream
    }
    return fullest
  }
}
