import type { RecordedEvent } from '../store/task-events.ts'
import { type ArtifactUrl, encodeGap, encodeStored } from './event-text.ts'
import type { ReadEvents, TaskWatch, Watcher } from './task-watch.ts'

/**
 * What is sent on one event stream, asked for piece by piece: nothing is made for a reader before the last piece was
 * handed to its socket, so a slow one costs what the socket holds and one piece.
 */
export interface EventFeed {
  /**
   * The next events, encoded; undefined after the last. Waits while there are none; when `signal`, the same at each
   * call, aborts it answers undefined too. Rejects when the store cannot be read. One call at a time.
   */
  next(signal: AbortSignal): Promise<Uint8Array | undefined>
  /** Nobody reads any more. Harmless when called twice. */
  close(): void
}

/** A piece that one reader had made for itself has at most these bytes, or is one event. */
const PIECE_BYTES = 64 * 1024
const PAGE_EVENTS = 100

export interface FeedOptions {
  taskId: string
  watch: TaskWatch
  read: ReadEvents
  urlOf: ArtifactUrl
  /** The event that ended the task, from the task itself, when it is past retention in the list of events. */
  lostEnd(): RecordedEvent | undefined
  onClose(): void
}

/** One reader's place in the events of a task. */
export class TaskFeed implements EventFeed, Watcher {
  readonly #options: FeedOptions
  readonly #leave: () => void
  #position = 0
  #liveVersion = 0
  #pageEvents = PAGE_EVENTS
  #signal: AbortSignal | undefined
  #isClosed = false
  #wake: (() => void) | undefined

  constructor(options: FeedOptions) {
    this.#options = options
    this.#leave = options.watch.add(this)
  }

  /** Begins after event number `position`. */
  startAfter(position: number): void {
    this.#position = position
  }

  async next(signal: AbortSignal): Promise<Uint8Array | undefined> {
    if (this.#signal === undefined) {
      this.#signal = signal
      signal.addEventListener('abort', () => this.wake(), { once: true })
    }
    const { watch } = this.#options
    while (!signal.aborted && !this.#isClosed) {
      const stored = watch.storedAfter(this.#position)
      if (stored === 'elsewhere') return this.#readPiece()
      if (stored) {
        this.#position = stored.last
        return stored.bytes
      }
      if (watch.isOver(this.#position)) return undefined
      const live = watch.liveAfter(this.#liveVersion)
      if (live) {
        this.#liveVersion = live.version
        return live.bytes
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return undefined
  }

  wake(): void {
    this.#wake?.()
    this.#wake = undefined
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#leave()
    this.#options.onClose()
    this.wake()
  }

  /** A piece of what only the store has. */
  async #readPiece(): Promise<Uint8Array> {
    const { taskId, read, urlOf, lostEnd } = this.#options
    const { events, gap } = await read(taskId, this.#position, this.#pageEvents)
    const pieces: Uint8Array[] = []
    const end = gap && events.length === 0 ? lostEnd() : undefined
    const lost = end && gap ? { from: gap.from, to: end.number - 1 } : gap
    if (lost && lost.to >= lost.from) pieces.push(encodeGap(lost))
    if (gap) this.#position = gap.to
    let bytes = 0
    let taken = 0
    for (const event of end ? [end] : events) {
      const encoded = encodeStored(taskId, event, urlOf)
      if (taken > 0 && bytes + encoded.byteLength > PIECE_BYTES) break
      pieces.push(encoded)
      bytes += encoded.byteLength
      taken++
      this.#position = event.number
    }
    // What was read beyond the piece is let go and read again, so that a reader holds little: read less where events are long.
    this.#pageEvents = taken < events.length ? taken : Math.min(PAGE_EVENTS, this.#pageEvents * 2)
    return Buffer.concat(pieces)
  }
}
