import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { agentHello, parseAgentConfig, runAgent, temporaryMachineKey } from '@cyberun/agent'
import { dialLink, type Link } from '@cyberun/link'
import { createLog } from '@cyberun/link/log'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type FaultRelay,
  type LeakWatch,
  type Product,
  startFaultRelay,
  startHerd,
  startProduct,
  startRelay,
  watchLeaks,
} from '../../src/index.ts'
import { until } from '../../src/until.ts'

/** Real agents against a real server in its own process, with a network between them that fails. */

let directory: string
let product: Product

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-agents-'))
  product = await startProduct(directory)
})
afterAll(async () => {
  await product[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

/** An agent of this process, behind a relay of its own. */
class RelayedAgent {
  readonly relay: FaultRelay
  readonly #stop = new AbortController()
  readonly #over: Promise<unknown>
  #linked = false
  #onLinked: () => void = () => {}

  constructor(relay: FaultRelay, agentId: string) {
    this.relay = relay
    const settings = {
      gateway_url: `ws://127.0.0.1:${relay.port}`,
      agent_key: product.agentKey,
      agent_id: agentId,
      state_dir: join(directory, agentId),
    }
    this.#over = runAgent(parseAgentConfig(settings, {}), {
      log: createLog({ level: 'silent', format: 'json' }),
      signal: this.#stop.signal,
      nvidiaSmi: 'no-such-program',
      onState: (state) => {
        this.#linked = state.kind === 'linked'
        if (this.#linked) this.#onLinked()
      },
    })
  }

  /** Resolves at once when there is a link. */
  linked(): Promise<void> {
    return new Promise((resolve) => {
      this.#onLinked = resolve
      if (this.#linked) resolve()
    })
  }

  get isLinked(): boolean {
    return this.#linked
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#over
    await this.relay[Symbol.asyncDispose]()
  }
}

describe('when the network returns', () => {
  const AGENTS = 20
  const agents: RelayedAgent[] = []
  let watch: LeakWatch

  beforeAll(async () => {
    watch = watchLeaks()
    for (let at = 0; at < AGENTS; at++) {
      agents.push(new RelayedAgent(await startFaultRelay({ port: product.edgePort }), `back-${at}`))
    }
    await Promise.all(agents.map((agent) => agent.linked()))
  })
  afterAll(() => watch[Symbol.dispose]())

  /** Milliseconds from the network's return to each agent's next link; outages end 100 ms after each other. */
  async function outage(breakIt: (relay: FaultRelay) => void, shortestMs: number): Promise<number[]> {
    return await Promise.all(
      agents.map(async (agent, at) => {
        breakIt(agent.relay)
        await new Promise((resolve) => setTimeout(resolve, shortestMs + at * 100))
        await until(() => !agent.isLinked, { what: 'the agent has noticed' })
        agent.relay.heal()
        const healedAt = performance.now()
        await agent.linked()
        return performance.now() - healedAt
      }),
    )
  }

  const p95 = (values: number[]) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1]

  test('after connections were refused, 95 % of agents are back within 1 s', async () => {
    const took = await outage((relay) => relay.unplug(), 1_000)
    console.log(`back after an unplugged network, p95: ${p95(took)?.toFixed(0)} ms`)
    expect(p95(took)).toBeLessThanOrEqual(1_000)
  })

  test('after a black hole, 95 % of agents are back within 1 s', async () => {
    const took = await outage((relay) => relay.blackHole(), 6_000)
    console.log(`back after a black hole, p95: ${p95(took)?.toFixed(0)} ms`)
    expect(p95(took)).toBeLessThanOrEqual(1_000)
  })

  test('agents that were stopped leave no socket and no timer behind', async () => {
    await Promise.all(agents.map((agent) => agent.stop()))
    await expect.poll(watch.leftovers, { timeout: 10_000 }).toEqual([])
  })
})

describe('two links of one agent id', () => {
  const dial = (machine: ReturnType<typeof temporaryMachineKey>, agentId: string): Promise<Link> =>
    dialLink({
      url: new URL(product.gatewayUrl),
      headers: { authorization: `Bearer ${product.agentKey}` },
      hello: (challenge) => {
        const systemStats = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
        return agentHello(machine, { agentId, labels: [], systemStats }, challenge)
      },
      onStream: (stream) => {
        stream.reset('refused')
        return { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }
      },
    })

  test('of the same machine: the new one evicts the old one at once', async () => {
    const machine = temporaryMachineKey()
    const older = await dial(machine, 'same-machine')
    const start = performance.now()
    const newer = await dial(machine, 'same-machine')
    expect((await older.closed).code).toBe('evicted')
    expect(performance.now() - start).toBeLessThanOrEqual(1_000)
    newer.close({ code: 'done', message: 'the test is over' })
    await newer.closed
  })

  test('of another machine: the second is refused and the first stays', async () => {
    const first = await dial(temporaryMachineKey(), 'two-machines')
    await expect(dial(temporaryMachineKey(), 'two-machines')).rejects.toMatchObject({
      failure: { kind: 'refused', reason: { code: 'agent_id_taken' } },
    })
    await expect(Promise.race([first.closed, Promise.resolve('open')])).resolves.toBe('open')
    first.close({ code: 'done', message: 'the test is over' })
    await first.closed
  })
})

test('2,000 agents that lose their links at once are all back within 30 s', async () => {
  await using relay = startRelay()
  const { port } = await relay.call('start', { port: product.edgePort })
  await using herd = startHerd()
  const gatewayUrl = `ws://127.0.0.1:${port}/agent`
  await herd.call('dial', { gatewayUrl, agentKey: product.agentKey, prefix: 'herd', count: 2_000 })
  await relay.call('cutAll', null)
  const start = performance.now()
  await expect.poll(() => herd.call('linked', null), { interval: 10, timeout: 10_000 }).toBeLessThan(2_000)
  await expect.poll(() => herd.call('linked', null), { interval: 50, timeout: 30_000 }).toBe(2_000)
  console.log(`2,000 agents back after ${((performance.now() - start) / 1000).toFixed(1)} s`)
})
