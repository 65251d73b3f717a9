import type { Route } from '@cyberun/testkit'

/** One way from the clients to the service, measured beside the others. */
export interface Contender extends AsyncDisposable {
  name: 'direct' | 'haproxy' | 'ssh' | 'tunnel' | 'http tunnel'
  /** How bulk connections are made. */
  route: Route
  /** Where the service's 1 KiB answer is; undefined where requests are not measured. */
  url: string | undefined
  /** Processes at the visitor's end and at the service's end of the tunnel, whose CPU is counted. */
  near: readonly number[]
  far: readonly number[]
}

/** The service itself: what every ratio is made against. */
export function direct(port: number): Contender {
  return {
    name: 'direct',
    route: { kind: 'tcp', port },
    url: `http://127.0.0.1:${port}/small`,
    near: [],
    far: [],
    async [Symbol.asyncDispose]() {},
  }
}
