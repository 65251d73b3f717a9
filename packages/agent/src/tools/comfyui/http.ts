import { openAsBlob } from 'node:fs'
import { type HistoryEntry, type QueueState, readHistory, readQueue, readStats, type SystemStats } from './answers.ts'
import { asNumber, asObject, asText, texts } from './json.ts'

/** More than this of JSON is not read: a queue full of large graphs has a few megabytes. */
const MAX_JSON_BYTES = 128 * 1024 * 1024

/** ComfyUI did not answer: it is not there, too slow, or cut the connection. */
export class ComfyuiSilence extends Error {
  override readonly name = 'ComfyuiSilence'
}

/** ComfyUI answered that it will not. `body` is what it said: JSON, or text. */
export class ComfyuiRefusal extends Error {
  override readonly name = 'ComfyuiRefusal'
  readonly status: number
  readonly body: unknown

  constructor(call: string, status: number, body: unknown) {
    super(`ComfyUI answered ${call} with ${status}`)
    this.status = status
    this.body = body
  }
}

/** A file that ComfyUI made. */
export interface FileReference {
  readonly filename: string
  readonly subfolder: string
  readonly type: string
}

/** What this ComfyUI can do, asked once after each start; versions are never compared. */
export interface Abilities {
  readonly stats: SystemStats
  readonly hasJobs: boolean
  readonly maxUploadBytes: number | undefined
}

/** ComfyUI's routes, as far as an agent needs them. Every call rejects with `ComfyuiSilence` or `ComfyuiRefusal`. */
export class ComfyuiHttp {
  readonly url: string
  readonly #callMs: number

  /** `callMs` bounds each call but those for files. */
  constructor(url: string, callMs: number) {
    this.url = url.replace(/\/+$/, '')
    this.#callMs = callMs
  }

  async abilities(signal: AbortSignal): Promise<Abilities> {
    const stats = await this.stats(signal)
    const [features, hasJobs] = await Promise.all([
      this.#json('GET', '/features', undefined, signal).catch(whenRefused({})),
      this.#json('GET', '/api/jobs?limit=1', undefined, signal).then(() => true, whenRefused(false)),
    ])
    return { stats, hasJobs, maxUploadBytes: asNumber(asObject(features)?.['max_upload_size']) }
  }

