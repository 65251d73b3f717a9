import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { acceptLink, dialLink, encodeLine, type Link, StreamChannel } from '@cyberun/link'
import { createLog, type Log } from '@cyberun/link/log'
import { type ArtifactAnswer, type ArtifactHeader, parseArtifactAnswer } from '@cyberun/protocol'
import { type BusMessages, createLocalBus } from '../../src/bus.ts'
import type { FileContext, FileLimits } from '../../src/files/context.ts'
import { openDiskStore } from '../../src/files/disk-store.ts'
import type { Reach } from '../../src/files/fail-points.ts'
import { createFiles } from '../../src/files/files.ts'
import type { ObjectStore } from '../../src/files/object-store.ts'
import { UrlSigner } from '../../src/files/signed-urls.ts'
import type { Files, PresignedUpload, StreamAgent } from '../../src/files/types.ts'
import type { Attempt } from '../../src/model/attempt.ts'
import { acknowledgeAttempt } from '../../src/store/attempts.ts'
import { Sql } from '../../src/store/handle.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { submitTask } from '../../src/store/submissions.ts'
import { importWorkflow } from '../../src/store/workflows.ts'
import { claimFor } from '../store/task-world.ts'

export const TEAM = '0190a5b0-0000-7000-8000-000000000001'
const USER = '0190a5b0-0000-7000-8000-000000000002'
export const AGENT = { teamId: TEAM, agentId: 'gpu-1' }
const HOUR_MS = 60 * 60_000

export const LIMITS: FileLimits = {
  maxInputBytes: 50_000_000,
  maxArtifactBytes: 3 * 1024 * 1024 * 1024,
  inputRetentionMs: 24 * HOUR_MS,
  outputRetentionMs: 7 * 24 * HOUR_MS,
}

/** The files part of a server on a real listener, with a team, and tasks that an agent holds. */
export interface FilesWorld extends AsyncDisposable {
  files: Files
  store: Store
  objects: ObjectStore
  /** What the sweep works with. */
  context: FileContext
  /** Topics and messages in order. */
  rung: BusMessages['task.changed'][]
  /** Moves the clock that URLs and retention are measured by. */
  pass(ms: number): void
  presign(size: number, about?: { fileName?: string; contentType?: string }): Promise<PresignedUpload>
  upload(bytes: Uint8Array, about?: { fileName?: string }): Promise<string>
  /** A task of the team that the agent runs now. */
  runningTask(fileKeys?: readonly string[]): Promise<Attempt>
}

export interface WorldOptions {
  directory: string
  objects?: ObjectStore
  reach?: Reach
  log?: Log
  limits?: Partial<FileLimits>
}

