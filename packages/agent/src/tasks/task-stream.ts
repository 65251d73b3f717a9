import { type LinkStream, lineEvents } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import {
  type AgentTaskLine,
  FieldError,
  parseServerTaskLine,
  type ServerTaskLine,
  TASK_LIMITS,
} from '@cyberun/protocol'

/** Beyond this many bytes that the link has not taken, what is only live is not worth sending. */
const LIVE_BACKLOG_BYTES = 512 * 1024

export interface TaskStreamHandler {
  onLine(line: ServerTaskLine): void
  onOver(): void
}

/** The lines of one attempt on one link. Whoever holds it hears of its end once. */
export class TaskStream {
  readonly #stream: LinkStream
  readonly #log: Log
  #handler: TaskStreamHandler | undefined

  /** Takes over the stream. The handler may be replaced until the stream is over. */
  constructor(stream: LinkStream, handler: TaskStreamHandler, log: Log) {
    this.#stream = stream
    this.#handler = handler
    this.#log = log
    // A refusal is told as the end of the stream.
    stream.accepted.catch(() => {})
    stream.listen(
      lineEvents(
        {
          onLine: (line) => this.#read(line),
          onOverlong: () => this.#refuse(`a line longer than ${TASK_LIMITS.serverLineBytes} bytes`),
          onOver: () => this.#over(),
        },
        TASK_LIMITS.serverLineBytes,
      ),
    )
  }

  get isOver(): boolean {
    return this.#handler === undefined
  }

  /** From now on this one is told; at once when the stream is over already. */
  handle(handler: TaskStreamHandler): void {
    if (this.#handler) this.#handler = handler
    else handler.onOver()
  }

  send(line: AgentTaskLine): void {
    this.sendJson(JSON.stringify(line))
  }

  sendJson(json: string): void {
    if (this.#handler) this.#stream.write(Buffer.from(`${json}\n`))
  }

  /** Sends what the next one replaces, unless the link is behind. False when it was left out. */
  sendLive(line: AgentTaskLine): boolean {
    if (!this.#handler || this.#stream.queuedBytes > LIVE_BACKLOG_BYTES) return false
    this.send(line)
    return true
  }

  /** Says that nothing more will be said; the handler hears nothing any more. */
  end(): void {
    if (!this.#handler) return
    this.#handler = undefined
    this.#stream.end()
  }

  #read(json: string): void {
    try {
      const line = parseServerTaskLine(json)
      if (line) this.#handler?.onLine(line)
    } catch (error) {
      if (!(error instanceof FieldError)) throw error
      this.#refuse(error.message)
    }
  }

  #refuse(problem: string): void {
    this.#log.warn({ problem, hint: 'server and agent may be of versions that do not fit' }, 'attempt.line_invalid')
    this.#stream.reset('internal')
    this.#over()
  }

  #over(): void {
    const handler = this.#handler
    this.#handler = undefined
    this.#stream.end()
    handler?.onOver()
  }
}
