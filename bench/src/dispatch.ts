import { mkdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@cyberun/api/client'
import { lacksPrograms, startFleet, startPostgres, startServerProcess } from '@cyberun/testkit'
import type { Row, Section } from './report.ts'
import { quantile } from './statistics.ts'

/** How much work one run makes. */
export interface DispatchPlan {
  seconds: number
  tasks: number
  watchers: number
  lines: number
}

const AGENTS = 100
const CLIENTS = 16
const PER_SECOND = 20
const LINE_EVERY_MS = 250
const CANCELS = 100
const SYNCED_BYTES = 4096
const TASKS_PER_SECOND = { SQLite: 300, PostgreSQL: 500 } as const
type Engine = keyof typeof TASKS_PER_SECOND

/** How long a run takes to reach an agent, how many runs go through in a second, and how long events take to watchers. */
export async function dispatchSection(directory: string, plan: { dispatch: DispatchPlan }): Promise<Section> {
  const rows = await onEngine('SQLite', join(directory, 'sqlite'), undefined, plan.dispatch)
  if (!lacksPrograms('postgres')) {
    await using postgres = await startPostgres()
    const databaseUrl = await postgres.createDatabase('bench')
    rows.push(...(await onEngine('PostgreSQL', join(directory, 'postgres'), databaseUrl, plan.dispatch)))
  }
  const { seconds, tasks, watchers, lines } = plan.dispatch
  return {
    title: 'Dispatch',
    method: [
      `Runs of the demo echo over the API, ${AGENTS} agents with one slot and real links. Agents and clients are one process, server and`,
      `database others. To an agent: from the call to the agent's reading of the assignment, ${PER_SECOND} a second for ${seconds} s, each on disk`,
      `before it is answered. Through: ${tasks} runs of ${CLIENTS} clients, from the first call until the last completion is on disk.`,
      `Cancel: ${CANCELS} calls, from the call to the agent's answer, one after the other. To watchers: ${watchers} event streams of one run, ${lines} log lines, from the agent's writing to each watcher's reading.`,
      `Disk: ${SYNCED_BYTES} B written and synced just before, as often and as long as runs are submitted: what no store can be quicker than.`,
    ].join('\n'),
    rows,
  }
}

async function onEngine(
  engine: Engine,
  directory: string,
  databaseUrl: string | undefined,
  plan: DispatchPlan,
): Promise<Row[]> {
  mkdirSync(directory, { recursive: true })
  await using server = startServerProcess(join(directory, 'server.log'))
  await using fleet = startFleet()
  const dataDir = join(directory, 'data')
  const { edgePort, control } = await server.call('start', {
    dataDir,
    logLevel: 'warn',
    ...(databaseUrl !== undefined && { databaseUrl }),
  })
  const api = await prepare(control)
  await fleet.call('dial', { gatewayUrl: `ws://127.0.0.1:${edgePort}/agent`, agentKey: api.agentKey, agents: AGENTS })
  const order = { controlUrl: control.controlUrl, apiKey: api.apiKey, workflowSlug: 'bench-echo' }
  // The first calls find everything cold.
  await fleet.call('submitAll', { ...order, tasks: plan.tasks / 10, clients: CLIENTS })

  const synced = await syncedWrites(join(directory, 'synced'), plan.seconds)
  const took = await fleet.call('submitEvenly', { ...order, perSecond: PER_SECOND, seconds: plan.seconds })
  const seconds = await fleet.call('submitAll', { ...order, tasks: plan.tasks, clients: CLIENTS })
  const watched = await fleet.call('watch', {
    ...order,
    watchers: plan.watchers,
    lines: plan.lines,
    everyMs: LINE_EVERY_MS,
  })
  const cancelled = await fleet.call('cancel', { ...order, times: CANCELS })
  const name = (what: string) => `${engine}: ${what}`
  return [
    { measure: name('disk p50'), value: quantile(synced, 0.5), unit: 'ms' },
    { measure: name('disk p99'), value: quantile(synced, 0.99), unit: 'ms' },
    { measure: name('submitted to an agent p50'), value: quantile(took, 0.5), unit: 'ms', target: { atMost: 5 } },
    { measure: name('submitted to an agent p99'), value: quantile(took, 0.99), unit: 'ms', target: { atMost: 25 } },
    {
      measure: name('runs through'),
      value: plan.tasks / seconds,
      unit: '/s',
      target: { atLeast: TASKS_PER_SECOND[engine] },
    },
    {
      measure: name('cancel to its agent and back p99'),
      value: quantile(cancelled, 0.99),
      unit: 'ms',
      target: { atMost: 100 },
    },
    { measure: name('event to a watcher p50'), value: quantile(watched, 0.5), unit: 'ms' },
    { measure: name('event to a watcher p99'), value: quantile(watched, 0.99), unit: 'ms', target: { atMost: 200 } },
  ]
}

/** How long the disk itself takes for each of `PER_SECOND * seconds` small writes, in milliseconds. */
async function syncedWrites(path: string, seconds: number): Promise<number[]> {
  await using file = await open(path, 'w')
  const block = Buffer.alloc(SYNCED_BYTES, 1)
  const took: number[] = []
  for (let at = 0; at < PER_SECOND * seconds; at++) {
    const begun = performance.now()
    await file.write(block)
    await file.datasync()
    took.push(performance.now() - begun)
    await delay(1000 / PER_SECOND)
  }
  return took
}

/** Makes the workflow, a key for the agents and one for the clients. */
async function prepare(control: { controlUrl: string; emailAddress: string; userPassword: string; teamId: string }) {
  const { controlUrl: baseUrl, emailAddress, userPassword, teamId } = control
  const { access_token: token } = await createClient({ baseUrl }).call('POST /auth/login', {
    body: { email_address: emailAddress, user_password: userPassword },
  })
  const client = createClient({ baseUrl, token, teamId })
  const key = (kind: 'agent' | 'integration') =>
    client.call('POST /credentials', { body: { kind, display_name: `bench ${kind}` } })
  await client.call('POST /workflows/import', {
    body: {
      workflow_slug: 'bench-echo',
      tool_type: 'demo',
      workflow_json: { program: 'echo' },
      parameters: [{ key: 'text', type: 'string', target_path: 'text' }],
    },
  })
  return { agentKey: (await key('agent')).raw_key, apiKey: (await key('integration')).raw_key }
}
