import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { healthAnswer, type Readiness, readinessAnswer } from './health.ts'
import { type Listening, listen } from './listening.ts'

/** A number read when metrics are scraped, from the collection that holds the truth. */
export interface GaugeSource {
  /** `cyberun_agents_linked`; a unit, when there is one, at the end. */
  name: string
  help: string
  /** What cannot be read is left out of the answer. */
  read(): number | Promise<number>
}

/** Something that is counted as it happens. */
export interface CounterSource {
  /** `cyberun_links_closed_total`. */
  name: string
  help: string
  /** The name of the label that tells the kinds apart. */
  label: string
  tally: Iterable<[kind: string, count: number]>
}

export interface Metrics {
  /** Counts one answered API call. `route` is a row of the table, never a path that somebody sent. */
  called(route: string, status: number, seconds: number): void
  /** Serves `/metrics`, `/healthz` and `/readyz`. Rejects when the port cannot be had. */
  listen(at: { host: string; port: number }, readiness: Readiness): Promise<Listening>
}

/** From a lookup that touches nothing to a tunnel that waits for an agent. */
const CALL_SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** A scrape waits this long for a number that the store has. */
const READ_MS = 2_000

/** The numbers of one server. Labels hold no id and no address, so their count is bounded. */
export function createMetrics(gauges: readonly GaugeSource[], counters: readonly CounterSource[] = []): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  const calls = new Counter({
    name: 'cyberun_api_calls_total',
    help: 'API calls answered, by route and status.',
    labelNames: ['route', 'status'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'cyberun_api_call_seconds',
    help: 'Time from the head of an API call to its answer, by route.',
    labelNames: ['route'] as const,
    buckets: CALL_SECONDS,
    registers,
  })
  for (const source of gauges) registry.registerMetric(gauge(source))
  for (const source of counters) registry.registerMetric(counter(source))
  return {
    called(route, status, took) {
      calls.inc({ route, status })
      seconds.observe({ route }, took)
    },
    listen(at, readiness) {
      const answer = getRequestListener((request) => serve(registry, readiness, request), {
        overrideGlobalObjects: false,
      })
      return listen(createServer(answer), at)
    },
  }
}

function gauge({ name, help, read }: GaugeSource): Gauge {
  return new Gauge({
    name,
    help,
    registers: [],
    async collect() {
      try {
        this.set(await withinMs(READ_MS, read()))
      } catch {
        // The other numbers are wanted most when the database is away.
        this.remove()
      }
    },
  })
}

function counter({ name, help, label, tally }: CounterSource): Counter {
  return new Counter({
    name,
    help,
    labelNames: [label],
    registers: [],
    collect() {
      this.reset()
      for (const [kind, count] of tally) this.inc({ [label]: kind }, count)
    },
  })
}

async function withinMs<T>(ms: number, value: T | Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error('it took too long')), ms)
  return Promise.race([value, late]).finally(() => clearTimeout(timer))
}

async function serve(registry: Registry, readiness: Readiness, request: Request): Promise<Response> {
  switch (new URL(request.url).pathname) {
    case '/healthz':
      return healthAnswer()
    case '/readyz':
      return readinessAnswer(readiness)
    case '/metrics':
      return new Response(await registry.metrics(), { headers: { 'content-type': registry.contentType } })
    default:
      return new Response('Here are /metrics, /healthz and /readyz.\n', { status: 404 })
  }
}
