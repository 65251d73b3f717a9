import { once } from 'node:events'
import type { Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An HTTP server that has its port. */
export interface Listening {
  /** The port bound, also when 0 was asked for. */
  readonly port: number
  /** Takes no new connection, lets requests under way finish until `signal` aborts, then cuts what is left. */
  stop(signal: AbortSignal): Promise<void>
}

/** Binds `server`. Rejects with the system's error (`EADDRINUSE`, `EACCES`). */
export async function listen(server: Server, at: { host: string; port: number }): Promise<Listening> {
  const underWay = new Set<ServerResponse>()
  server.prependListener('request', (_request, response: ServerResponse) => {
    underWay.add(response)
    response.once('close', () => underWay.delete(response))
  })
  server.listen(at.port, at.host)
  await once(server, 'listening')
  // From now on it means a connection that could not be accepted, which its caller sees.
  server.on('error', () => {})
  return {
    port: (server.address() as AddressInfo).port,
    async stop(signal) {
      if (!server.listening) return
      const closed = once(server, 'close')
      // This closes idle connections too. One with a request under way would stay for its keep-alive time after it.
      server.close()
      for (const response of underWay) if (!response.headersSent) response.setHeader('connection', 'close')
      const cut = () => server.closeAllConnections()
      if (signal.aborted) cut()
      signal.addEventListener('abort', cut, { once: true })
      await closed
      signal.removeEventListener('abort', cut)
    },
  }
}
