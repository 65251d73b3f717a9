import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Child,
  type LoadVerbs,
  type Product,
  type Route,
  type ServiceVerbs,
  startLoad,
  startProduct,
  startRelay,
  startService,
} from '../../src/index.ts'

/** Server, agent, service and each client are processes of their own, so that what is measured is the product. */

const MIB = 1024 * 1024
/** What a stream that nobody reads may hold: the window every stream starts with (protocol.md, "Limits"). */
const STALLED_WINDOW_BYTES = 256 * 1024

let directory: string
let service: Child<ServiceVerbs>
let servicePort: number

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-isolation-'))
  service = startService()
  servicePort = (await service.call('listen', null)).port
})

afterAll(async () => {
  await service[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

const elapsed = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Bytes a second that the readers of `load` get, over `windowMs`. */
async function readingRate(load: Child<LoadVerbs>, windowMs: number): Promise<number> {
  const before = await load.call('received', null)
  await elapsed(windowMs)
  const after = await load.call('received', null)
  return ((after.bytes - before.bytes) * 1000) / (after.atMs - before.atMs)
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? Number.NaN
}

async function relayRoute(product: Product, targetPort: number): Promise<Route> {
  return { kind: 'relay', port: product.edgePort, path: await product.openTunnel(targetPort, 'tcp') }
}

/** The median of one figure over several rounds. */
function middle<Key extends string>(rounds: readonly Record<Key, number>[], key: Key): number {
  return quantile(
    rounds.map((round) => round[key]),
    0.5,
  )
}

describe('on loopback', () => {
  let product: Product
  let route: Route

  beforeAll(async () => {
    product = await startProduct(join(directory, 'loopback'))
    route = await relayRoute(product, servicePort)
  })
  afterAll(() => product[Symbol.asyncDispose]())

  test('a reader that stopped leaves the others their rate, and costs its window', async () => {
    await using fast = startLoad()
    await fast.call('open', { route, count: 4, errand: 'download' })
    await readingRate(fast, 1_000)
    const memory = async () => ({
      server: await product.server.call('settledBytes', null),
      agent: await product.agent.call('settledBytes', null),
    })
    const besideStopped = async () => {
      await using stopped = startLoad()
      await stopped.call('open', { route, count: 1, errand: 'stalled_download' })
      return { rate: await readingRate(fast, 700), ...(await memory()) }
    }
    const rounds: { ratio: number; server: number; agent: number }[] = []
    let rateAlone = await readingRate(fast, 700)
    for (let round = 0; round < 7; round++) {
      const memoryAlone = await memory()
      const beside = await besideStopped()
      // The machine's own pace drifts: a rate is compared with those before and after it.
      const rateAfter = await readingRate(fast, 700)
      const ratio = (2 * beside.rate) / (rateAlone + rateAfter)
      rateAlone = rateAfter
      rounds.push({ ratio, server: beside.server - memoryAlone.server, agent: beside.agent - memoryAlone.agent })
    }
    const mib = (bytes: number) => (bytes / MIB).toFixed(1)
    console.log(
      `beside a stopped reader: rate × ${middle(rounds, 'ratio').toFixed(2)}, ` +
        `server + ${mib(middle(rounds, 'server'))} MiB, agent + ${mib(middle(rounds, 'agent'))} MiB`,
    )
    // The goal is 0.9. Medians of one run lie between 0.89 and 1.2 on two cores, and a reader that held the others up would
    // bring them near 0.
    expect(middle(rounds, 'ratio')).toBeGreaterThanOrEqual(0.8)
    expect(middle(rounds, 'server')).toBeLessThanOrEqual(STALLED_WINDOW_BYTES + 8 * MIB)
    expect(middle(rounds, 'agent')).toBeLessThanOrEqual(STALLED_WINDOW_BYTES + 8 * MIB)
  })

  test('a byte does not wait behind a saturating download', async () => {
    // A service of its own, as one that pours out a download is itself slow to echo.
    await using echoing = startService()
    const echoRoute = await relayRoute(product, (await echoing.call('listen', null)).port)
    await using typist = startLoad()
    await using downloader = startLoad()
    const alone = await typist.call('echo', { route: echoRoute, times: 500 })
    await downloader.call('open', { route, count: 1, errand: 'download' })
    await readingRate(downloader, 500)
    const rounds: { p50: number; p99: number }[] = []
    for (let round = 0; round < 3; round++) {
      const beside = await typist.call('echo', { route: echoRoute, times: 500 })
      const added = (q: number) => quantile(beside, q) - quantile(alone, q)
      rounds.push({ p50: added(0.5), p99: added(0.99) })
    }
    console.log(
      `echo beside a download: p50 +${middle(rounds, 'p50').toFixed(1)} ms, p99 +${middle(rounds, 'p99').toFixed(1)} ms`,
    )
    // The bench has the target of 10 ms for p99, of which scheduling six busy processes on two cores takes most. A byte
    // that waits behind a window of 16 MiB comes 60 ms later and more, every time.
    expect(middle(rounds, 'p50')).toBeLessThanOrEqual(10)
    expect(middle(rounds, 'p99')).toBeLessThanOrEqual(30)
  })
})

test('with 50 ms of round trip one download reaches 60 MiB/s', async () => {
  await using relay = startRelay()
  await using product = await startProduct(join(directory, 'far'), {
    async dialThrough(edgePort) {
      const { port } = await relay.call('start', { port: edgePort })
      await relay.call('set', { delayMs: 25 })
      return port
    },
  })
  await using load = startLoad()
  await load.call('open', { route: await relayRoute(product, servicePort), count: 1, errand: 'download' })
  await readingRate(load, 2_000) // The window grows with each round trip.
  const mibPerSecond = (await readingRate(load, 2_000)) / MIB
  console.log(`one download at 50 ms: ${mibPerSecond.toFixed(0)} MiB/s`)
  expect(mibPerSecond).toBeGreaterThanOrEqual(60)
})
