import type { AttemptEvent, LogLine } from '@cyberun/protocol'
import type { RunLimits } from './limits.ts'

/**
 * The log of one attempt: lines in batches, up to a cap for the task. Beyond it only the last lines are kept, and come
 * with the end, because that is where a program says why it failed; the log says what is left out.
 */
export class TaskLog {
  readonly #emit: (event: AttemptEvent) => void
  readonly #wallMs: () => number
  readonly #limits: RunLimits
  #batch: LogLine[] = []
  #batchBytes = 0
  #timer: NodeJS.Timeout | undefined
  #lines = 0
  #bytes = 0
  #notes = 0
  /** Lines beyond the cap that are still kept, and how many came beyond it in all. */
  #last: LogLine[] = []
  #lastBytes = 0
  #beyond = 0

  /** `wallMs` is the time of day that lines are stamped with. */
  constructor(emit: (event: AttemptEvent) => void, wallMs: () => number, limits: RunLimits) {
    this.#emit = emit
    this.#wallMs = wallMs
    this.#limits = limits
  }

  line(stream: LogLine['stream'], text: string): void {
    const line = this.#stamp(stream, text)
    if (this.#lines >= this.#limits.taskLogLines || this.#bytes >= this.#limits.taskLogBytes) {
      this.#keepLast(line)
      return
    }
    this.#lines += 1
    this.#bytes += bytesOf(line)
    this.#add(line)
  }

  note(message: string): void {
    if (this.#notes >= this.#limits.notes) return
    this.#notes += 1
    this.#say(message)
  }

  /** Sends what waits for its batch. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#batch.length === 0) return
    const lines = this.#batch
    this.#batch = []
    this.#batchBytes = 0
    this.#emit({ kind: 'log', lines })
  }

  /** The run is over: says what was left out and adds the last lines. Ending twice is harmless. */
  end(): void {
    const leftOut = this.#beyond - this.#last.length
    const last = this.#last
    this.#last = []
    this.#beyond = 0
    if (leftOut > 0) this.#say(`${leftOut} log lines are left out here; the last ones of the run follow`)
    for (const line of last) this.#add(line)
    this.flush()
  }

  /** Nothing is sent any more. */
  stop(): void {
    clearTimeout(this.#timer)
    this.#batch = []
    this.#last = []
    this.#beyond = 0
  }

  /** In its place among the lines. */
  #say(message: string): void {
    this.flush()
    this.#emit({ kind: 'note', message: wellFormed(message, this.#limits.lineCharacters) })
  }

  #add(line: LogLine): void {
    this.#batch.push(line)
    this.#batchBytes += bytesOf(line)
    if (this.#batch.length >= this.#limits.batchLines || this.#batchBytes >= this.#limits.batchBytes) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), this.#limits.batchMs)
  }

  #keepLast(line: LogLine): void {
    if (this.#beyond === 0) {
      this.#say(`the log of this task has reached its cap of ${this.#lines} lines: only its last lines will be kept`)
    }
    this.#beyond += 1
    this.#last.push(line)
    this.#lastBytes += bytesOf(line)
    while (this.#last.length > this.#limits.lastLines || this.#lastBytes > this.#limits.lastBytes) {
      const oldest = this.#last.shift()
      if (!oldest) return
      this.#lastBytes -= bytesOf(oldest)
    }
  }

  #stamp(stream: LogLine['stream'], text: string): LogLine {
    return {
      stream,
      line: wellFormed(text, this.#limits.lineCharacters),
      timestamp: new Date(this.#wallMs()).toISOString(),
    }
  }
}

/** What a line weighs on the wire, apart from escapes. */
function bytesOf({ line }: LogLine): number {
  return Buffer.byteLength(line) + 70
}

/** Text the wire takes: cut to `most` characters, lone surrogates and NUL replaced. */
export function wellFormed(text: string, most: number): string {
  const whole = text.length <= most ? text : `${text.slice(0, most - 30)} … (${text.length - most + 30} more)`
  return whole.toWellFormed().replaceAll('\0', '\ufffd')
}
