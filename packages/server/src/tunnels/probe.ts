import { ApiError } from '@cyberun/api'
import type { LinkStream } from '@cyberun/link'
import { type ResetCode, StreamResetError } from '@cyberun/protocol'
import { type AgentPath, AgentUnreachableError } from '../routing/routing.ts'

/** How long the agent may take to reach its own loopback, parking included. */
const PROBE_MS = 15_000

/** How long the service may take to close its side after we closed ours. */
const GOODBYE_MS = 1_000

/**
 * Asks the agent to reach a port, and hangs up. Throws `ApiError`: `target_refused`, `port_not_allowed`,
 * `agent_offline`, `timeout`, `unavailable`; and the reason of `signal` when it aborts.
 */
export async function probeTarget(path: AgentPath, port: number, signal: AbortSignal): Promise<void> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)])
  try {
    const stream = await path.open({ target: { kind: 'tcp', port }, priority: 'interactive' }, undefined, patience)
    try {
      await Promise.race([stream.accepted, aborted(patience)])
    } catch (error) {
      stream.reset('cancelled')
      throw error
    }
    hangUp(stream)
  } catch (error) {
    signal.throwIfAborted()
    throw probeError(error, port)
  }
}

/** With FIN, as a client that changed its mind: some services die of a reset. What the service says is dropped. */
function hangUp(stream: LinkStream): void {
  const timer = setTimeout(() => stream.reset('cancelled'), GOODBYE_MS)
  stream.listen({ onData() {}, onEnd() {}, onReset() {}, onDrain() {}, onClose: () => clearTimeout(timer) })
  stream.end()
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

function probeError(error: unknown, port: number): unknown {
  if (error instanceof StreamResetError) return refusalOf(error.code, port)
  if (error instanceof AgentUnreachableError)
    return new ApiError('agent_offline', 'The agent lost its connection: try again when it is back.')
  if (error instanceof DOMException && error.name === 'TimeoutError') return tooSlow(port)
  return error
}

function refusalOf(code: ResetCode, port: number): ApiError {
  switch (code) {
    case 'target_refused':
      return new ApiError(
        'target_refused',
        `Nothing listens on port ${port} of the agent's machine: start the service first.`,
      )
    case 'port_not_allowed':
      return new ApiError(
        'port_not_allowed',
        `The machine's owner does not allow port ${port}: see tunnel_ports in the agent's file.`,
      )
    case 'target_timeout':
      return tooSlow(port)
    default:
      return new ApiError('unavailable', 'The agent could not be asked just now; try again.', { retryAfterSeconds: 1 })
  }
}

function tooSlow(port: number): ApiError {
  return new ApiError('timeout', `Port ${port} of the agent's machine did not answer in time.`)
}
