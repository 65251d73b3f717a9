import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Client, createClient, type FollowedEvent } from '@cyberun/api/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Child } from '../../src/child.ts'
import { type ComfyuiOptions, decodePng, pngChunks, type SimulatedComfyui, startComfyui } from '../../src/index.ts'
import type { AgentVerbs } from '../../src/processes/agent.ts'
import type { ServerVerbs, StartedServer } from '../../src/processes/server.ts'
import { startAgentProcess, startServerProcess } from '../../src/processes.ts'

/** Runs of ComfyUI workflows through server and agents, each process its own. */

const MODEL = 'special.safetensors'
const SIMULATOR = fileURLToPath(new URL('../../src/processes/comfyui.ts', import.meta.url))
/** From the submission: a dead worker is noticed in this. */
const NOTICED_MS = 30_000

const SLOW = {
  1: { class_type: 'EmptyImage', inputs: { width: 16, height: 16, batch_size: 1, color: 0 } },
  2: { class_type: 'TestSleep', inputs: { value: ['1', 0], seconds: 0 } },
  9: { class_type: 'SaveImage', inputs: { images: ['2', 0], filename_prefix: 'ComfyUI' } },
}
const INVERTED = {
  1: { class_type: 'LoadImage', inputs: { image: 'example.png' } },
  2: { class_type: 'ImageInvert', inputs: { image: ['1', 0] } },
  9: { class_type: 'SaveImage', inputs: { images: ['2', 0], filename_prefix: 'ComfyUI' } },
}
const SAMPLED = {
  1: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: MODEL } },
  2: { class_type: 'KSampler', inputs: { model: ['1', 0], seed: 7, steps: 3, sampler_name: 'euler' } },
  9: { class_type: 'SaveImage', inputs: { images: ['2', 0], filename_prefix: 'ComfyUI' } },
}

let directory = ''
let server: Child<ServerVerbs>
let started: StartedServer
let client: Client
let agentKey = ''
const comfyuis: SimulatedComfyui[] = []
const agents = new Map<string, Child<AgentVerbs>>()
const processes: ChildProcess[] = []

async function comfyui(name: string, options: Partial<ComfyuiOptions> = {}): Promise<SimulatedComfyui> {
  const simulated = await startComfyui({ baseDirectory: join(directory, name), ...options })
  comfyuis.push(simulated)
  return simulated
}

/** One in a process of its own, as what a process does tells whether it works. */
async function comfyuiProcess(name: string): Promise<string> {
  const args = [SIMULATOR, '--port', '0', '--base-directory', join(directory, name)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  processes.push(child)
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /^To see the GUI go to: (.+)$/.exec(line)?.[1]
    if (url !== undefined) return url
  }
  throw new Error('the simulated ComfyUI did not start')
}

async function startAgent(agentId: string, url: string): Promise<void> {
  const agent = startAgentProcess(join(directory, `${agentId}.log`))
  agents.set(agentId, agent)
  const stateDir = join(directory, agentId)
  const gatewayUrl = `ws://127.0.0.1:${started.edgePort}`
  await agent.call('start', { gatewayUrl, agentKey, agentId, stateDir, logLevel: 'info', tools: { comfyui: url } })
  const list = async () => (await client.call('GET /agents', {})).agent_list.filter((row) => row.agent_id === agentId)
  await expect
    .poll(list, { timeout: 60_000 })
    .toEqual([expect.objectContaining({ agent_status: 'idle', tool: 'comfyui', comfyui_version: '0.3.64' })])
}

async function importGraph(slug: string, graph: object, fields: object = {}): Promise<void> {
  await client.call('POST /workflows/import', {
    body: { workflow_slug: slug, display_name: slug, tool_type: 'comfyui', workflow_json: { ...graph }, ...fields },
  })
}

async function submit(slug: string, parameters: Record<string, unknown> = {}): Promise<string> {
  const { task_id } = await client.call('POST /r/workflows/slug/{slug}/run', { params: { slug }, body: { parameters } })
  return task_id
}

/** Puts all its events into `events`, up to its end. */
async function follow(id: string, events: FollowedEvent[] = []): Promise<FollowedEvent[]> {
  for await (const event of client.follow(id)) events.push(event)
  return events
}

const taskOf = (id: string) => client.call('GET /r/tasks/{id}', { params: { id } })

