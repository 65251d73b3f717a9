import { type Client, type ClientOptions, createClient } from '@cyberun/api/client'
import type { Context } from './context.ts'
import { fetchThroughProxy } from './proxy.ts'

const CALL_MS = 30_000

/**
 * A client whose calls go through the environment's proxy, and end after `CALL_MS` or when the caller says so. Following a
 * task has no end of its own.
 */
export function apiClient(context: Context, options: ClientOptions): Client {
  fetchThroughProxy(context, new URL(options.baseUrl))
  const client = createClient(options)
  return {
    call(name, request, signal) {
      const deadline = AbortSignal.timeout(CALL_MS)
      return client.call(name, request, signal === undefined ? deadline : AbortSignal.any([signal, deadline]))
    },
    follow: client.follow,
  }
}
