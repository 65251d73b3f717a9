import type { DoorFactory, OpenDoor, Visitor } from './http-suite/visitor.ts'
import type { Installation, TunnelWishes } from './installation.ts'

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

export interface DoorsOptions {
  /** The authority of the edge's certificate, PEM, when it has one. */
  tls?: { ca: () => string }
  /** What the tunnels are opened with besides. */
  wishes?: Pick<TunnelWishes, 'host_policy' | 'path_mode'>
}

/** The two doors of `installation` through which a client on this machine comes to a service. */
export function doorsOf(
  installation: () => Installation,
  { tls, wishes = {} }: DoorsOptions = {},
): { host: DoorFactory; path: DoorFactory } {
  const keepsPath = wishes.path_mode === 'keep'
  const preserves = wishes.host_policy === 'preserve'
  const besides = `${tls ? ' over TLS' : ''}${keepsPath ? ', keeping the path' : ''}${preserves ? ', preserving the host' : ''}`

  const open = async (port: number) => {
    const { edgePort, openTunnel, closeTunnel } = installation()
    const { sessionId, tunnelUrl, hostUrl = '' } = await openTunnel(port, 'http', { ...UNASKED, ...wishes })
    const [, token = ''] = /\/tunnel\/([^/]+)\/$/.exec(tunnelUrl) ?? []
    const [, label = ''] = /^https?:\/\/([^.]+)\./.exec(hostUrl) ?? []
    const trust = tls && { ca: tls.ca() }
    const way = (where: Pick<Visitor, 'hostHeader' | 'pathPrefix' | 'extraHeaders'>): OpenDoor => ({
      visitor: { ...trust, host: '127.0.0.1', port: edgePort, ...where },
      service: {
        hostHeader: preserves ? where.hostHeader : `localhost:${port}`,
        pathPrefix: keepsPath ? `/tunnel/${token}` : '',
      },
      stop: () => closeTunnel(sessionId),
    })
    return { edgePort, token, label, way }
  }
  const common = { parses: true, tls: tls !== undefined }
  return {
    host: {
      ...common,
      name: `the host door${besides}`,
      async start({ port }) {
        const { edgePort, token, label, way } = await open(port)
        return way({
          hostHeader: `${label}.localhost:${edgePort}`,
          pathPrefix: keepsPath ? `/tunnel/${token}` : '',
          extraHeaders: [[TOKEN_FIELD, token]],
        })
      },
    },
    path: {
      ...common,
      name: `the path door${besides}`,
      async start({ port }) {
        const { edgePort, token, way } = await open(port)
        return way({ hostHeader: `127.0.0.1:${edgePort}`, pathPrefix: `/tunnel/${token}`, extraHeaders: [] })
      },
    },
  }
}
