import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Listening } from '../../src/control/listening.ts'
import { createMetrics, type Metrics } from '../../src/control/metrics.ts'
import { Tally } from '../../src/tally.ts'
import { controlWith } from './doubles.ts'

const links = new Set<string>()
let reason: string | undefined
let metrics: Metrics
let listening: Listening
const get = (path: string) => fetch(`http://127.0.0.1:${listening.port}${path}`)

beforeAll(async () => {
  metrics = createMetrics([{ name: 'cyberun_agents_linked', help: 'Agents connected.', read: () => links.size }])
  listening = await metrics.listen({ host: '127.0.0.1', port: 0 }, async () => reason)
})
afterAll(() => listening.stop(AbortSignal.abort()))

async function serve(served: Metrics) {
  const at = await served.listen({ host: '127.0.0.1', port: 0 }, async () => undefined)
  return {
    text: async () => (await fetch(`http://127.0.0.1:${at.port}/metrics`)).text(),
    [Symbol.asyncDispose]: () => at.stop(AbortSignal.abort()),
  }
}

test('a gauge is read when it is asked for', async () => {
  expect(await (await get('/metrics')).text()).toContain('\ncyberun_agents_linked 0\n')
  links.add('a').add('b')
  const response = await get('/metrics')
  expect(response.headers.get('content-type')).toContain('text/plain')
  expect(await response.text()).toContain('\ncyberun_agents_linked 2\n')
})

test('what cannot be read is left out, and the rest is there', async () => {
  const broken = createMetrics([
    { name: 'cyberun_tasks_waiting', help: 'Tasks.', read: () => Promise.reject(new Error('no database')) },
    { name: 'cyberun_agents_linked', help: 'Agents connected.', read: () => 3 },
  ])
  await using served = await serve(broken)
  const text = await served.text()
  expect(text).not.toContain('\ncyberun_tasks_waiting ')
  expect(text).toContain('\ncyberun_agents_linked 3\n')
})

test('what happened is counted by kind', async () => {
  const tally = new Tally()
  const source = { name: 'cyberun_links_closed_total', help: 'Links that ended.', label: 'reason', tally }
  await using served = await serve(createMetrics([], [source]))
  for (const reason of ['dead', 'dead', 'done']) tally.add(reason)
  await served.text()
  expect(await served.text(), 'asked twice, counted once').toContain('\ncyberun_links_closed_total{reason="dead"} 2\n')
  expect(await served.text()).toContain('\ncyberun_links_closed_total{reason="done"} 1\n')
})

test('calls are counted by row of the table: an address somebody made up gets no label', async () => {
  await using control = await controlWith({ metrics })
  const headers = { authorization: 'Bearer good' }
  await fetch(`${control.url}/api/v1/agents/secret-name`, { headers })
  await fetch(`${control.url}/tunnel/some-token-some-token-some-token/`)
  const text = await (await get('/metrics')).text()
  expect(text).toContain('cyberun_api_calls_total{route="GET /agents/{agentId}",status="400"} 1')
  expect(text).toContain('cyberun_api_call_seconds_count{route="GET /agents/{agentId}"} 1')
  expect(text).not.toMatch(/secret-name|some-token/)
})

test('numbers of the process itself are there', async () => {
  const text = await (await get('/metrics')).text()
  for (const name of ['process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds', 'process_open_fds']) {
    expect(text).toContain(`\n${name} `)
  }
})

test('health, readiness, and what is not there', async () => {
  expect((await get('/healthz')).status).toBe(200)
  expect((await get('/readyz')).status).toBe(200)
  reason = 'stopping'
  expect(await (await get('/readyz')).json()).toEqual({ status: 'not_ready', reason: 'stopping' })
  expect((await get('/api/v1/agents')).status).toBe(404)
})

test('a port that is taken is the system error, for one clear line', async () => {
  const second = createMetrics([]).listen({ host: '127.0.0.1', port: listening.port }, async () => undefined)
  await expect(second).rejects.toMatchObject({ code: 'EADDRINUSE' })
})
