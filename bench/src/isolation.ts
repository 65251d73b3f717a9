import { setTimeout as elapsed } from 'node:timers/promises'
import { type Child, type LoadVerbs, startLoad, startProduct, startService } from '@cyberun/testkit'
import type { Section } from './report.ts'
import { median } from './statistics.ts'

const FAST_READERS = 4
const WARM_UP_MS = 1_000
const WINDOW_MS = 1_000
const MIB = 1024 * 1024
const RATE_KEPT = 0.9
/** The window that a stream begins with is 0.25 of it, the rest is the unrest of a process under load. */
const GROWTH_MIB = 8

/** What downloads lose beside a reader that stopped, and what that one costs in memory. */
export async function isolationSection(directory: string, plan: { rounds: number }): Promise<Section> {
  await using product = await startProduct(directory)
  await using service = startService()
  await using fast = startLoad()
  const { port } = await service.call('listen', null)
  const route = { kind: 'relay', port: product.edgePort, path: await product.openTunnel(port, 'tcp') } as const
  const measured = async () => ({
    rate: await readingRate(fast),
    server: await product.server.call('settledBytes', null),
    agent: await product.agent.call('settledBytes', null),
  })

  await fast.call('open', { route, count: FAST_READERS, errand: 'download' })
  await elapsed(WARM_UP_MS)
  const rounds: { kept: number; server: number; agent: number }[] = []
  let before = await measured()
  for (let round = 0; round < plan.rounds; round++) {
    const stopped = startLoad()
    await stopped.call('open', { route, count: 1, errand: 'stalled_download' })
    const beside = await measured()
    await stopped[Symbol.asyncDispose]()
    const after = await measured()
    rounds.push({
      // The machine's own pace drifts: a rate is compared with those before and after it.
      kept: (2 * beside.rate) / (before.rate + after.rate),
      server: (beside.server - before.server) / MIB,
      agent: (beside.agent - before.agent) / MIB,
    })
    before = after
  }
  const middle = (key: 'kept' | 'server' | 'agent') => median(rounds.map((round) => round[key]))
  return {
    title: 'A reader that stopped',
    method: [
      `${FAST_READERS} downloads through tcp sessions, then a fifth beside them whose client never reads: the share of their rate that`,
      `the ${FAST_READERS} keep, and the growth of resident memory after a forced collection. Medians of ${plan.rounds} rounds of ${WINDOW_MS} ms windows.`,
    ].join('\n'),
    rows: [
      { measure: 'rate kept beside it', value: middle('kept'), unit: '×', target: { atLeast: RATE_KEPT } },
      { measure: 'growth of the server', value: middle('server'), unit: 'MiB', target: { atMost: GROWTH_MIB } },
      { measure: 'growth of the agent', value: middle('agent'), unit: 'MiB', target: { atMost: GROWTH_MIB } },
    ],
  }
}

/** Bytes a millisecond that the readers of `load` get. */
async function readingRate(load: Child<LoadVerbs>): Promise<number> {
  const before = await load.call('received', null)
  await elapsed(WINDOW_MS)
  const after = await load.call('received', null)
  return (after.bytes - before.bytes) / (after.atMs - before.atMs)
}
