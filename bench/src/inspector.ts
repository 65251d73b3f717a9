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
/** What is compared with a tunnel that was never inspected: by the size of answers one that is, and two that are not. */
type Contest = Size | 'off again' | 'itself'

interface Sample {
  requestsPerSecond: number
  /** Microseconds of the server for each request. */
  cpu: number
}

interface Compared {
  kept: number
  /** Microseconds for each request. */
  cpuAdded: number
}

/** What became of the rate of the windows before and after, and what it cost. */
function compare(sample: Sample, before: Sample, after: Sample): Compared {
  return {
    kept: (2 * sample.requestsPerSecond) / (before.requestsPerSecond + after.requestsPerSecond),
    cpuAdded: sample.cpu - (before.cpu + after.cpu) / 2,
  }
}

/** What a tunnel loses while its requests are inspected, and once they no longer are: tunnels to one service, in turns. */
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
  const rounds: Record<Contest, Compared[]> = { small: [], large: [], 'off again': [], itself: [] }
  for (const [size, target, path] of [
    ['small', port, 'small'],
    ['large', large.port, ''],
  ] as const) {
    const open = async () => {
      const tunnel = await product.openTunnel(target, 'http')
      return { tunnel, url: `http://127.0.0.1:${product.edgePort}${tunnel}${path}` }
    }
    const [never, on, offAgain] = [await open(), await open(), size === 'small' ? await open() : undefined]
    await inspect(product, on.tunnel, true)
    if (offAgain) await inspect(product, offAgain.tunnel, true)
    for (const each of [never, on, offAgain]) {
      if (each) await runWrk(wrk, each.url, CONNECTIONS[size], plan.requests.firstWarmUpSeconds)
    }
    if (offAgain) await inspect(product, offAgain.tunnel, false)
    const sample = async ({ url }: { url: string }): Promise<Sample> => {
      const before = cpuMs(product.server.pid)
      const { requests, requestsPerSecond } = await runWrk(wrk, url, CONNECTIONS[size], seconds)
      return { requestsPerSecond, cpu: ((cpuMs(product.server.pid) - before) * 1000) / requests }
    }
    for (let round = 0; round < plan.rounds; round++) {
      // The machine's own pace drifts: each window stands between two of the tunnel that was never inspected.
      const first = await sample(never)
      const inspected = await sample(on)
      const second = await sample(never)
      rounds[size].push(compare(inspected, first, second))
      if (!offAgain) continue
      const wasInspected = await sample(offAgain)
      const third = await sample(never)
      rounds['off again'].push(compare(wasInspected, second, third))
      rounds.itself.push(compare(second, first, third))
    }
  }
  const middle = (contest: Contest, key: keyof Compared) => median(rounds[contest].map((round) => round[key]))
  const noise = Math.max(...rounds.itself.map(({ kept }) => Math.abs(kept - 1)))
  return {
    title: 'The inspector',
    method: [
      'Tunnels to one service, of which one is inspected, without bodies: small requests with `wrk -t1 -c64` and answers of',
      `${LARGE_BYTES / 1024 / 1024} MiB with \`wrk -t1 -c4\`; each inspected window between two of a tunnel that never was. \`off again\` is a tunnel that`,
      'was inspected before, in the same way. `itself` compares the one that never was with its own windows: what that differs',
      `from 1 is noise, and its worst round the target of \`off again\`. Medians of ${plan.rounds} rounds of ${seconds} s.`,
    ].join('\n'),
    rows: [
      { measure: 'requests kept', value: middle('small', 'kept'), unit: '×', target: { atLeast: KEPT } },
      { measure: 'bulk kept', value: middle('large', 'kept'), unit: '×', target: { atLeast: KEPT } },
      { measure: 'server CPU added a request', value: middle('small', 'cpuAdded'), unit: 'µs' },
      {
        measure: 'requests kept, off again',
        value: middle('off again', 'kept'),
        unit: '×',
        target: { atLeast: Math.floor((1 - noise) * 100) / 100 },
      },
      { measure: 'server CPU added a request, off again', value: middle('off again', 'cpuAdded'), unit: 'µs' },
      { measure: 'requests kept, itself', value: middle('itself', 'kept'), unit: '×' },
      { measure: 'server CPU added a request, itself', value: middle('itself', 'cpuAdded'), unit: 'µs' },
    ],
  }
}

/** Turns the inspector of the tunnel with this path on or off. */
async function inspect({ control, agentId }: Product, path: string, is_enabled: boolean): Promise<void> {
  const { controlUrl, emailAddress, userPassword, teamId } = control
  const body = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
  const client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  const { session_list } = await client.call('GET /agents/{agentId}/tunnel', { params: { agentId } })
  const session = session_list.find(({ tunnel_url }) => tunnel_url.endsWith(path))
  if (!session) throw new Error('the tunnel is not listed')
  await client.call('PUT /agents/{agentId}/tunnel/{sessionId}/inspector', {
    params: { agentId, sessionId: session.session_id },
    body: { is_enabled },
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
