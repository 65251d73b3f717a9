import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { WebSocketServer } from 'ws'
import { answer, HttpAnswer, readJson } from './answers.ts'
import { Executor } from './executor.ts'
import { type ComfyuiFaults, type ComfyuiGeneration, NO_FAULTS } from './faults.ts'
import { upload, view } from './file-routes.ts'
import { Folders } from './folders.ts'
import { Frontend, type FrontendOptions } from './frontend.ts'
import { nodeClasses } from './node-classes.ts'
import { PromptQueue } from './prompt-queue.ts'
import { PromptRoutes } from './prompt-routes.ts'
import { Sockets } from './sockets.ts'

export interface ComfyuiOptions {
  /** Where its `input`, `output`, `temp` and `models` are. */
  baseDirectory: string
  /** `classic` unless a test asks for another. */
  generation?: ComfyuiGeneration
  /** 0, the default, for one that is free. */
  port?: number
  maxUploadBytes?: number
  /** Free video memory that `/system_stats` tells, of 24 GiB. */
  vramFreeBytes?: number
  faults?: Partial<ComfyuiFaults>
  /** Its web page, which is a package of its own; without it only the API is there. */
  frontend?: FrontendOptions
  log?: (line: string) => void
}

/** A ComfyUI that needs neither Python nor GPU, with a switch for everything it is known to do wrong. */
export interface SimulatedComfyui extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Switches; a change takes effect at once. */
  readonly faults: ComfyuiFaults
  /** What was asked over HTTP, in order: `POST /prompt`. A test may empty it. */
  readonly requests: string[]
  /** Ends without a word, as a killed process does; what was queued is forgotten. */
  kill(): Promise<void>
  /** Begins anew on the same port, with an empty queue and history. */
  start(): Promise<void>
  cutSockets(): void
}

const VRAM_BYTES = 24 * 2 ** 30
const MAX_BODY_BYTES = 100 * 2 ** 20
const VERSIONS: Readonly<Record<ComfyuiGeneration, string>> = { ancient: '0.3.30', classic: '0.3.64', modern: '0.38.1' }
const MOST_REQUESTS = 100_000

/** Starts a simulated ComfyUI on loopback. */
export async function startComfyui(options: ComfyuiOptions): Promise<SimulatedComfyui> {
  const faults: ComfyuiFaults = { ...NO_FAULTS, ...options.faults }
  const requests: string[] = []
  let port = options.port ?? 0
  let running: Running | undefined

  const simulated: SimulatedComfyui = {
    get url() {
      return `http://127.0.0.1:${port}`
    },
    get port() {
      return port
    },
    faults,
    requests,
    async kill() {
      await running?.end()
      running = undefined
    },
    async start() {
      running = new Running(options, faults, (line) => {
        if (requests.length < MOST_REQUESTS) requests.push(line)
      })
      port = await running.listen(port)
    },
    cutSockets: () => running?.sockets.cut(),
    [Symbol.asyncDispose]: () => simulated.kill(),
  }
  await simulated.start()
  return simulated
}

/** One life of the process: from its start to its end. */
class Running {
  readonly sockets: Sockets
  readonly #folders: Folders
  readonly #queue: PromptQueue
  readonly #executor: Executor
  readonly #prompts: PromptRoutes
  readonly #frontend: Frontend | undefined
  readonly #over = new AbortController()
  readonly #http = createServer((request, response) => void this.#serve(request, response))
  readonly #websockets = new WebSocketServer({ noServer: true })
  readonly #options: ComfyuiOptions
  readonly #faults: ComfyuiFaults
  readonly #generation: ComfyuiGeneration
  readonly #note: (line: string) => void

