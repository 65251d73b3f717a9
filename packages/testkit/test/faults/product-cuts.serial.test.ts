import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type Child,
  type FaultRelay,
  type LoadVerbs,
  type Product,
  type Route,
  type ServiceVerbs,
  startFaultRelay,
  startLoad,
  startProduct,
  startService,
} from '../../src/index.ts'
import { until } from '../../src/until.ts'

/** Tunnels in use while the network between agent and server breaks: everyone is told, and nothing is left behind. */

let directory: string
let relay: FaultRelay
let product: Product
let service: Child<ServiceVerbs>
let load: Child<LoadVerbs>
let route: Route
let idle: typeof NOTHING

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-cuts-'))
  service = startService()
  load = startLoad()
  const { port } = await service.call('listen', null)
  product = await startProduct(directory, {
    async dialThrough(edgePort) {
      relay = await startFaultRelay({ port: edgePort })
      return relay.port
    },
  })
  route = { kind: 'relay', port: product.edgePort, path: await product.openTunnel(port, 'tcp') }
  // The agent has asked once whether the service is there.
  await until(async () => (await service.call('connections', null)) === 0, { what: 'it has gone again' })
  idle = await openSockets()
})
afterAll(async () => {
  await product[Symbol.asyncDispose]()
  await relay[Symbol.asyncDispose]()
  await load[Symbol.asyncDispose]()
  await service[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

async function openSockets(): Promise<typeof NOTHING> {
  return {
    server: await product.server.call('openSockets', null),
    agent: await product.agent.call('openSockets', null),
    service: await service.call('connections', null),
  }
}

const NOTHING = { server: 0, agent: 0, service: 0 }

/** Sockets beside those of the idle product, some of which, those that asked the API, may be gone meanwhile. */
async function leftovers(): Promise<typeof NOTHING> {
  const { server, agent, service } = await openSockets()
  return { server: Math.max(0, server - idle.server), agent: agent - idle.agent, service }
}

test.each([
  ['a FIN', () => relay.cutAll('fin'), 2_000],
  ['a RST', () => relay.cutAll('rst'), 2_000],
  ['a black hole', () => relay.blackHole(), 6_000],
] as const)('%s under traffic ends every connection, and the next one works', async (_, breakIt, toldWithinMs) => {
  // Through the link that was made after the case before; an echo shows that it is up.
  await expect.poll(() => load.call('echo', { route, times: 1 }).catch(() => []), { timeout: 10_000 }).toHaveLength(1)
  await expect.poll(leftovers, { timeout: 10_000 }).toEqual(NOTHING)

  for (const errand of ['download', 'upload', 'stalled_download'] as const) {
    await load.call('open', { route, count: 4, errand })
  }
  expect(await load.call('connected', null)).toBe(12)
  breakIt()
  await expect.poll(() => service.call('connections', null), { timeout: toldWithinMs }).toBe(0)
  // The four that do not read cannot hear it; those that only write notice when the server stops waiting for their close.
  await expect.poll(() => load.call('connected', null), { timeout: 5_000 }).toBeLessThanOrEqual(4)
  await load.call('close', null)
  relay.heal()
  await expect.poll(leftovers, { timeout: 10_000 }).toEqual(NOTHING)
})
