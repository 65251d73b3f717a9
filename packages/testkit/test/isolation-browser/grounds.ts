import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import type { BrowserOptions } from '../../src/browser.ts'
import { BROWSER_DOORS, EDGE_NAME } from '../../src/browser-doors.ts'
import { makeLocalCertificate } from '../../src/certificate.ts'
import { startInstallation } from '../../src/installation.ts'
import { startNaive } from './naive.ts'
import { type Service, startHostile, startThirdParty, startVictim, type TlsPair, type Victim } from './services.ts'

/** A gateway with both tunnels open, and where in it things are. */
export interface Ground extends AsyncDisposable {
  browser: BrowserOptions
  /** The addresses that visitors were given for the tunnels. */
  tunnels: { a: string; b: string }
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
  addressIsToken?: true
}

async function startProductGround({
  settings = {},
  tls,
  browser = {},
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
  const installation = stack.use(await startInstallation(directory, { ...settings, ...tlsSettings }))
  const origin = pair ? await overTls(pair, installation.controlUrl, stack) : installation.controlUrl
  const [forA, forB] = [await installation.openTunnel(a.port, 'http'), await installation.openTunnel(b.port, 'http')]
  const call = `${origin}/api/v1/agents/${installation.agentId}/tunnel`
  const running = stack.move()
  return {
    browser: {
      anyCertificate: pair !== undefined,
      ...browser,
      localNames: ['third.test', ...(browser.localNames ?? [])],
    },
    tunnels: { a: forA.tunnelUrl, b: forB.tunnelUrl },
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

/** Every way that we have to stand between tunnels and browsers. */
export const GROUNDS: readonly GroundKind[] = [
  {
    name: 'the host door on *.localhost',
    start: () => startProductGround({}),
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
    succeeding: [
      'show B signed in inside a frame, to have it clicked',
      'read B by a script of its own',
      'put a cookie of its own into requests to B by script',
      'push the cookies of B out of the browser',
    ],
  },
  {
    name: 'the path door',
    async start() {
      const settings = await BROWSER_DOORS.path.settings()
      return startProductGround({ settings, browser: trusted(settings), addressIsToken: true })
    },
    succeeding: [
      'change B by a form in the whole tab',
      "find the tunnel's token in address, history or timing",
    ],
  },
]
