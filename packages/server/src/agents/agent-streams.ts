import { encodeLine, type Link, type LinkStream, lineEvents, type StreamEvents } from '@cyberun/link'
import {
  AGENT_LIMITS,
  type AgentLine,
  FieldError,
  parseAgentLine,
  type ServerLine,
  unreachable,
} from '@cyberun/protocol'
import { InventoryParts } from './inventory.ts'
import type { AgentsLimits } from './limits.ts'
import type { AgentConnection } from './types.ts'
import type { AgentRecord } from './view.ts'

/** What the streams of agents reach: one for all links, which each keep it. */
export interface StreamsHost {
  readonly limits: AgentsLimits
  /** Milliseconds since 1970. */
  now(): number
  /** The agent said something new of itself. */
  reported(agent: AgentConnection, what: 'heartbeat' | 'inventory'): void
  /** Owns a stream about tasks. */
  serveTaskStream(stream: LinkStream, agent: AgentConnection): void
}

/** Serves the streams that an agent opens on one link: one `control`, a few `echo`, and those about tasks. */
export class AgentStreams {
  readonly #host: StreamsHost
  #link: Link | undefined
  /** Undefined on a link that only measures: it gets echo streams and nothing else. */
  #agent: AgentConnection | undefined
  #control: LinkStream | undefined
  #echoes: Set<LinkStream> | undefined
  /** Of an inventory that is being told. */
  #inventory: InventoryParts | undefined

  constructor(host: StreamsHost) {
    this.#host = host
  }

  /** The link these streams are on, which ends when the agent breaks a rule. It brings no stream before. */
  on(link: Link): void {
    this.#link = link
  }

  /** The agent has its place now: heartbeats go into its record. */
  seated(agent: AgentConnection): void {
    this.#agent = agent
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
        if (this.#agent) this.#host.serveTaskStream(stream, this.#agent)
        else stream.reset('unsupported')
        return
      case 'tcp':
      case 'terminal':
        stream.reset('unsupported')
        return
      default:
        unreachable(stream.init.target)
    }
  }

  #serveControl(stream: LinkStream): void {
    if (!this.#agent) stream.reset('unsupported')
    else if (this.#control) stream.reset('refused')
    else {
      this.#control = stream
      stream.listen(this.#controlEvents(stream, this.#agent))
      stream.accept()
    }
  }

  #serveEcho(stream: LinkStream): void {
    this.#echoes ??= new Set()
    const echoes = this.#echoes
    if (echoes.size >= this.#host.limits.echoStreams) stream.reset('refused')
    else {
      echoes.add(stream)
      stream.listen(echoEvents(stream, () => echoes.delete(stream)))
      stream.accept()
    }
  }

  #controlEvents(stream: LinkStream, agent: AgentConnection): StreamEvents {
    const { controlLines, controlLinesWindowMs, controlQueuedBytes } = this.#host.limits
    let windowFrom = this.#host.now()
    let linesInWindow = 0

    const onLine = (line: string): void => {
      const now = this.#host.now()
      if (now - windowFrom >= controlLinesWindowMs) {
        windowFrom = now
        linesInWindow = 0
      }
      if (++linesInWindow > controlLines) {
        this.#fault(`more than ${controlLines} control lines in ${controlLinesWindowMs / 1000} s`)
        return
      }
      const sequence = this.#takeLine(line, agent, now)
      if (sequence === undefined) return
      const answer: ServerLine = { type: 'heartbeat_ok', sequence }
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

  /** Keeps what the line says. The number of a heartbeat, which is to be answered; undefined for any other line. */
  #takeLine(line: string, agent: AgentConnection, now: number): number | undefined {
    try {
      const said = parseAgentLine(line)
      // Of a type this release does not know.
      if (said === undefined) return undefined
      if (said.type === 'heartbeat') {
        takeHeartbeat(said, agent.record, now)
        this.#host.reported(agent, 'heartbeat')
        return said.sequence
      }
      this.#inventory ??= new InventoryParts()
      const inventory = this.#inventory.take(said)
      if (inventory === undefined) return undefined
      this.#inventory = undefined
      agent.record.inventory = inventory
      this.#host.reported(agent, 'inventory')
      return undefined
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

function takeHeartbeat(said: Extract<AgentLine, { type: 'heartbeat' }>, record: AgentRecord, now: number): void {
  record.lastHeartbeatAt = now
  record.systemStats = said.system_stats
  record.freeSlots = said.free_slots
  if (said.tools) record.tools = said.tools
}

/** Sends back what comes, at the pace at which it is taken: a chunk's credit returns when its echo has left. */
function echoEvents(stream: LinkStream, onClose: () => void): StreamEvents {
  return {
    onData(chunk) {
      stream.pass(chunk)
    },
    onEnd: () => stream.end(),
    onReset() {},
    onDrain() {},
    onClose,
  }
}