async function download(id: string, key: string): Promise<Buffer> {
  const { download_urls } = await client.call('GET /r/tasks/{id}/result', { params: { id } })
  const response = await fetch(download_urls?.[key] ?? '')
  expect(response.status).toBe(200)
  return Buffer.from(await response.arrayBuffer())
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-comfyui-'))
  server = startServerProcess(join(directory, 'server.log'))
  started = await server.call('start', { dataDir: join(directory, 'server'), logLevel: 'info' })
  const { controlUrl, emailAddress, userPassword, teamId } = started.control
  const body = { email_address: emailAddress, user_password: userPassword }
  const { access_token } = await createClient({ baseUrl: controlUrl }).call('POST /auth/login', { body })
  client = createClient({ baseUrl: controlUrl, token: access_token, teamId })
  agentKey = (await client.call('POST /credentials', { body: { kind: 'agent', display_name: 'comfyui' } })).raw_key
})
afterAll(async () => {
  for (const agent of agents.values()) await agent[Symbol.asyncDispose]()
  for (const child of processes) child.kill('SIGKILL')
  for (const simulated of comfyuis) await simulated[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

test('a graph with parameters becomes a picture, and a picture the input of the next', async () => {
  const page = join(directory, 'page')
  mkdirSync(page)
  writeFileSync(join(page, 'index.html'), '<!doctype html><title>ComfyUI</title><p>nodes and wires')
  const simulated = await comfyui('first', { frontend: { folder: page } })
  await importGraph('slow', SLOW, {
    parameters: [
      { key: 'color', type: 'number', default: 0, node_id: '1', field: 'color' },
      { key: 'seconds', type: 'number', default: 0, node_id: '2', field: 'seconds' },
    ],
    max_retries: 2,
  })
  const id = await submit('slow', { color: 0x0a141e, seconds: 0.6 })
  const events: FollowedEvent[] = []
  const following = follow(id, events)
  // Progress is only told to who is there: it runs when somebody follows it.
  await expect.poll(() => events.length).toBeGreaterThan(0)
  await startAgent('first', simulated.url)
  await following
  const kinds = new Set(events.map(({ event }) => event))
  expect([...kinds]).toEqual(expect.arrayContaining(['status', 'progress', 'artifact', 'completed']))
  const picture = await download(id, '9.images.0')
  expect([...(decodePng(picture)?.pixels.subarray(0, 3) ?? [])]).toEqual([0x0a, 0x14, 0x1e])
  expect([...pngChunks(picture)].map(({ type }) => type)).not.toContain('tEXt')

  await importGraph('inverted', INVERTED, {
    parameters: [{ key: 'image', type: 'file', required: true, node_id: '1', field: 'image' }],
  })
  const file = { file_name: 'in.png', file_size: picture.length, content_type: 'image/png' }
  const { file_key, upload_url, upload_headers } = await client.call('POST /r/files/presign', { body: file })
  const put = await fetch(upload_url, { method: 'PUT', headers: upload_headers, body: new Uint8Array(picture) })
  expect(put.ok).toBe(true)
  const inverted = await submit('inverted', { image: file_key })
  expect((await follow(inverted)).at(-1)?.event).toBe('completed')
  expect([...(decodePng(await download(inverted, '9.images.0'))?.pixels.subarray(0, 3) ?? [])]).toEqual([
    0xf5, 0xeb, 0xe1,
  ])
})

test('while an exposed run lasts its tunnel_url leads to the ComfyUI that runs it, and with the run it ends', async () => {
  await importGraph('shown', SLOW, {
    parameters: [{ key: 'seconds', type: 'number', default: 0, node_id: '2', field: 'seconds' }],
    expose: { protocol: 'http' },
  })
  const id = await submit('shown', { seconds: 120 })
  await expect.poll(async () => (await taskOf(id)).tunnel_url, { timeout: 60_000 }).not.toBeNull()
  const { tunnel_url: url, task_status } = await taskOf(id)
  expect({ task_status, url }).toEqual({ task_status: 'running', url: expect.stringContaining('/tunnel/') })
  const get = async (path: string) => (await fetch(new URL(path, url ?? ''))).text()
  expect(await get('')).toContain('<title>ComfyUI</title>')
  // Behind it is this very run.
  expect(JSON.parse(await get('queue'))).toMatchObject({ queue_running: [expect.anything()], queue_pending: [] })
  const params = { agentId: 'first' }
  const { session_list } = await client.call('GET /agents/{agentId}/tunnel', { params })
  expect(session_list).toMatchObject([
    { task_id: id, tunnel_url: url, profile: 'comfyui', target_port: comfyuis[0]?.port },
  ])

  await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
  expect((await follow(id)).at(-1)?.event).toBe('cancelled')
  await expect.poll(async () => (await fetch(url ?? '')).status, { timeout: 60_000 }).toBe(404)
  expect(await taskOf(id)).toMatchObject({ tunnel_url: null })
  expect((await client.call('GET /agents/{agentId}/tunnel', { params })).session_list).toEqual([])
})

test('an agent that is killed finds its run again by the prompt', async () => {
  const [simulated] = comfyuis
  if (simulated === undefined) throw new Error('the first test starts it')
  simulated.requests.length = 0
  const id = await submit('slow', { color: 5, seconds: 4 })
  await expect.poll(() => simulated.requests, { timeout: 60_000 }).toContain('POST /prompt')
  await agents.get('first')?.[Symbol.asyncDispose]()
  await startAgent('first', simulated.url)
  expect((await follow(id)).at(-1)?.event).toBe('completed')
  expect(await taskOf(id)).toMatchObject({ task_status: 'completed', retry_count: 0 })
  expect(decodePng(await download(id, '9.images.0'))?.pixels[2]).toBe(5)
  const canaries = simulated.requests.filter((request) => request === 'POST /prompt').length - 1
  expect(canaries).toBeLessThanOrEqual(1)
})

test('a task goes to the agent that has its model, and says what it waits for until then', async () => {
  await importGraph('sampled', SAMPLED, { required_models: [MODEL] })
  const id = await submit('sampled')
  await expect.poll(async () => (await taskOf(id)).waiting_reason, { timeout: 60_000 }).toContain(MODEL)
  const models = join(directory, 'second', 'models', 'checkpoints')
  mkdirSync(models, { recursive: true })
  writeFileSync(join(models, MODEL), 'weights')
  await startAgent('second', (await comfyui('second')).url)
  expect((await follow(id)).at(-1)?.event).toBe('completed')
  expect((await taskOf(id)).agent_id).toBe('second')
})

test('a caller’s mistake is not tried again, and a cancelled run leaves ComfyUI', async () => {
  const wrong = await submit('slow', { color: -3 })
  expect((await follow(wrong)).at(-1)).toMatchObject({ event: 'failed' })
  expect(await taskOf(wrong)).toMatchObject({
    task_status: 'failed',
    retry_count: 0,
    task_error: expect.stringContaining('EmptyImage'),
  })
  const id = await submit('slow', { color: 9, seconds: 60 })
  await expect.poll(async () => (await taskOf(id)).task_status, { timeout: 60_000 }).toBe('running')
  await client.call('POST /r/tasks/{id}/cancel', { params: { id } })
  expect((await follow(id)).at(-1)?.event).toBe('cancelled')
  const queue = async () => (await fetch(`${comfyuis[0]?.url}/queue`)).json()
  await expect.poll(queue, { timeout: 60_000 }).toEqual({ queue_running: [], queue_pending: [] })
})

test('a ComfyUI whose worker died is noticed, its agent unhealthy, and the task done elsewhere', async () => {
  for (const agent of agents.values()) await agent[Symbol.asyncDispose]()
  const url = await comfyuiProcess('zombie')
  await startAgent('zombie', url)
  await fetch(`${url}/simulator/faults`, { method: 'PUT', body: JSON.stringify({ deadWorker: 'holding' }) })
  const began = performance.now()
  const id = await submit('slow', { color: 77 })
  await expect.poll(async () => (await taskOf(id)).task_status, { timeout: 60_000 }).toBe('running')
  await startAgent('healthy', (await comfyui('healthy')).url)
  const zombie = async () => (await client.call('GET /agents', {})).agent_list.find((row) => row.agent_id === 'zombie')
  await expect.poll(zombie, { timeout: 60_000 }).toMatchObject({ agent_status: 'unhealthy' })
  expect(performance.now() - began).toBeLessThan(NOTICED_MS)
  expect((await follow(id)).at(-1)?.event).toBe('completed')
  expect(await taskOf(id)).toMatchObject({ agent_id: 'healthy', retry_count: 1 })
})
