import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, createClient } from '@cyberun/api/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Child } from '../../src/child.ts'
import type { AgentVerbs } from '../../src/processes/agent.ts'
import type { ServerVerbs, StartedServer } from '../../src/processes/server.ts'
import { startAgentProcess, startServerProcess } from '../../src/processes.ts'
import { until } from '../../src/until.ts'

/** Runs with a service of their own, and the tunnels that lead to it: real processes, killed as machines kill them. */

const AGENT_ID = 'exposing-agent'
/** Answers with its port from there on, until it may end. Told its port twice. */
const SERVE = `const { existsSync } = require('fs')
const [port, place] = process.argv.slice(1)
if (port !== process.env.CYBERUN_EXPOSE_PORT) throw new Error('two ports')
require('http').createServer((_, answer) => answer.end('port ' + port)).listen(Number(port), '127.0.0.1')
setInterval(() => existsSync(place + '/end') && process.exit(0), 20)`

let directory = ''
let server: Child<ServerVerbs>
let agent: Child<AgentVerbs>
let started: StartedServer
let client: Client
let agentKey = ''

async function startAgent(): Promise<void> {
  agent = startAgentProcess(join(directory, 'agent.log'))
  const script = SERVE.replaceAll('{', '{{').replaceAll('}', '}}')
  const serve = { name: 'serve', program: process.execPath, args: ['-e', script, '{port}', '{place}'] }
  await agent.call('start', {
    gatewayUrl: `ws://127.0.0.1:${started.edgePort}`,
    agentKey,
    agentId: AGENT_ID,
    stateDir: join(directory, 'agent'),
    logLevel: 'info',
    tools: { slots: 2, commands: [serve] },
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
  directory = await mkdtemp(join(tmpdir(), 'cyberun-exposed-'))
  await startServer(false)
  const { controlUrl, emailAddress, userPassword, teamId } = started.control
  const body = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
  client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  agentKey = (await client.call('POST /credentials', { body: { kind: 'agent', display_name: 'exposing' } })).raw_key
  await startAgent()
  await client.call('POST /workflows/import', {
    body: {
      workflow_slug: 'serve',
      tool_type: 'command',
      workflow_json: { command: 'serve' },
      parameters: [{ key: 'place', type: 'string', required: true, target_path: 'place' }],
      resume_window: 30,
      expose: { protocol: 'http' },
    },
  })
})
afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

interface Served {
  id: string
  url: string
  end(): Promise<void>
}

const taskOf = (id: string) => client.call('GET /r/tasks/{id}', { params: { id } })
const statusOf = async (id: string) => (await taskOf(id)).task_status
const answerOf = async (url: string) => {
  const response = await fetch(url)
  return `${response.status} ${response.status === 200 ? await response.text() : ''}`.trim()
}
const patience = { timeout: 20_000, interval: 20 }
const tunnelsOpen = async () =>
  (await client.call('GET /agents/{agentId}/tunnel', { params: { agentId: AGENT_ID } })).session_list

const urlOf = (id: string): Promise<string> =>
  until(async () => (await taskOf(id)).tunnel_url ?? undefined, {
    what: `the tunnel of task ${id}`,
    withinMs: patience.timeout,
    everyMs: patience.interval,
  })

/** Runs it as `by` and waits for its tunnel. */
async function serve(by: Client = client): Promise<Served> {
  const place = await mkdtemp(join(directory, 'place-'))
  const sent = { params: { slug: 'serve' }, body: { parameters: { place } } }
  const { task_id: id } = await by.call('POST /r/workflows/slug/{slug}/run', sent)
  return { id, url: await urlOf(id), end: () => writeFile(join(place, 'end'), '') }
}

test('two runs of one machine are reached at once, each until it ends', async () => {
  const first = await serve()
  const second = await serve()
  const answers = [await answerOf(first.url), await answerOf(second.url)]
  expect(new Set(answers).size).toBe(2)
  for (const answer of answers) expect(answer).toMatch(/^200 port \d+$/)
  expect((await tunnelsOpen()).map(({ task_id }) => task_id).toSorted()).toEqual([first.id, second.id].toSorted())
  const { task_list } = await client.call('GET /r/tasks', { query: { status: 'running' } })
  expect(task_list.map(({ tunnel_url }) => tunnel_url).toSorted()).toEqual([first.url, second.url].toSorted())
  await first.end()
  await expect.poll(() => statusOf(first.id), patience).toBe('completed')
  await expect.poll(() => answerOf(first.url), patience).toBe('404')
  expect(await answerOf(second.url)).toMatch(/^200/)
  expect(await taskOf(first.id)).toMatchObject({ tunnel_url: null })
  await client.call('POST /r/tasks/{id}/cancel', { params: { id: second.id } })
  await expect.poll(() => answerOf(second.url), patience).toBe('404')
  expect(await tunnelsOpen()).toEqual([])
  const messages: (string | undefined)[] = []
  for await (const { event, data } of client.follow(first.id, {})) {
    if (event === 'status') messages.push(data.message)
  }
  expect(messages).toContain('its service can be reached: the tunnel_url of the task leads to it')
})

test('a server that is killed comes back with the tunnel, at the same address', async () => {
  const run = await serve()
  await server[Symbol.asyncDispose]()
  await startServer(true)
  await expect.poll(() => answerOf(run.url), patience).toMatch(/^200 port/)
  expect(await urlOf(run.id)).toBe(run.url)
  expect(await tunnelsOpen()).toHaveLength(1)
  await run.end()
  await expect.poll(() => statusOf(run.id), patience).toBe('completed')
  await expect.poll(() => answerOf(run.url), patience).toBe('404')
})

test('a server that is killed while a run ends leaves no tunnel behind', async () => {
  const run = await serve()
  await server[Symbol.asyncDispose]()
  await run.end()
  await startServer(true)
  await expect.poll(() => statusOf(run.id), patience).toBe('completed')
  await expect.poll(() => answerOf(run.url), patience).toBe('404')
  expect(await tunnelsOpen()).toEqual([])
})

test('the tunnel of a lost agent ends with the attempt, and the next attempt gets its own', async () => {
  const run = await serve()
  await agent[Symbol.asyncDispose]()
  await startAgent()
  await expect.poll(async () => (await taskOf(run.id)).retry_count, patience).toBe(1)
  await expect.poll(() => answerOf(run.url), patience).toBe('404')
  const next = await urlOf(run.id)
  expect(next).not.toBe(run.url)
  expect(await answerOf(next)).toMatch(/^200 port/)
  await run.end()
  await expect.poll(() => statusOf(run.id), patience).toBe('completed')
  await expect.poll(tunnelsOpen, patience).toEqual([])
})

test('it stands on the right that the run was submitted with, and is not opened again', async () => {
  const key = await client.call('POST /credentials', { body: { kind: 'integration', display_name: 'submits' } })
  const run = await serve(createClient({ baseUrl: started.control.controlUrl, token: key.raw_key }))
  expect(await answerOf(run.url)).toMatch(/^200 port/)
  await client.call('DELETE /credentials/{id}', { params: { id: key.id } })
  await expect.poll(() => answerOf(run.url), patience).toBe('404')
  const other = await serve()
  // Both would have been looked at by now.
  expect(await taskOf(run.id)).toMatchObject({ task_status: 'running', tunnel_url: null })
  for (const { end } of [run, other]) await end()
  await expect.poll(() => statusOf(run.id), patience).toBe('completed')
  await expect.poll(tunnelsOpen, patience).toEqual([])
})
