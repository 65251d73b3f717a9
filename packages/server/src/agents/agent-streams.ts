import { encodeLine, type LinkStream, lineEvents, type StreamEvents, type StreamHandler } from '@cyberun/link'
import {
  AGENT_LIMITS,
  type AgentLine,
  FieldError,
  parseAgentLine,
  type ServerLine,
  unreachable,
} from '@cyberun/protocol'
import type { AgentsLimits } from './limits.ts'

export interface StreamUsers {
  /** Undefined for a link that only measures: it gets echo streams and nothing else. */
  onHeartbeat: ((heartbeat: AgentLine) => void) | undefined
  /** The agent broke a rule of its control stream: the link must end. The message says which, and what is expected. */
  onFault(message: string): void
}

/** Serves the streams that an agent opens on one link: one `control`, a few `echo`. */
export function createAgentStreams(users: StreamUsers, limits: AgentsLimits, now: () => number): StreamHandler {
  let control: LinkStream | undefined
  const echoes = new Set<LinkStream>()

  return (stream) => {
    switch (stream.init.target.kind) {
      case 'control':
        if (!users.onHeartbeat) stream.reset('unsupported')
        else if (control) stream.reset('refused')
        else {
          control = stream
          stream.listen(controlEvents(stream, users, limits, now))
          stream.accept()
        }
        return undefined
      case 'echo':
        if (echoes.size >= limits.echoStreams) stream.reset('refused')
        else {
          echoes.add(stream)
          stream.listen(echoEvents(stream, () => echoes.delete(stream)))
          stream.accept()
        }
        return undefined
      case 'tcp':
        stream.reset('unsupported')
        return undefined
      default:
        return unreachable(stream.init.target)
    }
  }
}

function controlEvents(stream: LinkStream, users: StreamUsers, limits: AgentsLimits, now: () => number): StreamEvents {
  let windowFrom = now()
  let linesInWindow = 0

  function onLine(line: string): void {
    if (now() - windowFrom >= limits.controlLinesWindowMs) {
      windowFrom = now()
      linesInWindow = 0
    }
    if (++linesInWindow > limits.controlLines) {
      users.onFault(`more than ${limits.controlLines} control lines in ${limits.controlLinesWindowMs / 1000} s`)
      return
    }
    const heartbeat = readLine(line, users)
    if (!heartbeat) return
    users.onHeartbeat?.(heartbeat)
    const answer: ServerLine = { type: 'heartbeat_ok', sequence: heartbeat.sequence }
    // An agent that writes and never reads gets no more answers rather than our memory.
    if (stream.queuedBytes < limits.controlQueuedBytes) stream.write(encodeLine(answer))
  }

  return lineEvents(
    {
      onLine,
      onOverlong: () => users.onFault(`a control line may have ${AGENT_LIMITS.controlLineBytes} bytes at most`),
      onOver: () => stream.end(),
    },
    AGENT_LIMITS.controlLineBytes,
  )
}

/** Undefined for a line of a type this release does not know, which is skipped, and for one that ends the link. */
function readLine(line: string, users: StreamUsers): AgentLine | undefined {
  try {
    return parseAgentLine(line)
  } catch (error) {
    if (!(error instanceof FieldError)) throw error
    users.onFault(error.message)
    return undefined
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
