import type { AttemptEvent } from '@cyberun/protocol'

/** What an attempt may keep in the log of its task. */
export interface LogBounds {
  lines: number
  characters: number
}

/**
 * Cuts an attempt's log where it grows beyond its bounds, and says so there. Events keep their numbers: one that is cut
 * has no lines.
 */
export class LogCap {
  readonly #bounds: LogBounds
  #lines = 0
  #characters = 0
  #isFull = false

  constructor(bounds: LogBounds) {
    this.#bounds = bounds
  }

  cut(event: AttemptEvent): AttemptEvent {
    if (event.kind !== 'log' && event.kind !== 'note') return event
    if (this.#isFull) return NOTHING
    const lines = event.kind === 'log' ? event.lines.map(({ line }) => line) : [event.message]
    this.#lines += lines.length
    for (const line of lines) this.#characters += line.length
    if (this.#lines <= this.#bounds.lines && this.#characters <= this.#bounds.characters) return event
    this.#isFull = true
    const { lines: most, characters } = this.#bounds
    return {
      kind: 'note',
      message: `The log of this run ends here: it has more than ${most} lines or ${characters} characters. The run goes on.`,
    }
  }
}

const NOTHING: AttemptEvent = { kind: 'log', lines: [] }