  async stats(signal: AbortSignal): Promise<SystemStats> {
    const stats = readStats(await this.#json('GET', '/system_stats', undefined, signal))
    if (stats === undefined) throw new ComfyuiSilence(`what answers at ${this.url} is no ComfyUI`)
    return stats
  }

  async queue(signal: AbortSignal): Promise<QueueState> {
    return readQueue(await this.#json('GET', '/queue', undefined, signal))
  }

  async history(promptId: string, signal: AbortSignal): Promise<HistoryEntry | undefined> {
    return readHistory(await this.#json('GET', `/history/${promptId}`, undefined, signal), promptId)
  }

  /** False when this server, one of those with jobs, never heard of the prompt. */
  async knowsJob(promptId: string, signal: AbortSignal): Promise<boolean> {
    return this.#json('GET', `/api/jobs/${promptId}`, undefined, signal).then(() => true, whenRefused(false, 404))
  }

  /** The prompt's id, which old servers choose themselves, and what is wrong with nodes it will leave out in silence. */
  async submit(body: object, signal: AbortSignal): Promise<{ promptId: string | undefined; nodeErrors: unknown }> {
    const answer = asObject(await this.#json('POST', '/prompt', body, signal))
    return { promptId: asText(answer?.['prompt_id']), nodeErrors: answer?.['node_errors'] ?? {} }
  }

  async dequeue(promptId: string, signal: AbortSignal): Promise<void> {
    await this.#json('POST', '/queue', { delete: [promptId] }, signal)
  }

  async interrupt(promptId: string, signal: AbortSignal): Promise<void> {
    await this.#json('POST', '/interrupt', { prompt_id: promptId }, signal)
  }

  /** Removes or interrupts in one step, so that the next prompt cannot be hit. */
  async cancelJob(promptId: string, signal: AbortSignal): Promise<void> {
    await this.#json('POST', `/api/jobs/${promptId}/cancel`, {}, signal)
  }

  async forget(promptId: string, signal: AbortSignal): Promise<void> {
    await this.#json('POST', '/history', { delete: [promptId] }, signal)
  }

  /** Done by the worker before the next prompt. `free_memory` also empties the cache of node results. */
  async free(what: { unload_models: boolean; free_memory: boolean }, signal: AbortSignal): Promise<void> {
    await this.#json('POST', '/free', what, signal)
  }

  async modelFolders(signal: AbortSignal): Promise<string[]> {
    return texts(await this.#json('GET', '/models', undefined, signal).catch(whenRefused([])))
  }

  async models(folder: string, signal: AbortSignal): Promise<string[]> {
    return texts(
      await this.#json('GET', `/models/${encodeURIComponent(folder)}`, undefined, signal).catch(whenRefused([])),
    )
  }

  /** Node classes by name, each as ComfyUI describes it; only `nodeClass` when one is named. */
  async nodeClasses(signal: AbortSignal, nodeClass?: string): Promise<Readonly<Record<string, unknown>>> {
    const path = nodeClass === undefined ? '/object_info' : `/object_info/${encodeURIComponent(nodeClass)}`
    return asObject(await this.#json('GET', path, undefined, signal)) ?? {}
  }

  /** Lines of ComfyUI's own log for a socket; a server without the route is no fault. */
  async readLogs(clientId: string, signal: AbortSignal): Promise<void> {
    await this.#json('PATCH', '/internal/logs/subscribe', { clientId, enabled: true }, signal).catch(
      whenRefused(undefined),
    )
  }

  /** Puts a file among ComfyUI's inputs; resolves with the value that a graph names it by. */
  async upload(file: { path: string; name: string; subfolder: string }, signal: AbortSignal): Promise<string> {
    const form = new FormData()
    form.set('subfolder', file.subfolder)
    form.set('type', 'input')
    form.set('overwrite', 'true')
    form.set('image', await openAsBlob(file.path), file.name)
    const response = await this.#fetch('POST', '/upload/image', { body: form, signal })
    const answer = asObject(await readBody(response))
    if (!response.ok) throw new ComfyuiRefusal('POST /upload/image', response.status, answer)
    const name = asText(answer?.['name'])
    if (name === undefined) throw new ComfyuiRefusal('POST /upload/image', response.status, answer)
    const subfolder = asText(answer?.['subfolder']) ?? ''
    return subfolder === '' ? name : `${subfolder}/${name}`
  }

  /** The bytes of a file from `start` on. The body is the caller's to read or cancel. */
  async view(file: FileReference, start: number, signal: AbortSignal): Promise<Response> {
    const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type })
    const headers = start > 0 ? { range: `bytes=${start}-` } : {}
    return this.#fetch('GET', `/view?${query}`, { headers, signal })
  }

  async #json(method: string, path: string, body: object | undefined, signal: AbortSignal): Promise<unknown> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(this.#callMs)])
    const response = await this.#fetch(method, path, {
      signal: limited,
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    const answer = await readBody(response).catch((cause: unknown) => {
      throw silence(method, path, cause, signal)
    })
    if (!response.ok) throw new ComfyuiRefusal(`${method} ${path.split('?')[0]}`, response.status, answer)
    return answer
  }

  async #fetch(method: string, path: string, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
    try {
      return await fetch(this.url + path, { method, redirect: 'manual', ...init })
    } catch (cause) {
      throw silence(method, path, cause, init.signal)
    }
  }
}

/** A call that was cut off by its own caller keeps the caller's reason. */
function silence(method: string, path: string, cause: unknown, signal: AbortSignal): unknown {
  if (cause instanceof ComfyuiSilence) return cause
  if (signal.aborted && signal.reason?.name !== 'TimeoutError') return signal.reason
  const why = cause instanceof Error ? describeCause(cause) : String(cause)
  return new ComfyuiSilence(`ComfyUI does not answer ${method} ${path.split('?')[0]}: ${why}`, { cause })
}

/** `fetch` hides what happened below it: `fetch failed` says nothing, ECONNREFUSED does. */
function describeCause(error: Error): string {
  const { cause } = error
  return cause instanceof Error ? ('code' in cause ? String(cause.code) : cause.message) : error.message
}

async function readBody(response: Response): Promise<unknown> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of response.body ?? []) {
    size += part.length
    if (size > MAX_JSON_BYTES) throw new ComfyuiSilence(`ComfyUI answered with more than ${MAX_JSON_BYTES} bytes`)
    parts.push(part)
  }
  const text = Buffer.concat(parts).toString('utf8')
  try {
    return JSON.parse(text)
  } catch {
    // Many of its answers are empty, and its refusals are often plain text.
    return text
  }
}

/** For `catch`: `value` when ComfyUI refused (with `status`, if given), else the error goes on. */
function whenRefused<T>(value: T, status?: number): (error: unknown) => T {
  return (error) => {
    if (error instanceof ComfyuiRefusal && (status === undefined || error.status === status)) return value
    throw error
  }
}
