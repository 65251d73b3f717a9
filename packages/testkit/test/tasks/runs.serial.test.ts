import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Client, createClient, type FollowedEvent } from '@cyberun/api/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Child } from '../../src/child.ts'
import { median } from '../../src/http-suite/measure.ts'
import type { AgentVerbs } from '../../src/processes/agent.ts'
import type { ServerVerbs, StartedServer } from '../../src/processes/server.ts'
import { startAgentProcess, startServerProcess } from '../../src/processes.ts'
import { isAlive, residentBytes } from '../../src/procfs.ts'
import { until } from '../../src/until.ts'

/** Real runs by a real agent, each process its own, and killed as machines kill them. */

const AGENT_ID = 'runs-agent'
/** Prints a line each 20 ms until it may end, whether or not anybody reads, and says where it is by its process id. */
const COUNT = `trap "" PIPE; echo $$ > "$0/pid.$$"; n=0
while [ ! -e "$0/end" ]; do n=$((n+1)); echo "line $n"; echo "$n" > "$0/count"; sleep 0.02; done
echo "$n" > lines.txt`
/** Ignores every polite signal; so does a child that left its group. */
const STUBBORN = `setsid sh -c 'trap "" TERM; echo $$ > "$0/pid.child"; while :; do sleep 0.1; done' "$0" &
trap "" TERM; echo $$ > "$0/pid.stubborn"; while :; do sleep 0.1; done`
/** Writes down when it was asked to end, and ends. */
const POLITE = `const { writeFileSync } = require('fs')
const [place] = process.argv.slice(1)
process.on('SIGTERM', () => process.exit(writeFileSync(place + '/asked', String(Date.now()))))
setInterval(() => {}, 1000)
writeFileSync(place + '/pid.polite', String(process.pid))`

/** Of which the median counts. */
const CANCELS = 5

let directory = ''
let server: Child<ServerVerbs>
let agent: Child<AgentVerbs>
let started: StartedServer
let client: Client
let agentKey = ''

async function startAgent(): Promise<void> {
  agent = startAgentProcess(join(directory, 'agent.log'))
  const command = (name: string, program: string, flag: string, script: string) => ({
    name,
    program,
    args: [flag, script.replaceAll('{', '{{').replaceAll('}', '}}'), '{place}'],
  })
  const shell = (name: string, script: string) => command(name, '/bin/sh', '-c', script)
  const polite = command('polite', process.execPath, '-e', POLITE)
  await agent.call('start', {
    gatewayUrl: `ws://127.0.0.1:${started.edgePort}`,
    agentKey,
    agentId: AGENT_ID,
    stateDir: join(directory, 'agent'),
    logLevel: 'info',
    tools: {
      demo: true,
      commands: [shell('count', COUNT), shell('stubborn', STUBBORN), polite, shell('flood', 'exec yes')],
    },
  })
}

async function startServer(again: boolean): Promise<void> {
  server = startServerProcess(join(directory, 'server.log'))
  const order = { dataDir: join(directory, 'server'), logLevel: 'info' } as const
  if (!again) started = await server.call('start', order)
  else {
    const ports = { control: Number(new URL(started.control.controlUrl).port), edge: started.edgePort }
    await server.call('startAgain', { ...order, ports })
  }
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-runs-'))
  await startServer(false)
  const { controlUrl, emailAddress, userPassword, teamId } = started.control
  const body = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
  client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  agentKey = (await client.call('POST /credentials', { body: { kind: 'agent', display_name: 'runs' } })).raw_key
  await startAgent()
  for (const command of ['count', 'stubborn', 'polite', 'flood']) {
    await client.call('POST /workflows/import', {
      body: {
        workflow_slug: command,
        display_name: command,
        tool_type: 'command',
        workflow_json: { command },
        parameters: [{ key: 'place', type: 'string', required: true, target_path: 'place' }],
        max_retries: 3,
        resume_window: 30,
      },
    })
  }
})
afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

async function submit(slug: string): Promise<{ id: string; place: string }> {
  const place = await mkdtemp(join(directory, 'place-'))
  const params = { slug }
  const { task_id: id } = await client.call('POST /r/workflows/slug/{slug}/run', {
    params,
    body: { parameters: { place } },
  })
  return { id, place }
}

const taskOf = (id: string) => client.call('GET /r/tasks/{id}', { params: { id } })

/** 0 until it is there and written. */
function numberIn(place: string, name: string): number {
  const path = join(place, name)
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
}

