import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import type { BrowserOptions } from '../../src/browser.ts'
import { BROWSER_DOORS, EDGE_NAME } from '../../src/browser-doors.ts'
import { makeLocalCertificate } from '../../src/certificate.ts'
import { type OpenedWay, startInstallation } from '../../src/installation.ts'
import { startNaive } from './naive.ts'
import { type Service, startHostile, startThirdParty, startVictim, type TlsPair, type Victim } from './services.ts'

/** A gateway with both tunnels open, and where in it things are. */
export interface Ground extends AsyncDisposable {
  browser: BrowserOptions
  /** What visitors open to come to the tunnels. */
  tunnels: { a: string; b: string }
  /** Tunnel A's path door. */
  addressOfA: string
  tokenOfA: string
  addressIsToken: boolean
  api: { origin: string; call: string; terminal: string; pages: string[] }
  apiChanges(): Promise<number>
  a: Service
  b: Victim
  third: Service & { origin: string }
}

async function startServices(tls?: TlsPair) {
  const [a, b, third] = [await startHostile(), await startVictim(), await startThirdParty(tls)]
  return { a, b, third: { ...third, origin: `${tls === undefined ? 'http' : 'https'}://third.test:${third.port}` } }
}

const stopAll = (services: readonly { stop(): void }[]) => {
  for (const service of services) service.stop()
}

/** One origin for everything, and nothing held back. */
export async function startNaiveGround(): Promise<Ground> {
  const { a, b, third } = await startServices()
  const naive = await startNaive({ AAAAAAAA: a.port, BBBBBBBB: b.port })
  const { origin } = naive
  return {
    browser: { localNames: ['third.test'] },
    tunnels: { a: `${origin}/tunnel/AAAAAAAA/`, b: `${origin}/tunnel/BBBBBBBB/` },
    addressOfA: `${origin}/tunnel/AAAAAAAA/`,
    tokenOfA: 'AAAAAAAA',
    addressIsToken: false,
    api: {
      origin,
      call: `${origin}/api/call`,
      terminal: `${origin.replace('http', 'ws')}/api/terminal`,
      pages: [`${origin}/login`],
    },
    apiChanges: async () => naive.apiChanges.length,
    a,
    b,
    third,
    async [Symbol.asyncDispose]() {
      stopAll([naive, a, b, third])
    },
  }
}

interface ProductGround {
  settings?: Record<string, string>
  /** With TLS on edge, API and the other site. */
  tls?: true
  browser?: BrowserOptions
  /** Visitors open the path door's address, wherever it leads them. */
  byPath?: true
  addressIsToken?: true
}

