import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from '@cyberun/api/client'
import { cpuMs, findProgram, type Product, startProduct, startService } from '@cyberun/testkit'
import type { Section } from './report.ts'
import type { RequestWindow } from './requests.ts'
import { runWrk } from './requests.ts'
import { median } from './statistics.ts'

/** What an inspector that is on may cost. */
const KEPT = 0.95
const LARGE_BYTES = 4 * 1024 * 1024
const CONNECTIONS = { small: 64, large: 4 } as const

type Size = keyof typeof CONNECTIONS

/** What a tunnel loses while its requests are inspected: two tunnels to one service, one of them inspected, in turns. */
export async function inspectorSection(
  directory: string,
  plan: { rounds: number; requests: RequestWindow },
): Promise<Section> {
  const wrk = findProgram('wrk')
  if (wrk === undefined) throw new Error('requests are measured with wrk: apt-get install wrk')
  await using product = await startProduct(directory)
  await using service = startService()
  await using large = await startLarge()
  const { port } = await service.call('listen', null)
  const seconds = plan.requests.seconds
  const rounds: Record<Size, { kept: number; cpuAdded: number }[]> = { small: [], large: [] }
  for (const [size, target, path] of [
    ['small', port, 'small'],
    ['large', large.port, ''],
  ] as const) {
    const urls = await Promise.all([product.openTunnel(target, 'http'), product.openTunnel(target, 'http')])
    const [off, on] = urls.map((url) => `http://127.0.0.1:${product.edgePort}${url}${path}`)
    if (off === undefined || on === undefined) throw new Error('two tunnels were opened')
    await inspect(product, urls[1])
    for (const url of [off, on]) await runWrk(wrk, url, CONNECTIONS[size], plan.requests.firstWarmUpSeconds)
    const sample = async (url: string) => {
      const before = cpuMs(product.server.pid)
      const { requests, requestsPerSecond } = await runWrk(wrk, url, CONNECTIONS[size], seconds)
      return { requestsPerSecond, cpu: ((cpuMs(product.server.pid) - before) * 1000) / requests }
    }
    for (let round = 0; round < plan.rounds; round++) {
      // The machine's own pace drifts: the inspected one stands between two that are not.
      const before = await sample(off)
      const inspected = await sample(on)
      const after = await sample(off)
      rounds[size].push({
        kept: (2 * inspected.requestsPerSecond) / (before.requestsPerSecond + after.requestsPerSecond),
        cpuAdded: inspected.cpu - (before.cpu + after.cpu) / 2,
      })
    }
  }
  const middle = (size: Size, key: 'kept' | 'cpuAdded') => median(rounds[size].map((round) => round[key]))
  return {
    title: 'The inspector',
    method: [
      'Two tunnels to one service, of which one is inspected, without bodies: small requests with `wrk -t1 -c64` and answers of',
      `${LARGE_BYTES / 1024 / 1024} MiB with \`wrk -t1 -c4\`; each inspected window between two that are not. Medians of ${plan.rounds} rounds of ${seconds} s.`,
    ].join('\n'),
    rows: [
      { measure: 'requests kept', value: middle('small', 'kept'), unit: '×', target: { atLeast: KEPT } },
      { measure: 'bulk kept', value: middle('large', 'kept'), unit: '×', target: { atLeast: KEPT } },
      { measure: 'server CPU added a request', value: middle('small', 'cpuAdded'), unit: 'µs' },
    ],
  }
}

async function inspect({ control, agentId }: Product, path: string): Promise<void> {
  const { controlUrl, emailAddress, userPassword, teamId } = control
  const body = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
  const client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  const { session_list } = await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })
  const session = session_list.find(({ tunnel_url }) => tunnel_url.endsWith(path))
  if (!session) throw new Error('the tunnel is not listed')
  await client.call('PUT /agents/{agentId}/tunnel/{sessionId}/inspector', {
    params: { agentId, sessionId: session.session_id },
    body: { is_enabled: true },
  })
}

async function startLarge(): Promise<AsyncDisposable & { port: number }> {
  const answer = Buffer.alloc(LARGE_BYTES)
  const server = createServer((_request, response) => response.end(answer)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}