/** The process that runs `COUNT` now: the shell that wrote a file named by its own id and still lives. */
async function runningIn(place: string): Promise<number> {
  let found = 0
  await until(
    () => {
      const pids = readdirSync(place).flatMap((name) => (name.startsWith('pid.') ? [Number(name.slice(4))] : []))
      found = pids.find(isAlive) ?? 0
      return found > 0
    },
    { what: 'the program runs' },
  )
  return found
}

async function allEvents(id: string): Promise<FollowedEvent[]> {
  const events: FollowedEvent[] = []
  for await (const event of client.follow(id)) events.push(event)
  return events
}

const countedLines = (events: FollowedEvent[]): number[] =>
  events.flatMap((event) => {
    const number = event.event === 'log' ? /^line (\d+)$/.exec(event.data.line)?.[1] : undefined
    return number === undefined ? [] : [Number(number)]
  })

test('a server that is killed and started again misses no line and no file of a run that went on', async () => {
  const { id, place } = await submit('count')
  const pid = await runningIn(place)
  await until(async () => (await taskOf(id)).task_status === 'running', { what: 'the server knows that it runs' })
  await server[Symbol.asyncDispose]()
  const printed = await until(() => numberIn(place, 'count') || undefined, { what: 'it has counted' })
  await until(() => numberIn(place, 'count') > printed + 20, { what: 'the run goes on without a server' })
  await startServer(true)
  expect(isAlive(pid)).toBe(true)
  await writeFile(join(place, 'end'), '')
  const events = await allEvents(id)
  expect(events.at(-1)?.event).toBe('completed')
  const lines = countedLines(events)
  expect(lines).toEqual(lines.map((_, index) => index + 1))
  const { download_url } = await client.call('GET /r/tasks/{id}/result', { params: { id } })
  expect(Number(await (await fetch(download_url ?? '')).text())).toBe(lines.length)
  expect(await taskOf(id)).toMatchObject({ task_status: 'completed', retry_count: 0 })
})

test('an agent that is killed leaves nothing running, and its next start does the task again', async () => {
  const { id, place } = await submit('count')
  const pid = await runningIn(place)
  // An attempt that the server has not heard of is given back, and does not count as a retry.
  await until(async () => (await taskOf(id)).task_status === 'running', { what: 'the server knows that it runs' })
  await agent[Symbol.asyncDispose]()
  expect(isAlive(pid)).toBe(true)
  await startAgent()
  await until(() => !isAlive(pid), { what: 'the old program is gone' })
  expect(await runningIn(place)).not.toBe(pid)
  await writeFile(join(place, 'end'), '')
  expect((await allEvents(id)).at(-1)?.event).toBe('completed')
  expect(await taskOf(id)).toMatchObject({ task_status: 'completed', retry_count: 1 })
})

test('a program that prints without end costs the agent no memory, and ends when it is cancelled', async () => {
  const { id } = await submit('flood')
  await until(
    async () => {
      for await (const event of client.follow(id)) {
        if (event.event === 'log' && event.data.line.includes('has reached its cap')) return true
      }
      return false
    },
    { what: 'the log has reached its cap' },
  )
  const before = residentBytes(agent.pid)
  await delay(2_000)
  expect(residentBytes(agent.pid) - before).toBeLessThan(48 * 1024 * 1024)
  await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
  await until(
    async () => {
      const { agent_list } = await client.call('GET /agents', {})
      return agent_list.every(({ running_count }) => running_count === 0)
    },
    { what: 'the slot is free' },
  )
})

test('a cancelled run is asked within 100 ms', async () => {
  const tookMs: number[] = []
  for (let run = 0; run < CANCELS; run++) {
    const { id, place } = await submit('polite')
    await until(() => numberIn(place, 'pid.polite') > 0, { what: 'it runs' })
    const cancelledAt = Date.now()
    await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
    const askedAt = await until(() => numberIn(place, 'asked') || undefined, { what: 'it was asked' })
    tookMs.push(askedAt - cancelledAt)
  }
  console.log(`from cancelling to the program: ${tookMs.join(', ')} ms`)
  expect(median(tookMs)).toBeLessThan(100)
})

test('a stubborn run is cancelled at once, and gone within 45 s', async () => {
  const { id, place } = await submit('stubborn')
  await until(() => numberIn(place, 'pid.stubborn') > 0 && numberIn(place, 'pid.child') > 0, { what: 'it runs' })
  const pids = [numberIn(place, 'pid.stubborn'), numberIn(place, 'pid.child')]
  await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
  expect((await taskOf(id)).task_status).toBe('cancelled')
  await until(() => pids.every((pid) => !isAlive(pid)), { what: 'all of it is gone', withinMs: 45_000 })
  expect((await allEvents(id)).at(-1)?.event).toBe('cancelled')
})
