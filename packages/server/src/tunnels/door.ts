/** A tunnel as its visitors see it through one door, and as its service sees itself. Computed once, then only read. */
export interface Door {
  /** `host`: the tunnel has an origin of its own. `path`: it lives below `/tunnel/<token>` on the edge's origin. */
  kind: 'host' | 'path'
  /** What a visitor's path starts with before the service's own path: empty, or `/tunnel/<token>` without a slash. */
  prefix: string
  /** `https://<host>[:port]`, as the visitor's browser names where it is. */
  origin: string
  /** Pages of this door share their origin with other tunnels, so they run in a sandbox and are `Origin: null`. */
  sandboxed: boolean
}

/** The service's own address, as requests name it after rewriting. */
export interface LocalTarget {
  /** `localhost:8188`, or `localhost` for port 80: what a browser beside the service would send as Host. */
  host: string
  /** `http://localhost:8188` */
  origin: string
  /** Every way the service may name itself in absolute URLs. */
  origins: readonly string[]
}

/** `localhost` rather than an address: the agent dials 127.0.0.1 or ::1, and services that check Host know the name. */
export function localTarget(port: number): LocalTarget {
  const suffix = port === 80 ? '' : `:${port}`
  const names = ['localhost', '127.0.0.1', '[::1]']
  return {
    host: `localhost${suffix}`,
    origin: `http://localhost${suffix}`,
    origins: names.flatMap((name) => [`http://${name}${suffix}`, `//${name}${suffix}`]),
  }
}
