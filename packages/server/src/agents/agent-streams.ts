import { encodeLine, type Link, type LinkStream, lineEvents, type StreamEvents } from '@cyberun/link'
import {
  AGENT_LIMITS,
  type AgentLine,
  FieldError,
  parseAgentLine,
  type ServerLine,
  unreachable,
} from '@cyberun/protocol'
import type { AgentsLimits } from './limits.ts'
import type { AgentRecord } from './view.ts'

/** Serves the streams that an agent opens on one link: one `control`, a few `echo`. */
export class AgentStreams {
  readonly #record: AgentRecord | undefined
  readonly #limits: AgentsLimits
  readonly #now: () => number
  #link: Link | undefined
  #control: LinkStream | undefined
  #echoes: Set<LinkStream> | undefined

  /** Heartbeats go into `record`. Without one the link only measures: it gets echo streams and nothing else. */
  constructor(record: AgentRecord | undefined, limits: AgentsLimits, now: () => number) {
    this.#record = record
    this.#limits = limits
    this.#now = now
  }

  /** The link these streams are on, which ends when the agent breaks a rule. It brings no stream before. */
  on(link: Link): void {
    this.#link = link
  }

  serve(stream: LinkStream): void {
    switch (stream.init.target.kind) {
      case 'control':
        this.#serveControl(stream)
        return
      case 'echo':
        this.#serveEcho(stream)
        return
      case 'task':
      case 'artifact':
      case 'input':
      case 'tcp':
        stream.reset('unsupported')
        return
      default:
        unreachable(stream.init.target)
    }
  }

  #serveControl(stream: LinkStream): void {
    if (!this.#record) stream.reset('unsupported')
    else if (this.#control) stream.reset('refused')
    else {
      this.#control = stream
      stream.listen(this.#controlEvents(stream, this.#record))
      stream.accept()
    }
  }

  #serveEcho(stream: LinkStream): void {
    this.#echoes ??= new Set()
    const echoes = this.#echoes
    if (echoes.size >= this.#limits.echoStreams) stream.reset('refused')
    else {
      echoes.add(stream)
      stream.listen(echoEvents(stream, () => echoes.delete(stream)))
      stream.accept()
    }
  }

  #controlEvents(stream: LinkStream, record: AgentRecord): StreamEvents {
    const { controlLines, controlLinesWindowMs, controlQueuedBytes } = this.#limits
    let windowFrom = this.#now()
    let linesInWindow = 0

    const onLine = (line: string): void => {
      const now = this.#now()
      if (now - windowFrom >= controlLinesWindowMs) {
        windowFrom = now
        linesInWindow = 0
      }
      if (++linesInWindow > controlLines) {
        this.#fault(`more than ${controlLines} control lines in ${controlLinesWindowMs / 1000} s`)
        return
      }
      const heartbeat = this.#readLine(line)
      if (heartbeat?.type !== 'heartbeat') return
      record.lastHeartbeatAt = now
      record.systemStats = heartbeat.system_stats
      const answer: ServerLine = { type: 'heartbeat_ok', sequence: heartbeat.sequence }
      // An agent that writes and never reads gets no more answers rather than our memory.
      if (stream.queuedBytes < controlQueuedBytes) stream.write(encodeLine(answer))
    }

    return lineEvents(
      {
        onLine,
        onOverlong: () => this.#fault(`a control line may have ${AGENT_LIMITS.controlLineBytes} bytes at most`),
        onOver: () => stream.end(),
      },
      AGENT_LIMITS.controlLineBytes,
    )
  }

  /** Undefined for a line of a type this release does not know, which is skipped, and for one that ends the link. */
  #readLine(line: string): AgentLine | undefined {
    try {
      return parseAgentLine(line)
    } catch (error) {
      if (!(error instanceof FieldError)) throw error
      this.#fault(error.message)
      return undefined
    }
  }

  #fault(message: string): void {
    this.#link?.close({ code: 'protocol_fault', message })
  }
}

/** Sends back what comes, at the pace at which it is taken: a chunk's credit returns when its echo has left. */
function echoEvents(stream: LinkStream, onClose: () => void): StreamEvents {
  return {
    onData(chunk) {
      stream.write(chunk.bytes, chunk.hold())
    },
    onEnd: () => stream.end(),
    onReset() {},
    onDrain() {},
    onClose,
  }
}
