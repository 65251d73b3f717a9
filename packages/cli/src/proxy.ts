import { setGlobalProxyFromEnv } from 'node:http'
import { proxyFromEnv } from '@cyberun/agent/proxy'
import type { Context } from './context.ts'
import { CliError } from './errors.ts'

/** The environment's HTTP proxy for a URL, by the agent's rules. Throws a `CliError` for one that cannot be used. */
export function proxyFor(context: Context, url: URL): URL | undefined {
  const socketUrl = new URL(url)
  socketUrl.protocol = url.protocol.replace('http', 'ws')
  try {
    return proxyFromEnv(socketUrl, context.env)
  } catch (error) {
    throw new CliError('usage', 'settings', (error as Error).message, { cause: error })
  }
}

/**
 * Makes `fetch` go through that proxy. It can only be set for the whole process; a command calls one server, and
 * nothing else.
 */
export function fetchThroughProxy(context: Context, url: URL): void {
  const proxy = proxyFor(context, url)?.href
  if (proxy !== undefined) setGlobalProxyFromEnv({ http_proxy: proxy, https_proxy: proxy })
}
