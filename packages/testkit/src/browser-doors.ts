import { freePort, freePorts } from './free-port.ts'
import type { Installation } from './installation.ts'

/** A way for a person's browser to a service. */
export interface BrowserDoor {
  name: 'host' | 'path' | 'port' | 'local'
  /** What `startInstallation` is to be told so that the door is there. */
  settings(): Promise<Record<string, string>>
  /** Opens a way to `port`; `url` is what the person opens. */
  open(installation: Installation, port: number): Promise<{ url: string; close(): Promise<void> }>
}

/**
 * The edge under a name that browsers do not take for their own machine, so that `*.localhost` is out of reach and a
 * tunnel's page stays on the path door. A browser needs it among its `localNames`.
 */
export const EDGE_NAME = 'edge.test'

const nothing = async () => ({})

const host: BrowserDoor = {
  name: 'host',
  settings: nothing,
  async open(installation, port) {
    const { sessionId, tunnelUrl } = await installation.openTunnel(port, 'http')
    return { url: tunnelUrl, close: () => installation.closeTunnel(sessionId) }
  },
}

/** Host and path pages cannot be had of one installation: where there is a host door, the path door leads to it. */
const path: BrowserDoor = {
  name: 'path',
  async settings() {
    const port = await freePort()
    return { CYBERUN_EDGE_PORT: String(port), CYBERUN_EDGE_PUBLIC_URL: `http://${EDGE_NAME}:${port}` }
  },
  open: host.open,
}

const local: BrowserDoor = {
  name: 'local',
  settings: nothing,
  async open(installation, port) {
    const forward = await installation.forward(port)
    return { url: `http://localhost:${forward.port}/`, close: forward.stop }
  },
}

/** How many tunnels an installation can have a port door for at once. */
const PORT_DOORS = 20

const port: BrowserDoor = {
  name: 'port',
  async settings() {
    const first = await freePorts(PORT_DOORS)
    return { ...(await path.settings()), CYBERUN_EDGE_TUNNEL_PORT_RANGE: `${first}-${first + PORT_DOORS - 1}` }
  },
  open: host.open,
}

/** Each door once. */
export const BROWSER_DOORS = { host, path, port, local } as const
