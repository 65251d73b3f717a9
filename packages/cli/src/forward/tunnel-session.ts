import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from '@cyberun/api/client'
import { type ByteSocket, DialError, type DialFailure, dialWebSocket } from '@cyberun/link'
import type { Context } from '../context.ts'
import { CliError } from '../errors.ts'
import { proxyFor } from '../proxy.ts'

/** A TCP tunnel to one port of an agent, for as long as this command runs. */
export interface TunnelSession {
  /** Of the tunnel that is open now. */
  readonly sessionId: string
  /** One WebSocket, which is one TCP connection at the agent. Throws a `CliError` that says why there is none. */
  dial(signal: AbortSignal): Promise<ByteSocket>
  /** Closes the tunnel. Whether or not the server hears it, the tunnel also ends by itself when nobody uses it. */
  close(): Promise<void>
}

/** How long a connection waits for a server that restarts, or an agent between two links. */
const PATIENCE_MS = 8_000
const FIRST_PAUSE_MS = 250
const CLOSE_MS = 3_000

/** Opens the tunnel. Throws what the API answers: an unknown agent, a port nobody listens on. */
export async function openTunnelSession(
  context: Context,
  client: Client,
  agentId: string,
  targetPort: number,
): Promise<TunnelSession> {
  const params = { agentId }
  const open = () => {
    const body = { target_port: targetPort, tunnel_protocol: 'tcp' } as const
    return client.call('POST /agents/{agentId}/tunnel', { params, body })
  }
  let tunnel = await open()
  /** Under way when the tunnel was closed by somebody or for want of visitors, and is opened again. */
  let reopening: Promise<void> | undefined

  const reopen = (gone: string): Promise<void> => {
    if (tunnel.session_id !== gone) return Promise.resolve()
    reopening ??= open()
      .then((opened) => {
        tunnel = opened
      })
      .finally(() => {
        reopening = undefined
      })
    return reopening
  }
  const dialOnce = (signal: AbortSignal) => {
    const url = new URL(tunnel.tunnel_url)
    const proxy = proxyFor(context, url)
    return dialWebSocket({ url, ...(proxy && { proxy }), signal })
  }
  return {
    get sessionId() {
      return tunnel.session_id
    },
    async dial(signal) {
      const giveUpAt = context.now() + PATIENCE_MS
      for (let wait = FIRST_PAUSE_MS; ; wait *= 2) {
        const { session_id } = tunnel
        try {
          return await dialOnce(signal)
        } catch (error) {
          if (!(error instanceof DialError) || signal.aborted) throw error
          const next = afterFailure(error.failure)
          if (next === 'give up' || context.now() + wait > giveUpAt) throw explain(error)
          if (next === 'open again') await reopen(session_id)
          else await pause(wait, undefined, { signal })
        }
      }
    },
    async close() {
      const request = { params, query: { session_id: tunnel.session_id } }
      await client.call('DELETE /agents/{agentId}/tunnel', request, AbortSignal.timeout(CLOSE_MS)).catch(() => {})
    },
  }
}

function afterFailure(failure: DialFailure): 'give up' | 'open again' | 'try again' {
  switch (failure.kind) {
    case 'http':
      if (failure.status === 404) return 'open again'
      return failure.status === 503 ? 'try again' : 'give up'
    case 'network':
      return 'try again'
    case 'tls':
    case 'proxy':
    case 'refused':
    case 'protocol':
      return 'give up'
  }
}

function explain(error: DialError): CliError {
  const { failure } = error
  if (failure.kind === 'http') {
    const exit =
      failure.status === 502 || failure.status === 403 ? 'target' : failure.status === 503 ? 'busy' : 'failed'
    return new CliError(exit, 'dial_failed', failure.message, { cause: error })
  }
  return new CliError('unreachable', 'dial_failed', `${error.message}: "cyberun doctor" finds out why`, {
    cause: error,
  })
}