/** Opens it on a directory, which may be one that another process left. */
export async function openFilesWorld(options: WorldOptions): Promise<FilesWorld> {
  const { directory, reach = () => {} } = options
  await using stack = new AsyncDisposableStack()
  const log = options.log ?? createLog({ level: 'silent', format: 'json' })
  const store = stack.adopt(await openStore({ dataDir: directory, log }), (opened) => opened.close())
  await addTeam(store)
  const objects = options.objects ?? (await openDiskStore(join(directory, 'files'), reach))
  const secret = openServerSecret(join(directory, 'secret.key'))
  const bus = createLocalBus()
  const rung: FilesWorld['rung'] = []
  bus.subscribe('task.changed', (message) => rung.push(message))
  let ahead = 0
  const now = () => Date.now() + ahead
  const limits = { ...LIMITS, ...options.limits }

  const server = createServer((request, response) => {
    if (!files.handleRequest(request, response)) response.writeHead(404).end()
  })
  server.on('checkContinue', (request, response) => files.handleRequest(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.defer(() => {
    server.closeAllConnections()
    server.close()
  })
  const baseUrl = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const parts = { store, objects, bus, log, now, newId: randomUUID, limits, reach }
  const files: Files = createFiles({ ...parts, secret, baseUrl })
  stack.defer(() => files.stop(AbortSignal.abort()))

  const presign: FilesWorld['presign'] = (fileSize, about = {}) =>
    files.presignInput(TEAM, USER, { fileName: 'photo.png', contentType: 'image/png', ...about, fileSize })
  const opened = stack.move()
  return {
    ...{ files, store, objects, rung, presign },
    context: { ...parts, signer: new UrlSigner(secret.deriveKey('file-url'), now) },
    pass: (ms) => {
      ahead += ms
    },
    async upload(bytes, about) {
      const { fileKey, uploadUrl, uploadHeaders } = await presign(bytes.length, about)
      const response = await fetch(uploadUrl, { method: 'PUT', headers: uploadHeaders, body: Buffer.from(bytes) })
      if (!response.ok) throw new Error(`the upload was answered ${response.status}: ${await response.text()}`)
      return fileKey
    },
    runningTask: (fileKeys = []) => runTask(store, fileKeys),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

const GREETING = { software: 'test/1', fields: {} }

/** Takes links of agents to the files part; returns where they dial. `agent` is who the server takes them for. */
export async function listenForLinks(files: Files, agent: () => StreamAgent): Promise<{ url: URL; close(): void }> {
  const http = createServer()
  http.on('upgrade', (request, socket, head) => {
    void acceptLink({
      ...{ request, socket: socket as Socket, head, challenge: 'Y2hhbGxlbmdl' },
      welcome: () => Promise.resolve(GREETING),
      onStream(stream) {
        if (stream.init.target.kind === 'artifact') files.serveArtifactStream(stream, agent())
        else files.serveInputStream(stream, agent())
        return undefined
      },
    })
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const url = new URL(`ws://127.0.0.1:${(http.address() as AddressInfo).port}/agent`)
  return { url, close: () => http.close() }
}

/** An agent's end of a link. */
export function dialAgentLink(url: URL): Promise<Link> {
  return dialLink({
    ...{ url, headers: {}, hello: () => GREETING },
    onStream(stream) {
      stream.reset('unsupported')
      return undefined
    },
  })
}

/** A link of an agent to the files part in this process. */
export async function linkAgent(files: Files, agent: () => StreamAgent): Promise<Link> {
  const { url, close } = await listenForLinks(files, agent)
  const link = await dialAgentLink(url)
  void link.closed.then(close)
  return link
}

/** The first line of an artifact stream for these bytes. */
export function headerOf(attempt: Attempt, bytes: Uint8Array, changed: Partial<ArtifactHeader> = {}): ArtifactHeader {
  return {
    ...{ task_id: attempt.taskId, fence: attempt.fence, key: '9.images.0', file_name: 'out.png' },
    ...{ content_type: 'image/png', size: bytes.length, sha256: sha256(bytes) },
    ...changed,
  }
}

/** Sends an artifact as an agent does and returns the server's answer. */
export async function sendArtifact(link: Link, first: unknown, bytes: Uint8Array): Promise<ArtifactAnswer> {
  const channel = new StreamChannel(link.open({ target: { kind: 'artifact' }, priority: 'bulk' }))
  await channel.write(encodeLine(first))
  for (let at = 0; at < bytes.length; at += 1_000_000) await channel.write(bytes.subarray(at, at + 1_000_000))
  channel.end()
  return parseArtifactAnswer((await channel.readLine(10_000)) ?? '')
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function addTeam(store: Store): Promise<void> {
  const row = { id: TEAM, display_name: 'Studio', created_at: 0 }
  await Sql.db(store)
    .insertInto('team')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}

async function runTask(store: Store, fileKeys: readonly string[]): Promise<Attempt> {
  const definition = {
    ...{ display_name: 'Echo', description: '', workflow_json: { program: 'echo' }, parameters: [] },
    ...{ tool_type: 'demo' as const, required_labels: [], task_timeout: 0, max_retries: 1, resume_window: 60 },
    ...{ preferred_gpu: null, min_vram_gb: null, required_models: [] },
  }
  const workflow = await importWorkflow(store, {
    ...{ id: randomUUID(), teamId: TEAM, slug: 'echo', definition, status: 'active', userId: USER, at: 0 },
  })
  const id = randomUUID()
  await submitTask(store, {
    ...{ id, teamId: TEAM, workflowId: workflow.id, workflowVersion: workflow.version, workflowSlug: 'echo' },
    ...{ toolType: 'demo', parameters: {}, fileKeys, submitterId: USER, creationSource: 'jwt', priority: 0 },
    ...{ dispatchTarget: null, targetPool: null, submitterRegion: null, taskTimeoutMs: 0 },
    ...{ resumeWindowMs: HOUR_MS, maxRetries: 1 },
    requirements: { tool: 'demo', labels: [], models: [], nodes: [], minVramGb: null, preferredGpu: null },
  })
  const offer = {
    ...{
      agentId: AGENT.agentId,
      labels: new Set<string>(),
      tools: new Set(['demo'] as const),
      vramGb: 0,
      gpuName: null,
    },
    ...{ models: 'any' as const, nodeClasses: 'any' as const, freeSlots: 1 },
  }
  const [attempt] = await claimFor(store, [offer], { teamId: TEAM, ackMs: HOUR_MS, limit: 1 })
  if (attempt?.taskId !== id) throw new Error('another task was claimed')
  await acknowledgeAttempt(store, attempt)
  return { ...AGENT, taskId: id, fence: attempt.fence }
}
