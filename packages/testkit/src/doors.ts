import type { DoorFactory } from './http-suite/visitor.ts'
import type { Installation } from './installation.ts'

/** A client that keeps no cookies shows the tunnel's token in this field at the host door. */
const TOKEN_FIELD = 'Cyberun-Tunnel-Token'

/** The two doors of `installation` through which a client on this machine comes to a service. */
export function doorsOf(installation: () => Installation): { host: DoorFactory; path: DoorFactory } {
  const open = async (port: number) => {
    const { edgePort, openTunnel, closeTunnel } = installation()
    const { sessionId, tunnelUrl } = await openTunnel(port, 'http')
    const [, token = ''] = /\/tunnel\/([^/]+)\/$/.exec(tunnelUrl) ?? []
    return { edgePort, token, label: sessionId.replaceAll('-', ''), stop: () => closeTunnel(sessionId) }
  }
  return {
    host: {
      name: 'the host door',
      parses: true,
      async start({ port }) {
        const { edgePort, token, label, stop } = await open(port)
        const hostHeader = `${label}.localhost:${edgePort}`
        const extraHeaders = [[TOKEN_FIELD, token]] as const
        return { visitor: { host: '127.0.0.1', port: edgePort, hostHeader, pathPrefix: '', extraHeaders }, stop }
      },
    },
    path: {
      name: 'the path door',
      parses: true,
      async start({ port }) {
        const { edgePort, token, stop } = await open(port)
        const hostHeader = `127.0.0.1:${edgePort}`
        const pathPrefix = `/tunnel/${token}`
        return { visitor: { host: '127.0.0.1', port: edgePort, hostHeader, pathPrefix, extraHeaders: [] }, stop }
      },
    },
  }
}
