import { type Child, cpuMs, type LoadVerbs, type ServiceVerbs } from '@cyberun/testkit'
import type { Contender } from './contender.ts'
import type { Row, Section } from './report.ts'
import { median } from './statistics.ts'

/** Down is from the service to the client; 1 or 16 connections at once. Targets are ratios. */
const MEASURES = {
  D1: { errand: 'download', count: 1, direct: 0.3, haproxy: 1 },
  D16: { errand: 'download', count: 16, direct: 0.28, haproxy: 1.4 },
  U1: { errand: 'upload', count: 1, direct: 0.32, haproxy: 1 },
  U16: { errand: 'upload', count: 16, direct: 0.28, haproxy: 1.4 },
} as const
type Measure = keyof typeof MEASURES

const SSH_RATIO = 2
const CPU_SECONDS_PER_GB = 0.7

export interface BulkSample {
  gigabytesPerSecond: number
  /** CPU seconds per gigabyte (1e9 bytes) of the processes at each end of the tunnel. */
  nearCpu: number
  farCpu: number
}

export interface BulkPlan {
  /** More than of the rest: one direct stream moves between 2 and 7 GB/s from one window to the next. */
  rounds: number
  /** Of each contender before the first round, long enough for V8 to compile what moves bytes. */
  firstWarmUpMs: number
  /** Before each window. */
  warmUpMs: number
  windowMs: number
}

interface Ends {
  load: Child<LoadVerbs>
  service: Child<ServiceVerbs>
}

interface Parts extends Ends {
  list: readonly Contender[]
}

type Samples = Map<Contender['name'], BulkSample[]>

export async function bulkSection(parts: Parts, plan: BulkPlan): Promise<Section> {
  const rows: Row[] = []
  for (const measure of Object.keys(MEASURES) as Measure[]) {
    const samples: Samples = new Map(parts.list.map(({ name }) => [name, []]))
    for (const contender of parts.list) await moveBulk(contender, measure, parts, () => elapsed(plan.firstWarmUpMs))
    for (let round = 0; round < plan.rounds; round++) {
      for (const contender of parts.list) {
        samples.get(contender.name)?.push(await measureBulk(contender, measure, parts, plan))
      }
    }
    rows.push(...bulkRows(measure, samples))
  }
  return {
    title: 'Bulk transfer',
    method: [
      'D is download, U upload, the number how many connections at once, counted at the receiver. `haproxy` is two of them',
      'in a chain, `ssh` is `ssh -R`, `tunnel` a tcp session used through its WebSocket relay, `http tunnel` an upgraded',
      'connection through an http session; server, agent, service and clients are processes of their own. Client and service',
      'each read into one buffer of 64 KiB, so that they take little of what is measured, and the same both ways. Ratios are',
      `medians of the ratios of ${plan.rounds} rounds of ${plan.windowMs} ms windows, after ${plan.firstWarmUpMs / 1000} s in which each contender is`,
      'warmed up; CPU is user and system time per 1e9 bytes.',
    ].join('\n'),
    rows,
  }
}

function bulkRows(measure: Measure, samples: Samples): Row[] {
  const targets = MEASURES[measure]
  const of = (name: Contender['name']) => samples.get(name) ?? []
  const rate = (name: Contender['name']) => median(of(name).map((sample) => sample.gigabytesPerSecond))
  /** The median of the ratios of each round, as neighbours in time share the machine's mood. */
  const ratio = (name: Contender['name'], to: Contender['name']) =>
    median(of(name).map((sample, round) => sample.gigabytesPerSecond / (of(to)[round]?.gigabytesPerSecond ?? 0)))
  const cpu = (name: Contender['name'], end: 'nearCpu' | 'farCpu') => median(of(name).map((sample) => sample[end]))
  const cpuOfBoth = (name: Contender['name']) => median(of(name).map(({ nearCpu, farCpu }) => nearCpu + farCpu))

  const rows: Row[] = [...samples.keys()].map((name) => ({
    measure: `${measure} ${name}`,
    value: rate(name),
    unit: 'GB/s',
  }))
  rows.push({
    measure: `${measure} tunnel / direct`,
    value: ratio('tunnel', 'direct'),
    unit: '×',
    target: { atLeast: targets.direct },
  })
  if (samples.has('haproxy')) {
    const value = ratio('tunnel', 'haproxy')
    rows.push({ measure: `${measure} tunnel / haproxy`, value, unit: '×', target: { atLeast: targets.haproxy } })
  }
  if (samples.has('ssh')) {
    const value = ratio('tunnel', 'ssh')
    rows.push({ measure: `${measure} tunnel / ssh`, value, unit: '×', target: { atLeast: SSH_RATIO } })
  }
  rows.push({ measure: `${measure} http tunnel / direct`, value: ratio('http tunnel', 'direct'), unit: '×' })
  for (const [end, label] of [
    ['nearCpu', 'server'],
    ['farCpu', 'agent'],
  ] as const) {
    const value = cpu('tunnel', end)
    rows.push({ measure: `${measure} ${label} CPU`, value, unit: 's/GB', target: { atMost: CPU_SECONDS_PER_GB } })
  }
  // What the same bytes cost others on this day: a slow machine is told from a slow tunnel.
  for (const name of ['tunnel', 'haproxy'] as const) {
    if (!samples.has(name)) continue
    rows.push({ measure: `${measure} ${name} CPU, both ends`, value: cpuOfBoth(name), unit: 's/GB' })
  }
  return rows
}

/** Measures one contender once: counted at the receiver, on the receiver's clock, after a warm-up. */
async function measureBulk(contender: Contender, measure: Measure, ends: Ends, plan: BulkPlan): Promise<BulkSample> {
  const received = () =>
    MEASURES[measure].errand === 'download' ? ends.load.call('received', null) : ends.service.call('received', null)
  const cpu = (pids: readonly number[]) => pids.reduce((sum, pid) => sum + cpuMs(pid), 0)
  const counted = async () => ({
    ...(await received()),
    near: cpu(contender.near),
    far: cpu(contender.far),
  })
  return await moveBulk(contender, measure, ends, async () => {
    await elapsed(plan.warmUpMs)
    const before = await counted()
    await elapsed(plan.windowMs)
    const after = await counted()
    const gigabytes = (after.bytes - before.bytes) / 1e9
    return {
      gigabytesPerSecond: gigabytes / ((after.atMs - before.atMs) / 1000),
      nearCpu: (after.near - before.near) / 1000 / gigabytes,
      farCpu: (after.far - before.far) / 1000 / gigabytes,
    }
  })
}

/** Lets bytes move while `during` runs, and then waits until all is quiet again. */
async function moveBulk<T>(contender: Contender, measure: Measure, ends: Ends, during: () => Promise<T>): Promise<T> {
  const { errand, count } = MEASURES[measure]
  await ends.load.call('open', { route: contender.route, errand, count })
  const result = await during()
  await ends.load.call('close', null)
  await drained(ends.service, `${measure} ${contender.name}`)
  return result
}

/** Waits until the service has seen every connection end, so that the next sample starts on a quiet machine. */
async function drained(service: Child<ServiceVerbs>, sample: string): Promise<void> {
  for (const end = Date.now() + 10_000; (await service.call('connections', null)) > 0; ) {
    if (Date.now() > end) throw new Error(`${sample}: connections stayed open 10 s after their clients were gone`)
    await elapsed(10)
  }
}

const elapsed = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
