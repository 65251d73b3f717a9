import { join } from 'node:path'
import { type Route, startHerd, startLoad, startProduct, startService } from '@cyberun/testkit'
import type { Row, Section } from './report.ts'

const KIB = 1024
const KIB_PER_AGENT = 16
const KIB_PER_TUNNEL = 14
/** The connections are those of so many visitors, each on a tunnel of its own: the edge bounds what one may have open. */
const VISITORS = 5

interface Crowd {
  agents: number
  tunnels: number
}

export async function memorySection(directory: string, plan: { memory: Crowd }): Promise<Section> {
  return {
    title: 'Memory',
    method: [
      `Growth of resident memory after a forced collection: ${plan.memory.agents} connected agents without streams, and`,
      `${plan.memory.tunnels} open tcp tunnel connections of ${VISITORS} visitors that have each echoed a byte. A tenth of each comes first and is not counted.`,
    ].join('\n'),
    rows: [
      ...(await idleAgents(join(directory, 'agents'), plan.memory.agents)),
      ...(await openTunnels(join(directory, 'tunnels'), plan.memory.tunnels)),
    ],
  }
}

async function idleAgents(directory: string, count: number): Promise<Row[]> {
  await using product = await startProduct(directory)
  await using herd = startHerd()
  const herdAt = { gatewayUrl: product.gatewayUrl, agentKey: product.agentKey }
  await herd.call('dial', { ...herdAt, count: count / 10, prefix: 'warm' })
  const before = {
    server: await product.server.call('settledBytes', null),
    herd: await herd.call('settledBytes', null),
  }
  await herd.call('dial', { ...herdAt, count, prefix: 'counted' })
  const perAgent = (after: number, start: number) => (after - start) / count / KIB
  return [
    {
      measure: 'idle agent, in the server',
      value: perAgent(await product.server.call('settledBytes', null), before.server),
      unit: 'KiB',
      target: { atMost: KIB_PER_AGENT },
    },
    {
      measure: 'idle link, at the end that dials',
      value: perAgent(await herd.call('settledBytes', null), before.herd),
      unit: 'KiB',
      target: { atMost: KIB_PER_AGENT },
    },
  ]
}

async function openTunnels(directory: string, count: number): Promise<Row[]> {
  await using product = await startProduct(directory)
  await using service = startService()
  await using load = startLoad()
  const { port } = await service.call('listen', null)
  const routes: Route[] = []
  for (let visitor = 0; visitor < VISITORS; visitor++) {
    const path = await product.openTunnel(port, 'tcp')
    routes.push({ kind: 'relay', port: product.edgePort, path, from: `127.0.0.${2 + visitor}` })
  }
  const hold = async (total: number): Promise<void> => {
    for (const route of routes) await load.call('hold', { route, count: total / VISITORS })
  }
  const settled = async () => ({
    server: await product.server.call('settledBytes', null),
    agent: await product.agent.call('settledBytes', null),
  })

  await hold(count / 10)
  const before = await settled()
  await hold(count)
  const after = await settled()
  return (['server', 'agent'] as const).map((end) => ({
    measure: `open tunnel connection, in the ${end}`,
    value: (after[end] - before[end]) / count / KIB,
    unit: 'KiB',
    target: { atMost: KIB_PER_TUNNEL },
  }))
}
