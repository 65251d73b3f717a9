import { setTimeout as elapsed } from 'node:timers/promises'
import { type Route, startLoad, startProduct, startService } from '@cyberun/testkit'
import type { Section } from './report.ts'
import { median, quantile } from './statistics.ts'

const ECHOES = 500
const DOWNLOAD_WARM_UP_MS = 500
const ADDED_P99_MS = 10

/** How long one byte takes through a tunnel, and how much longer beside a download through the same link. */
export async function echoSection(directory: string, plan: { rounds: number }): Promise<Section> {
  await using product = await startProduct(directory)
  await using pouring = startService()
  await using echoing = startService()
  await using typist = startLoad()
  const routeTo = async (service: typeof pouring): Promise<Route> => {
    const { port } = await service.call('listen', null)
    return { kind: 'relay', port: product.edgePort, path: await product.openTunnel(port, 'tcp') }
  }
  const download = await routeTo(pouring)
  const echo = await routeTo(echoing)

  const rounds: Record<'alone' | 'beside', { p50: number; p99: number }>[] = []
  for (let round = 0; round < plan.rounds; round++) {
    const alone = summary(await typist.call('echo', { route: echo, times: ECHOES }))
    await using downloader = startLoad()
    await downloader.call('open', { route: download, count: 1, errand: 'download' })
    await elapsed(DOWNLOAD_WARM_UP_MS)
    rounds.push({ alone, beside: summary(await typist.call('echo', { route: echo, times: ECHOES })) })
  }
  const added = (key: 'p50' | 'p99') => median(rounds.map(({ alone, beside }) => beside[key] - alone[key]))
  return {
    title: 'Echo beside a download',
    method: [
      'One byte there and back through a tcp session, one at a time; then beside a download of another service that takes all',
      `the link gives. ${plan.rounds} rounds of ${ECHOES} echoes; medians of the rounds, and of their differences.`,
    ].join('\n'),
    rows: [
      { measure: 'echo alone p50', value: median(rounds.map(({ alone }) => alone.p50)), unit: 'ms' },
      { measure: 'echo alone p99', value: median(rounds.map(({ alone }) => alone.p99)), unit: 'ms' },
      { measure: 'added beside a download p50', value: added('p50'), unit: 'ms' },
      { measure: 'added beside a download p99', value: added('p99'), unit: 'ms', target: { atMost: ADDED_P99_MS } },
    ],
  }
}

const summary = (took: readonly number[]) => ({ p50: quantile(took, 0.5), p99: quantile(took, 0.99) })
