/** Reads a `text/event-stream` (WHATWG HTML, section 9.2.6) from its bytes, however they are cut. */

/** One event as it was sent. */
export interface ReadEvent {
  /** Undefined when it has none of its own: the last id stays. */
  id: string | undefined
  event: string
  data: string
}

/** More than any event has: a picture in base64 and its frame. */
const MAX_EVENT_CHARACTERS = 16 * 1024 * 1024

/** A stream that is not what it says it is. */
export class EventStreamError extends Error {
  override readonly name = 'EventStreamError'
}

export class EventReader {
  readonly #decoder = new TextDecoder()
  #rest = ''
  #id: string | undefined
  #event = ''
  #data: string[] = []
  #characters = 0
  /** What the server asked for with `retry`, in milliseconds. */
  retryMs: number | undefined

  /** The events that these bytes complete. Throws `EventStreamError` for one without end. */
  push(bytes: Uint8Array): ReadEvent[] {
    const events: ReadEvent[] = []
    // A line ends with CR, LF or both; of a CR at the very end it is not known yet.
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      const event = this.#line(line)
      if (event) events.push(event)
    }
    if (this.#rest.length + this.#characters > MAX_EVENT_CHARACTERS) {
      throw new EventStreamError(`an event has more than ${MAX_EVENT_CHARACTERS} characters`)
    }
    return events
  }

  #line(line: string): ReadEvent | undefined {
    if (line === '') return this.#end()
    this.#characters += line.length
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    switch (field) {
      case 'id':
        this.#id = value
        break
      case 'event':
        this.#event = value
        break
      case 'data':
        this.#data.push(value)
        break
      case 'retry':
        if (/^\d{1,9}$/.test(value)) this.retryMs = Number(value)
        break
      default: // A comment, or a field of a later day.
    }
    return undefined
  }

  #end(): ReadEvent | undefined {
    const read = { id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') }
    const isEmpty = this.#data.length === 0
    this.#id = undefined
    this.#event = ''
    this.#data = []
    this.#characters = 0
    return isEmpty ? undefined : read
  }
}
