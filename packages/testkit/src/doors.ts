import type { DoorFactory } from './http-suite/visitor.ts'
import type { Installation } from './installation.ts'

/** A client that keeps no cookies shows the tunnel's token in this field at the host door. */
const TOKEN_FIELD = 'Cyberun-Tunnel-Token'

/** The services of the suites tell each request by its order, so nobody asks them what they are. */
const UNASKED = { profile: 'generic' } as const

/**
 * The two doors of `installation` through which a client on this machine comes to a service. `tls` gives the authority
 * of the edge's certificate, PEM, when it has one.
 */
export function doorsOf(
  installation: () => Installation,
  tls?: { ca: () => string },
): { host: DoorFactory; path: DoorFactory } {
  const over = tls === undefined ? '' : ' over TLS'

  const open = async (port: number) => {
    const { edgePort, openTunnel, closeTunnel } = installation()
    const { sessionId, tunnelUrl, hostUrl = '' } = await openTunnel(port, 'http', UNASKED)
    const [, token = ''] = /\/tunnel\/([^/]+)\/$/.exec(tunnelUrl) ?? []
    const [, label = ''] = /^https?:\/\/([^.]+)\./.exec(hostUrl) ?? []
    const trust = tls && { ca: tls.ca() }
    return { edgePort, token, trust, label, stop: () => closeTunnel(sessionId) }
  }
  return {
    host: {
      name: `the host door${over}`,
      parses: true,
      tls: tls !== undefined,
      async start({ port }) {
        const { edgePort, token, trust, label, stop } = await open(port)
        const hostHeader = `${label}.localhost:${edgePort}`
        const extraHeaders = [[TOKEN_FIELD, token]] as const
        return {
          visitor: { ...trust, host: '127.0.0.1', port: edgePort, hostHeader, pathPrefix: '', extraHeaders },
          stop,
        }
      },
    },
    path: {
      name: `the path door${over}`,
      parses: true,
      tls: tls !== undefined,
      async start({ port }) {
        const { edgePort, token, trust, stop } = await open(port)
        const hostHeader = `127.0.0.1:${edgePort}`
        const pathPrefix = `/tunnel/${token}`
        return {
          visitor: { ...trust, host: '127.0.0.1', port: edgePort, hostHeader, pathPrefix, extraHeaders: [] },
          stop,
        }
      },
    },
  }
}