  constructor(options: ComfyuiOptions, faults: ComfyuiFaults, note: (line: string) => void) {
    this.#options = options
    this.#faults = faults
    this.#note = note
    this.#generation = options.generation ?? 'classic'
    this.#folders = new Folders(options.baseDirectory)
    this.#folders.wipeTemp()
    this.sockets = new Sockets(this.#generation, faults)
    this.#queue = new PromptQueue(() => this.sockets.send('status', this.#status()))
    const parts = {
      queue: this.#queue,
      sockets: this.sockets,
      folders: this.#folders,
      faults,
      generation: this.#generation,
    }
    this.#frontend = options.frontend && new Frontend(options.frontend, join(options.baseDirectory, 'user'))
    this.#executor = new Executor({ ...parts, writesMetadata: true, log: (line) => this.#log(line) })
    this.#prompts = new PromptRoutes({ ...parts, executor: this.#executor })
    this.#http.on('upgrade', (request, socket, head) => {
      const clientId = new URL(request.url ?? '/', 'http://simulated').searchParams.get('clientId') ?? ''
      this.#websockets.handleUpgrade(request, socket, head, (websocket) =>
        this.sockets.accept(websocket, clientId, (sid) => this.#greet(sid)),
      )
    })
  }

  async listen(port: number): Promise<number> {
    this.#http.listen(port, '127.0.0.1')
    await once(this.#http, 'listening')
    void this.#executor.work(this.#over.signal)
    this.#log('Starting server\n')
    return (this.#http.address() as AddressInfo).port
  }

  async end(): Promise<void> {
    this.#over.abort()
    this.sockets.cut()
    this.#http.close()
    this.#http.closeAllConnections()
    await once(this.#http, 'close')
    this.#folders.wipeTemp()
  }

  #log(line: string): void {
    this.#options.log?.(line)
    this.sockets.sendLog(line)
  }

  #status(): unknown {
    return { status: { exec_info: { queue_remaining: this.#queue.remaining } } }
  }

  #greet(sid: string): void {
    this.sockets.send('status', { ...(this.#status() as object), sid }, sid)
    const { clientId, node } = this.#executor.current
    if (clientId === sid && node !== undefined) this.sockets.send('executing', { node }, sid)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://simulated')
    this.#note(`${request.method} ${pathname}`)
    try {
      if (this.#isForeign(request)) throw new HttpAnswer(403)
      if (pathname.replace(/^\/api(?=\/)/, '') === '/view') {
        await view(request, response, searchParams, this.#folders, this.#faults, this.#generation)
        return
      }
      if (await this.#frontend?.serve(request, response, pathname, searchParams)) return
      const body = await this.#route(request, pathname, searchParams)
      if (request.method === 'POST' && pathname.endsWith('/prompt') && this.#faults.losesReplies > 0) {
        this.#faults.losesReplies--
        response.destroy()
      } else answer(response, 200, body ?? '')
    } catch (error) {
      if (response.headersSent) response.destroy()
      else if (error instanceof HttpAnswer) answer(response, error.status, error.body)
      else answer(response, 500, `500 Internal Server Error\n\n${error}`)
    }
  }

  /** A page of another origin that talks to a loopback address. */
  #isForeign({ headers }: IncomingMessage): boolean {
    return headers.origin !== undefined && new URL(headers.origin).host !== headers.host
  }

  async #route(request: IncomingMessage, path: string, query: URLSearchParams): Promise<unknown> {
    const limit = query.has('limit') ? Number(query.get('limit')) : null
    const isModern = this.#generation === 'modern'
    const job = /^\/api\/jobs\/([^/]+)(\/cancel)?$/.exec(path)
    if (isModern && path === '/api/jobs') return this.#prompts.jobs(limit)
    if (isModern && job?.[1] !== undefined) {
      return job[2] === undefined ? this.#prompts.job(job[1]) : this.#prompts.cancelJob(job[1])
    }
    const [, first = '', second = ''] = path
      .replace(/^\/api(?=\/)/, '')
      .split('/')
      .map(decodeURIComponent)
    const json = () => readJson(request, this.#options.maxUploadBytes ?? MAX_BODY_BYTES)
    switch (`${request.method} /${first}${second === '' ? '' : '/*'}`) {
      case 'GET /prompt':
        return (this.#status() as { status: unknown }).status
      case 'POST /prompt':
        this.#log('got prompt')
        return this.#prompts.submit(await json())
      case 'GET /queue':
        return {
          queue_running: this.#queue.running === undefined ? [] : [this.#queue.running],
          queue_pending: this.#queue.pending,
        }
      case 'POST /queue':
        return this.#prompts.changeQueue(await json())
      case 'POST /interrupt':
        return this.#prompts.interrupt(await json())
      case 'POST /history':
        return this.#prompts.changeHistory(await json())
      case 'GET /history':
        return Object.fromEntries(this.#queue.history)
      case 'GET /history/*':
        return this.#queue.history.has(second) ? { [second]: this.#queue.history.get(second) } : {}
      case 'POST /free':
        await json()
        return this.#executor.freeMemory()
      case 'POST /upload/*':
        return upload(request, this.#folders, this.#options.maxUploadBytes ?? MAX_BODY_BYTES)
      case 'GET /features':
        if (this.#generation === 'ancient') throw new HttpAnswer(404, '404: Not Found')
        return { ...this.sockets.features, max_upload_size: this.#options.maxUploadBytes ?? MAX_BODY_BYTES }
      case 'GET /system_stats':
        if (this.#faults.mute) return new Promise(() => {})
        return this.#systemStats()
      case 'GET /models':
        return this.#folders.modelFolders
      case 'GET /models/*':
        return this.#folders.models(second) ?? notFound()
      case 'GET /object_info':
        return Object.fromEntries(Object.keys(nodeClasses(this.#folders)).map((name) => [name, this.#nodeInfo(name)]))
      case 'GET /object_info/*':
        return second in nodeClasses(this.#folders) ? { [second]: this.#nodeInfo(second) } : {}
      case 'PATCH /internal/*': {
        const { clientId, enabled } = await json()
        return this.sockets.subscribeToLogs(String(clientId), enabled === true)
      }
      // The simulator's own door, for tests that run it as a process of its own.
      case 'PUT /simulator/*':
        Object.assign(this.#faults, await json())
        return {}
      default:
        return notFound()
    }
  }

  #nodeInfo(name: string): unknown {
    const type = nodeClasses(this.#folders)[name]
    const { required = {}, optional = {} } = type ?? {}
    return {
      input: { required, optional },
      input_order: { required: Object.keys(required), optional: Object.keys(optional) },
      output: type?.outputs ?? [],
      output_node: type?.isOutput === true,
      name,
      display_name: name,
      python_module: 'nodes',
      category: 'simulated',
    }
  }

  #systemStats(): unknown {
    const device = {
      name: 'cuda:0 Simulated GPU : native',
      type: 'cuda',
      index: 0,
      vram_total: VRAM_BYTES,
      vram_free: this.#options.vramFreeBytes ?? VRAM_BYTES,
      torch_vram_total: 0,
      torch_vram_free: 0,
    }
    const system = {
      os: this.#generation === 'modern' ? 'linux' : 'posix',
      ram_total: 2 ** 34,
      ram_free: 2 ** 33,
      comfyui_version: VERSIONS[this.#generation],
      python_version: '3.12.0',
      pytorch_version: '2.9.0+cu128',
      embedded_python: false,
      argv: ['main.py', '--listen', '127.0.0.1'],
    }
    return { system, devices: [device] }
  }
}

function notFound(): never {
  throw new HttpAnswer(404, '404: Not Found')
}
