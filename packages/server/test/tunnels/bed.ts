import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { acceptLink, dialAndRelay, dialLink, type Link } from '@cyberun/link'
import { createLog } from '@cyberun/link/log'
import type { Routing } from '../../src/routing/routing.ts'
import type { EdgeAddress } from '../../src/tunnels/doors/path-pages.ts'
import { PortDoors } from '../../src/tunnels/doors/port-doors.ts'
import { type Edge, type EdgeOptions, startEdge } from '../../src/tunnels/edge/edge.ts'
import { OpenTunnel, type TunnelFacts } from '../../src/tunnels/open-tunnel.ts'
import { createVisitorAddress } from '../../src/visitor-address.ts'

/** An edge, and a link to an "agent" that dials whatever port a stream names: real sockets, no store, no keys. */
export interface Bed extends AsyncDisposable {
  readonly edge: Edge
  /** The agent's end of the link; the server's end is what streams are opened on. */
  readonly agent: Link
  /** Opens a tunnel; `facts` replace the usual ones. */
  open(targetPort: number, facts?: Partial<TunnelFacts>): OpenTunnel
  /** Takes a tunnel away, as its closing does. */
  close(tunnel: OpenTunnel): void
}

export const SILENT = createLog({ level: 'silent', format: 'json' })

export async function startBed(options: Partial<EdgeOptions> = {}): Promise<Bed> {
  await using stack = new AsyncDisposableStack()
  const { agent, routing, close } = await startAgentLink()
  stack.defer(close)
  const tunnels = new Set<OpenTunnel>()
  const edge = await startEdge({
    host: '127.0.0.1',
    port: 0,
    tunnelDomain: 'localhost',
    visitorAddress: createVisitorAddress([]),
    visitorNotice: false,
    agents: { handleUpgrade: (_request, socket) => void socket.destroy() },
    routing,
    tunnels: {
      byToken: (token) => [...tunnels].find(({ facts }) => facts.token === token),
      byLabel: (label) => [...tunnels].find((tunnel) => tunnel.facts.label === label),
      byEdgePort: (port) => [...tunnels].find(({ facts }) => facts.edgePort === port),
      edgePorts: () => [],
    },
    pathPages: 'sandbox',
    portDoors: noPortDoors(),
    hop: 'gw-test',
    log: SILENT,
    now: Date.now,
    ...options,
  })
  const closeTunnel = (tunnel: OpenTunnel): void => {
    tunnels.delete(tunnel)
    tunnel.close()
  }
  stack.defer(async () => {
    for (const tunnel of tunnels) closeTunnel(tunnel)
    await edge.stop(AbortSignal.abort())
  })
  const running = stack.move()
  return {
    edge,
    agent,
    open(targetPort, facts = {}) {
      const tunnel = newTunnel({ targetPort, ...facts })
      tunnels.add(tunnel)
      return tunnel
    },
    close: closeTunnel,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** A tunnel that nobody has used. */
export function newTunnel(facts: Partial<TunnelFacts> = {}): OpenTunnel {
  return new OpenTunnel(
    {
      sessionId: randomUUID(),
      teamId: 'team',
      agentId: 'agent',
      targetPort: 8188,
      protocol: 'http',
      token: randomBytes(32).toString('base64url'),
      visitSecret: randomBytes(32).toString('base64url'),
      adminTokenHash: '',
      label: randomBytes(16).toString('hex'),
      openedAt: 0,
      openedByUserId: 'user',
      taskId: null,
      idleTimeoutMs: 60_000,
      ...{ profile: 'generic', hostPolicy: 'rewrite', pathMode: 'strip', edgePort: null },
      ...facts,
    },
    { bytesIn: 0, bytesOut: 0, lastActivityAt: 0 },
  )
}

/** For an edge without port doors. */
export function noPortDoors(): PortDoors {
  return new PortDoors({ range: undefined, host: '127.0.0.1', log: SILENT })
}

/** An edge as whoever names its tunnels' addresses sees it: plain, no port doors, pages in a sandbox. */
export function edgeAddress(url: string, tunnelDomain: string): EdgeAddress {
  const hasPortRange = false
  return { url, tunnelDomain, pathPages: 'sandbox', listenerScheme: 'http', openPorts: new Set(), hasPortRange }
}

/** Ports that the agent of these tests refuses as its owner's rule would. */
export const FORBIDDEN_PORT = 1

/** A link whose far end dials for every stream, and a routing that leads to nothing else. */
export async function startAgentLink(): Promise<{ agent: Link; routing: Routing; close: () => Promise<void> }> {
  const listener = createServer()
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<Link>((resolve, reject) => {
    listener.once('upgrade', (request, socket, head) => {
      const greeting = { software: 'bed', fields: {} }
      const welcome = async () => greeting
      const onStream = () => undefined
      acceptLink({ request, socket: socket as Socket, head, challenge: '', welcome, onStream }).then(resolve, reject)
    })
  })
  const { port } = listener.address() as AddressInfo
  const agent = await dialLink({
    url: new URL(`ws://127.0.0.1:${port}/agent`),
    headers: {},
    hello: () => ({ software: 'bed', fields: {} }),
    onStream(stream) {
      const port = stream.init.target.kind === 'tcp' ? stream.init.target.port : 0
      if (port === FORBIDDEN_PORT) stream.reset('port_not_allowed')
      else void dialAndRelay(stream, { hosts: ['127.0.0.1'], port, timeoutMs: 5_000 })
      return undefined
    },
  })
  const server = await accepted
  return {
    agent,
    routing: { pathTo: () => ({ open: async (init, events) => server.open(init, events) }) },
    async close() {
      agent.close({ code: 'done', message: 'the test is over' })
      await server.closed
      await new Promise((resolve) => listener.close(resolve))
    },
  }
}
