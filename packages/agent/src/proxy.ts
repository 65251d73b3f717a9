/** The environment's variables, lower and upper case, that say which proxy to use. */
export type Env = Readonly<Record<string, string | undefined>>

/**
 * The HTTP CONNECT proxy for reaching `target`: `HTTPS_PROXY`, also for plain ws, as a WebSocket always asks a proxy for a
 * tunnel; for ws then `http_proxy` (lower case only: upper case can be set by a CGI request); `ALL_PROXY` for both.
 * Unless `NO_PROXY` names the host, or plain ws goes to this very machine, where a proxy would look for it in vain.
 * Throws for a proxy that is no `http://` URL.
 */
export function proxyFromEnv(target: URL, env: Env): URL | undefined {
  const isPlain = target.protocol === 'ws:'
  if (isPlain && isLoopbackHost(target.hostname)) return undefined
  if (listedIn(env['no_proxy'] ?? env['NO_PROXY'] ?? '', target)) return undefined
  const raw =
    (env['https_proxy'] ?? env['HTTPS_PROXY']) ||
    (isPlain && env['http_proxy']) ||
    (env['all_proxy'] ?? env['ALL_PROXY'])
  return raw ? parseProxy(raw) : undefined
}

/** Whether a URL's host can only be this machine. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** Reads `http://[user:password@]host:port`; the scheme may be left out. Throws with what is expected. */
export function parseProxy(raw: string): URL {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(raw) ? raw : `http://${raw}`)
  if (url?.protocol !== 'http:' || url.hostname === '') {
    throw new Error(
      `the proxy must be http://host:port, got ${url ? `${url.protocol}//…` : 'something that is no URL'}`,
    )
  }
  try {
    decodeURIComponent(`${url.username}:${url.password}`)
  } catch {
    throw new Error("the proxy's user and password must be percent-encoded: a % in them is written %25")
  }
  return url
}

/** Whether `NO_PROXY` (hosts, domains with or without a leading dot, optional ports, or `*`) covers the target. */
function listedIn(noProxy: string, target: URL): boolean {
  const host = bareHost(target.hostname)
  const port = target.port || (target.protocol === 'wss:' ? '443' : '80')
  return noProxy
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true
      const [, name = '', entryPort] = /^(.*?)(?::(\d+))?$/.exec(isBareIpv6(entry) ? `[${entry}]` : entry) ?? []
      if (entryPort !== undefined && entryPort !== port) return false
      const domain = bareHost(name.replace(/^\*?\./, ''))
      return host === domain || host.endsWith(`.${domain}`)
    })
}

const isBareIpv6 = (entry: string): boolean => entry.split(':').length > 2 && !entry.startsWith('[')

const bareHost = (host: string): string => host.replace(/^\[|\]$/g, '').toLowerCase()