async function startProductGround({
  settings = {},
  tls,
  browser = {},
  byPath,
  addressIsToken,
}: ProductGround): Promise<Ground> {
  await using stack = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-isolation-browser-'))
  stack.defer(() => rmSync(directory, { recursive: true, force: true }))
  const pair = tls && tlsPair(directory)
  const { a, b, third } = await startServices(pair)
  stack.defer(() => stopAll([a, b, third]))
  const tlsSettings: Record<string, string> = pair
    ? {
        CYBERUN_EDGE_TLS_CERT_FILE: pair.certFile,
        CYBERUN_EDGE_TLS_KEY_FILE: pair.keyFile,
        NODE_EXTRA_CA_CERTS: pair.certFile,
      }
    : {}
  // Reading it first takes time: only where visitors come by a tunnel's path, as most people do.
  const notice = { CYBERUN_EDGE_VISITOR_NOTICE: String(byPath ?? false) }
  const installation = stack.use(await startInstallation(directory, { ...notice, ...settings, ...tlsSettings }))
  const origin = pair ? await overTls(pair, installation.controlUrl, stack) : installation.controlUrl
  const open = (service: Service) => installation.openTunnel(service.port, 'http', { profile: 'generic' })
  const [forA, forB] = [await open(a), await open(b)]
  const opened = ({ tunnelUrl, hostUrl }: OpenedWay) => (byPath ? tunnelUrl : hostUrl) ?? ''
  const call = `${origin}/api/v1/agents/${installation.agentId}/tunnel`
  const running = stack.move()
  return {
    browser: {
      anyCertificate: pair !== undefined,
      ...browser,
      localNames: ['third.test', ...(browser.localNames ?? [])],
    },
    tunnels: { a: opened(forA), b: opened(forB) },
    addressOfA: forA.tunnelUrl,
    tokenOfA: new URL(forA.tunnelUrl).pathname.split('/')[2] ?? '',
    addressIsToken: addressIsToken ?? false,
    api: {
      origin,
      call,
      terminal: `${origin.replace('http', 'ws')}/api/v1/agents/${installation.agentId}/terminal`,
      pages: [`${origin}/api/v1/docs`, `${origin}/terminal`],
    },
    apiChanges: () => installation.countTunnels(),
    a,
    b,
    third,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

function tlsPair(directory: string) {
  const { certFile, keyFile, ca } = makeLocalCertificate(directory)
  return { certFile, keyFile, cert: ca, key: readFileSync(keyFile, 'utf8') }
}

/** The API behind TLS, as a proxy in front of it would have it: pages over TLS may not ask a server without. */
async function overTls(pair: TlsPair, controlUrl: string, stack: AsyncDisposableStack): Promise<string> {
  const { hostname, port } = new URL(controlUrl)
  const server = createTlsServer(pair, (visitor) => {
    const control = connect(Number(port), hostname)
    visitor.on('error', () => control.destroy())
    control.on('error', () => visitor.destroy())
    visitor.pipe(control).pipe(visitor)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  stack.defer(() => void server.close())
  return `https://localhost:${(server.address() as AddressInfo).port}`
}

/** Plain HTTP names that a browser is to take for a secure context, which service workers and caches need. */
function trusted(settings: Record<string, string>): BrowserOptions {
  const [first = 0, last = 0] = (settings['CYBERUN_EDGE_TUNNEL_PORT_RANGE'] ?? '').split('-').map(Number)
  const ports = Array.from({ length: first === 0 ? 0 : last - first + 1 }, (_, i) => first + i)
  return {
    localNames: [EDGE_NAME],
    trustedOrigins: [Number(settings['CYBERUN_EDGE_PORT']), ...ports].map((port) => `http://${EDGE_NAME}:${port}`),
  }
}

export interface GroundKind {
  name: string
  start(): Promise<Ground>
  /** The attacks that nothing of ours can stop there; docs/tunnels.md has the same list. */
  succeeding: readonly string[]
}

/** Browsers let a page set cookies for the names above its own that are not listed, and for every port of its own. */
const FOREIGN_COOKIES = [
  'put a cookie of its own into requests to B by script',
  'push the cookies of B out of the browser',
] as const

/** The path door's address is the token. */
const TOKEN_IN_ADDRESS = "find the tunnel's token in address, history or timing"

/** What pages of one origin can do to each other, as far as no header of the edge and no rule of it stops them. */
const SHARED_ORIGIN = [
  "have a page of its own on the origin of the tunnels' addresses",
  'read a page of B in a frame',
  'read the page of B that opened it',
  'read a page of B in a window of known name',
  'have B answer a message as if from its own page',
  'show B signed in inside a frame, to have it clicked',
  'read B by fetch',
  'read B by a script of its own',
  'open a WebSocket to B',
  'change B by fetch',
  'change B by a form',
  'change B by a form in the whole tab',
  'change B by a beacon',
  'read localStorage of B',
  'read a database of B',
  'read the cache storage of B',
  'read what B has in the HTTP cache',
  'read a cookie of B by script',
  ...FOREIGN_COOKIES,
  'hear B on a BroadcastChannel',
  "join B's SharedWorker",
  'see the locks B holds',
  'use a permission that was given to B',
  "send the tunnel's token to another site by an element's own referrer policy",
  TOKEN_IN_ADDRESS,
] as const

/** Every way that we have to stand between tunnels and browsers. */
export const GROUNDS: readonly GroundKind[] = [
  {
    name: 'the host door on *.localhost',
    start: () => startProductGround({}),
    succeeding: [],
  },
  {
    name: 'the path door beside it',
    start: () => startProductGround({ byPath: true }),
    succeeding: [],
  },
  {
    name: 'the host door on a listed domain',
    start: () =>
      startProductGround({
        tls: true,
        // Chromium takes the last label of any name for listed.
        settings: { CYBERUN_EDGE_TUNNEL_DOMAIN: 'tunnels' },
        browser: { localNames: ['*.tunnels'] },
      }),
    succeeding: [],
  },
  {
    name: 'the host door on a domain that is not listed',
    start: () =>
      startProductGround({
        settings: { CYBERUN_EDGE_TUNNEL_DOMAIN: 'tunnels.test' },
        browser: { localNames: ['*.tunnels.test'] },
      }),
    succeeding: [...FOREIGN_COOKIES],
  },
  {
    name: 'the port door',
    async start() {
      const settings = await BROWSER_DOORS.port.settings()
      return startProductGround({ settings, browser: trusted(settings) })
    },
    succeeding: ['read a cookie of B by script', ...FOREIGN_COOKIES],
  },
  {
    name: 'the path door alone',
    async start() {
      const settings = await BROWSER_DOORS.path.settings()
      return startProductGround({ settings, browser: trusted(settings), byPath: true, addressIsToken: true })
    },
    succeeding: [TOKEN_IN_ADDRESS],
  },
  {
    name: 'the path door alone with edge.dangerously_allow_path_pages',
    async start() {
      const settings = { ...(await BROWSER_DOORS.path.settings()), CYBERUN_EDGE_DANGEROUSLY_ALLOW_PATH_PAGES: 'true' }
      return startProductGround({ settings, browser: trusted(settings), byPath: true, addressIsToken: true })
    },
    succeeding: SHARED_ORIGIN,
  },
]
