import type { DoorFactory } from './http-suite/visitor.ts'
import type { Installation } from './installation.ts'

/** A client that keeps no cookies shows the tunnel's token in this field at the host door. */
const TOKEN_FIELD = 'Cyberun-Tunnel-Token'

/** The services of the suites tell each request by its order, so nobody asks them what they are. */
const UNASKED = { profile: 'generic' } as const

/** The port door, of an installation with `BROWSER_DOORS.port.settings()`: elsewhere the host door comes before it. */
export function portDoorOf(installation: () => Installation): DoorFactory {
  return {
    name: 'the port door',
    parses: true,
    async start({ port }) {
      const { openTunnel, closeTunnel } = installation()
      const { sessionId, hostUrl = '' } = await openTunnel(port, 'http', UNASKED)
      const { host: hostHeader, port: edgePort, pathname } = new URL(hostUrl)
      const extraHeaders = [[TOKEN_FIELD, pathname.split('/')[2] ?? '']] as const
      return {
        visitor: { host: '127.0.0.1', port: Number(edgePort), hostHeader, pathPrefix: '', extraHeaders },
        stop: () => closeTunnel(sessionId),
      }
    },
  }
}

/** `cyberun forward`: a port of the visitor's own machine. */
export function localDoorOf(installation: () => Installation): DoorFactory {
  return {
    name: 'the local door',
    parses: false,
    async start({ port }) {
      const forward = await installation().forward(port)
      const hostHeader = `localhost:${port}`
      return {
        visitor: { host: '127.0.0.1', port: forward.port, hostHeader, pathPrefix: '', extraHeaders: [] },
        stop: forward.stop,
      }
    },
  }
}

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
