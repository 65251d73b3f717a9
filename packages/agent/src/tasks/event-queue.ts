import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AttemptEvent } from '@cyberun/protocol'
import type { RunLimits } from './limits.ts'

/** An event as JSON text; `logLines` is how many log lines go if it goes. */
interface Item {
  readonly json: string
  readonly logLines: number
}

/** Events on disk, a file of one JSON text a line, older than everything in the tail. */
interface Segment {
  readonly file: string
  readonly bytes: number
  readonly logLines: number
  /** The events in it that are no log lines: few, and never dropped. */
  readonly others: readonly string[]
}

type QueueLimits = Pick<RunLimits, 'queueBytes' | 'spoolBytes'>

/**
 * Events of one attempt that wait to be sent, oldest first: in memory, then in files. At the bound the
 * oldest log lines are dropped and a note in their place says how many. Files are written and read at once: at most
 * `queueBytes` at a time, and only while the server does not keep up, where asynchronous ones would need a queue of
 * their own.
 */
export class EventQueue {
  readonly #makeFolder: () => string
  readonly #limits: QueueLimits
  /** Next to go, the last one first. */
  #head: string[] = []
  /** What was dropped between head and segments, and the events that were not. */
  #gap: { logLines: number; others: string[] } = { logLines: 0, others: [] }
  readonly #segments: Segment[] = []
  #tail: Item[] = []
  #tailBytes = 0
  #segmentsMade = 0

  /** `makeFolder` makes the folder for its files, when there are any. */
  constructor(makeFolder: () => string, limits: QueueLimits) {
    this.#makeFolder = makeFolder
    this.#limits = limits
  }

  push(event: AttemptEvent): void {
    const item = { json: JSON.stringify(event), logLines: event.kind === 'log' ? event.lines.length : 0 }
    this.#tail.push(item)
    this.#tailBytes += Buffer.byteLength(item.json)
    if (this.#tailBytes > this.#limits.queueBytes) this.#spill()
  }

  /** Takes the oldest event out, as JSON text. */
  shift(): string | undefined {
    if (this.#head.length === 0) this.#refill()
    return this.#head.pop()
  }

  get isEmpty(): boolean {
    return (
      this.#head.length === 0 &&
      this.#tail.length === 0 &&
      this.#segments.length === 0 &&
      this.#gap.logLines === 0 &&
      this.#gap.others.length === 0
    )
  }

  #refill(): void {
    const segment = this.#gap.logLines > 0 || this.#gap.others.length > 0 ? undefined : this.#segments.shift()
    if (segment) {
      this.#head = this.#read(segment).reverse()
      return
    }
    const { logLines, others } = this.#gap
    if (logLines > 0 || others.length > 0) {
      this.#gap = { logLines: 0, others: [] }
      this.#head = [...(logLines > 0 ? [dropNote(logLines)] : []), ...others].reverse()
      return
    }
    this.#head = this.#tail.map(({ json }) => json).reverse()
    this.#tail = []
    this.#tailBytes = 0
  }

  #spill(): void {
    const items = this.#tail
    const bytes = this.#tailBytes
    this.#tail = []
    this.#tailBytes = 0
    const about = {
      bytes,
      logLines: items.reduce((sum, { logLines }) => sum + logLines, 0),
      others: items.filter(({ logLines }) => logLines === 0).map(({ json }) => json),
    }
    const file = this.#write(items)
    if (file === undefined) {
      // A full disk costs log lines, as a full spool does. These are newer than all segments, so those give way first.
      for (const older of this.#segments.splice(0)) this.#drop(older)
      this.#addToGap(about)
      return
    }
    this.#segments.push({ file, ...about })
    this.#trim()
  }

  #write(items: readonly Item[]): string | undefined {
    try {
      const file = join(this.#makeFolder(), `${++this.#segmentsMade}.jsonl`)
      writeFileSync(file, items.map(({ json }) => json).join('\n'))
      return file
    } catch {
      return undefined
    }
  }

  #trim(): void {
    let bytes = this.#segments.reduce((sum, one) => sum + one.bytes, 0)
    while (bytes > this.#limits.spoolBytes) {
      const oldest = this.#segments.shift()
      if (!oldest) return
      bytes -= oldest.bytes
      this.#drop(oldest)
    }
  }

  #drop(segment: Segment): void {
    forget(segment)
    this.#addToGap(segment)
  }

  #addToGap({ logLines, others }: Pick<Segment, 'logLines' | 'others'>): void {
    this.#gap.logLines += logLines
    this.#gap.others.push(...others)
  }

  #read(segment: Segment): string[] {
    try {
      return readFileSync(segment.file, 'utf8').split('\n')
    } catch {
      // Somebody removed it, or the disk is ill: what was in memory of it is what there is.
      return [...(segment.logLines > 0 ? [dropNote(segment.logLines)] : []), ...segment.others]
    } finally {
      forget(segment)
    }
  }
}

function forget({ file }: Segment): void {
  try {
    rmSync(file, { force: true })
  } catch {
    // A disk on which nothing can be removed any more; the folder of the run goes with the run.
  }
}

function dropNote(logLines: number): string {
  const event: AttemptEvent = {
    kind: 'note',
    message: `${logLines} log lines are left out here: the agent could not send them for too long`,
  }
  return JSON.stringify(event)
}
