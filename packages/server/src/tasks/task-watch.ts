import type { TaskLiveEvent } from '../bus.ts'
import type { RecordedEvent } from '../store/task-events.ts'
import { type ArtifactUrl, encodeLive, encodeStored, isTerminal } from './event-text.ts'

/** Bounds of what a watch keeps of the stored events. Whoever is further behind reads the store for itself. */
const RECENT_EVENTS = 256
const RECENT_BYTES = 128 * 1024
const PAGE_EVENTS = 100
/** Download URLs are good for a while only: who comes later than this after an artifact gets one of its own. */
const SHARED_URL_MS = 30_000

/** Events `after` a number as the store has them, oldest first; `gap` when older ones are past retention. */
export type ReadEvents = (
  taskId: string,
  after: number,
  limit: number,
) => Promise<{ events: RecordedEvent[]; gap?: { from: number; to: number } | undefined }>

export interface WatchOptions {
  taskId: string
  read: ReadEvents
  urlOf: ArtifactUrl
  /** Milliseconds since 1970. */
  now(): number
  /** Told when the store cannot be read: the next sweep tries again. */
  onReadError(error: unknown): void
}

/** Where a task is when somebody begins to watch it. */
export interface WatchedTask {
  eventCount: number
  isEnded: boolean
  progress: TaskLiveEvent | undefined
}

interface Recent {
  number: number
  bytes: Uint8Array
  /** Not to be handed out later than this, in milliseconds since 1970. */
  until: number
}

/** Somebody to tell that there is something new. */
export interface Watcher {
  wake(): void
}

/**
 * One task that somebody watches. Its new events are read and encoded once for all watchers, and kept for a while, within
 * bounds; of progress and previews only the latest is.
 */
export class TaskWatch {
  readonly #options: WatchOptions
  readonly #watchers = new Set<Watcher>()
  #recent: Recent[] = []
  #recentBytes = 0
  /** Events up to this one are not in `#recent`; undefined until `start`. */
  #before: number | undefined
  /** The last event there can be, once it is known. */
  #last = Number.POSITIVE_INFINITY
  /** The piece that most watchers want next: those who are up to date want the same one. */
  #piece: { after: number; last: number; bytes: Uint8Array; until: number } | undefined
  readonly #live = new Map<TaskLiveEvent['kind'], { version: number; bytes: Uint8Array }>()
  #liveVersion = 0
  #reading: 'no' | 'yes' | 'again' = 'no'
  /** Whether all there was at the start has been read: what is live comes after it. */
  #hasCaughtUp = false

  constructor(options: WatchOptions) {
    this.#options = options
  }

  get watcherCount(): number {
    return this.#watchers.size
  }

  add(watcher: Watcher): () => void {
    this.#watchers.add(watcher)
    return () => void this.#watchers.delete(watcher)
  }

  /** Begins to follow at `position`, or near the end when that is far behind. Later calls only say what they know. */
  start(task: WatchedTask, position: number): void {
    if (task.isEnded) this.#last = task.eventCount
    if (this.#before !== undefined) return
    this.#before = task.eventCount - position > RECENT_EVENTS ? task.eventCount : position
    this.#hasCaughtUp = this.#before === task.eventCount
    if (task.progress && this.#live.size === 0) this.show(task.progress)
    this.refresh()
  }

  /** True when no event can follow number `position`. */
  isOver(position: number): boolean {
    return position >= this.#last
  }

  /** True when the store has more than was read here. */
  isBehind(eventCount: number): boolean {
    return eventCount > this.#head()
  }

  /** The stored events after number `position`, encoded; `elsewhere` when only the store has them, undefined when none is new. */
  storedAfter(position: number): { last: number; bytes: Uint8Array } | 'elsewhere' | undefined {
    if (this.#before === undefined || position >= this.#head()) return undefined
    if (position < this.#before) return 'elsewhere'
    const piece = this.#piece?.after === position ? this.#piece : this.#pieceAfter(position)
    if (piece.until < this.#options.now()) return 'elsewhere'
    this.#piece = piece
    return piece
  }

  #pieceAfter(after: number) {
    const wanted = this.#recent.filter(({ number }) => number > after)
    return {
      after,
      last: this.#head(),
      bytes: Buffer.concat(wanted.map(({ bytes }) => bytes)),
      until: Math.min(...wanted.map(({ until }) => until)),
    }
  }

  /** The latest of each live kind that is newer than `version`. */
  liveAfter(version: number): { version: number; bytes: Uint8Array } | undefined {
    if (version >= this.#liveVersion || !this.#hasCaughtUp) return undefined
    const newer = [...this.#live.values()].filter((live) => live.version > version)
    if (newer.length === 0) return undefined
    return { version: this.#liveVersion, bytes: Buffer.concat(newer.map(({ bytes }) => bytes)) }
  }

  show(event: TaskLiveEvent): void {
    const { taskId, now } = this.#options
    this.#live.set(event.kind, { version: ++this.#liveVersion, bytes: encodeLive(taskId, event, now()) })
    this.#wakeAll()
  }

  /** Reads what is new. Calls that come while it reads make it read once more. Never throws. */
  refresh(): void {
    if (this.#before === undefined) return
    if (this.#reading === 'no') void this.#read()
    else this.#reading = 'again'
  }

  async #read(): Promise<void> {
    try {
      do {
        this.#reading = 'yes'
        await this.#readPages()
      } while (this.#isAskedAgain())
    } catch (error) {
      this.#options.onReadError(error)
    } finally {
      this.#reading = 'no'
    }
  }

  /** A method, because the compiler does not know that others write while we wait. */
  #isAskedAgain(): boolean {
    return this.#reading === 'again'
  }

  async #readPages(): Promise<void> {
    const { taskId, read } = this.#options
    for (;;) {
      const { events, gap } = await read(taskId, this.#head(), PAGE_EVENTS)
      if (gap) this.#forget(gap.to)
      for (const event of events) this.#keep(event)
      if (events.length > 0 || gap) this.#wakeAll()
      if (events.length < PAGE_EVENTS) break
    }
    if (this.#hasCaughtUp) return
    this.#hasCaughtUp = true
    this.#wakeAll()
  }

  #keep(recorded: RecordedEvent): void {
    const { taskId, urlOf, now } = this.#options
    const { number, event } = recorded
    // What the last attempt showed says nothing of the next.
    if (event.kind === 'status' && event.status !== 'running') this.#live.clear()
    if (isTerminal(recorded)) this.#last = number
    const bytes = encodeStored(taskId, recorded, urlOf)
    const until = event.kind === 'artifact' ? now() + SHARED_URL_MS : Number.POSITIVE_INFINITY
    this.#recent.push({ number, bytes, until })
    this.#recentBytes += bytes.byteLength
    while (this.#recent.length > RECENT_EVENTS || (this.#recentBytes > RECENT_BYTES && this.#recent.length > 1)) {
      const oldest = this.#recent.shift()
      if (!oldest) break
      this.#before = oldest.number
      this.#recentBytes -= oldest.bytes.byteLength
    }
  }

  /** Nothing up to `number` is kept here. */
  #forget(number: number): void {
    this.#before = number
    this.#recent = []
    this.#recentBytes = 0
  }

  #head(): number {
    return this.#recent.at(-1)?.number ?? this.#before ?? 0
  }

  #wakeAll(): void {
    for (const watcher of this.#watchers) watcher.wake()
  }
}
