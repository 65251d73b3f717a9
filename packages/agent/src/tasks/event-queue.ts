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

/** What is left of events whose log lines were dropped. */
type Gap = Pick<Segment, 'logLines' | 'others'>

const NO_GAP: Gap = { logLines: 0, others: [] }

type QueueLimits = Pick<RunLimits, 'queueBytes' | 'spoolBytes'>

/**
 * Events of one attempt that wait to be sent, oldest first: in memory, then in files. At the bound the oldest log lines are
 * dropped and a note in their place says how many. Files are written and read at once: by `push` and `shift` at most
 * `queueBytes` at a time, and only while the server does not keep up, where asynchronous ones would need a queue of their own.
 */
export class EventQueue {
  readonly #makeFolder: () => string
  readonly #limits: QueueLimits
  /** Next to go, the last one first. */
  #head: string[] = []
  /** What was dropped between head and segments, and the events that were not. */
  #gap = NO_GAP
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

  /** All of it, oldest first, as JSON texts; it stays in the queue. */
  all(): string[] {
    return [
      ...this.#head.toReversed(),
      ...gapEvents(this.#gap),
      ...this.#segments.flatMap((segment) => linesOf(segment)),
      ...this.#tail.map(({ json }) => json),
    ]
  }

  #refill(): void {
    this.#head = gapEvents(this.#gap).reverse()
    this.#gap = NO_GAP
    if (this.#head.length > 0) return
    const segment = this.#segments.shift()
    if (segment) {
      this.#head = linesOf(segment).reverse()
      forget(segment)
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

  #addToGap({ logLines, others }: Gap): void {
    this.#gap = { logLines: this.#gap.logLines + logLines, others: [...this.#gap.others, ...others] }
  }
}

function linesOf(segment: Segment): string[] {
  try {
    return readFileSync(segment.file, 'utf8').split('\n')
  } catch {
    // Somebody removed it, or the disk is ill: what was in memory of it is what there is.
    return gapEvents(segment)
  }
}

/** What stands where log lines were dropped. */
function gapEvents({ logLines, others }: Gap): string[] {
  return [...(logLines > 0 ? [dropNote(logLines)] : []), ...others]
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
