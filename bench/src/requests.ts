import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { cpuMs, findProgram } from '@cyberun/testkit'
import type { Contender } from './contender.ts'
import type { Row, Section } from './report.ts'
import { median } from './statistics.ts'

const RATE_RATIO = 0.17

export interface RequestWindow {
  /** Before the first round: long enough for V8 to compile what is hot, which it does while a server is used at all. */
  firstWarmUpSeconds: number
  /** Before each window. */
  warmUpSeconds: number
  seconds: number
}

interface RequestSample {
  requestsPerSecond: number
  /** CPU microseconds a request of the processes at each end of the tunnel. */
  nearCpu: number
  farCpu: number
  /** With one connection, in milliseconds. */
  p50Ms: number
  p99Ms: number
}

type Requested = Contender & { url: string }

export async function requestSection(
  parts: { list: readonly Contender[] },
  plan: { rounds: number; requests: RequestWindow },
): Promise<Section> {
  const wrk = findProgram('wrk')
  if (wrk === undefined) throw new Error('requests are measured with wrk: apt-get install wrk')
  const contenders = parts.list.filter((contender): contender is Requested => contender.url !== undefined)
  const samples = new Map<string, RequestSample[]>(contenders.map(({ name }) => [name, []]))
  for (const { url } of contenders) await runWrk(wrk, url, 64, plan.requests.firstWarmUpSeconds)
  for (let round = 0; round < plan.rounds; round++) {
    for (const contender of contenders) {
      samples.get(contender.name)?.push(await measureRequests(wrk, contender, plan.requests))
    }
  }
  return {
    title: 'Small requests',
    method: [
      '1 KiB answers over keep-alive connections: the rate with `wrk -t1 -c64`, the latency with `wrk -t1 -c1`. The service',
      'answers from a buffer without parsing, so `direct` is as fast as Node can be. `added` is the median of the rounds’',
      `differences to \`direct\`. ${plan.rounds} rounds of ${plan.requests.seconds} s, after ${plan.requests.firstWarmUpSeconds} s in which each contender is warmed up.`,
    ].join('\n'),
    rows: requestRows(samples),
  }
}

function requestRows(samples: Map<string, RequestSample[]>): Row[] {
  const of = (name: string) => samples.get(name) ?? []
  const middle = (name: string, key: keyof RequestSample) => median(of(name).map((sample) => sample[key]))
  const added = (key: 'p50Ms' | 'p99Ms') =>
    median(of('http tunnel').map((sample, round) => sample[key] - (of('direct')[round]?.[key] ?? 0)))
  const ratioTo = (name: string) =>
    median(
      of('http tunnel').map((sample, round) => sample.requestsPerSecond / (of(name)[round]?.requestsPerSecond ?? 0)),
    )
  return [
    ...[...samples.keys()].map((name) => ({
      measure: `requests ${name}`,
      value: middle(name, 'requestsPerSecond'),
      unit: '1/s',
    })),
    { measure: 'requests http tunnel / direct', value: ratioTo('direct'), unit: '×', target: { atLeast: RATE_RATIO } },
    { measure: 'requests http tunnel / haproxy', value: ratioTo('haproxy'), unit: '×' },
    { measure: 'server CPU a request', value: middle('http tunnel', 'nearCpu'), unit: 'µs' },
    { measure: 'agent CPU a request', value: middle('http tunnel', 'farCpu'), unit: 'µs' },
    ...[...samples.keys()].flatMap((name) => [
      { measure: `one connection ${name} p50`, value: middle(name, 'p50Ms'), unit: 'ms' },
      { measure: `one connection ${name} p99`, value: middle(name, 'p99Ms'), unit: 'ms' },
    ]),
    { measure: 'one connection added p50', value: added('p50Ms'), unit: 'ms' },
    { measure: 'one connection added p99', value: added('p99Ms'), unit: 'ms' },
  ]
}

/** Measures one contender once: 64 connections for the rate, then a single one for the latency. */
async function measureRequests(wrk: string, contender: Requested, window: RequestWindow): Promise<RequestSample> {
  const cpu = (pids: readonly number[]) => pids.reduce((sum, pid) => sum + cpuMs(pid), 0)
  await runWrk(wrk, contender.url, 64, window.warmUpSeconds)
  const before = { near: cpu(contender.near), far: cpu(contender.far) }
  const busy = await runWrk(wrk, contender.url, 64, window.seconds)
  const after = { near: cpu(contender.near), far: cpu(contender.far) }
  const single = await runWrk(wrk, contender.url, 1, window.seconds)
  return {
    requestsPerSecond: busy.requestsPerSecond,
    nearCpu: ((after.near - before.near) * 1000) / busy.requests,
    farCpu: ((after.far - before.far) * 1000) / busy.requests,
    p50Ms: single.p50Ms,
    p99Ms: single.p99Ms,
  }
}

interface WrkResult {
  requests: number
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
}

/** Runs wrk with one thread. Throws for any answer that is not 2xx. */
export async function runWrk(wrk: string, url: string, connections: number, seconds: number): Promise<WrkResult> {
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', url]
  const { stdout } = await promisify(execFile)(wrk, args)
  return parseWrk(stdout)
}

/** Reads what wrk prints; an answer that is not 2xx or a broken socket makes the whole measurement void. */
function parseWrk(text: string): WrkResult {
  const fault = /^ *(Socket errors|Non-2xx or 3xx responses):.*$/m.exec(text)
  if (fault !== null) throw new Error(`wrk: ${fault[0].trim()}`)
  const field = (pattern: RegExp): string => {
    const found = pattern.exec(text)?.[1]
    if (found === undefined) throw new Error(`wrk printed no ${pattern.source}: ${text}`)
    return found
  }
  return {
    requests: Number(field(/^ *(\d+) requests in/m)),
    requestsPerSecond: Number(field(/^Requests\/sec: +([\d.]+)$/m)),
    p50Ms: milliseconds(field(/^ *50% +(\S+)$/m)),
    p99Ms: milliseconds(field(/^ *99% +(\S+)$/m)),
  }
}

const UNIT_MS: Record<string, number> = { us: 0.001, ms: 1, s: 1000 }

function milliseconds(text: string): number {
  const [, value, unit] = /^([\d.]+)(us|ms|s)$/.exec(text) ?? []
  return Number(value) * (UNIT_MS[unit ?? ''] ?? Number.NaN)
}
