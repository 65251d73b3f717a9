import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { dirname, extname, join, relative, resolve } from 'node:path'
import { answer, HttpAnswer, readBody, readJson } from './answers.ts'

export interface FrontendOptions {
  /** Where `comfyui-frontend-package` has its static files. */
  folder: string
  /** Plugins: the text of each one's `index.js`, by the name of its folder. */
  plugins?: Readonly<Record<string, string>>
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.webp': 'image/webp',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
}
const MOST_BYTES = 10 * 2 ** 20

/** What ComfyUI serves to its own web page alone: the page, its plugins, and a user's settings and files. */
export class Frontend {
  readonly #options: FrontendOptions
  readonly #userFolder: string
  #settings: Record<string, unknown> = {
    'Comfy.TutorialCompleted': true,
    'Comfy.InstalledVersion': '1.58.1',
    'Comfy.Release.Status': 'skipped',
  }

  constructor(options: FrontendOptions, userFolder: string) {
    this.#options = options
    this.#userFolder = userFolder
    mkdirSync(userFolder, { recursive: true })
  }

  /** Answers if the request is one of the page's; says whether it was. */
  async serve(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
  ): Promise<boolean> {
    if (request.method === 'GET' && this.#sendFile(response, path)) return true
    const body = await this.#route(request, path.replace(/^\/api(?=\/)/, ''), query)
    if (body === undefined) return false
    answer(response, 200, body)
    return true
  }

  #sendFile(response: ServerResponse, path: string): boolean {
    const [, plugin, file] = /^\/extensions\/([\w-]+)\/([\w.-]+)$/.exec(path) ?? []
    const script = file === 'index.js' ? this.#options.plugins?.[plugin ?? ''] : undefined
    if (script !== undefined) {
      response.setHeader('Content-Type', TYPES['.js'] ?? '').end(script)
      return true
    }
    const wanted = resolve(this.#options.folder, `.${decodeURI(path)}`)
    const found = path === '/' ? join(this.#options.folder, 'index.html') : wanted
    if (relative(this.#options.folder, found).startsWith('..')) return false
    if (!existsSync(found) || !statSync(found).isFile()) return false
    response.writeHead(200, {
      'Content-Type': TYPES[extname(found)] ?? 'application/octet-stream',
      'Content-Length': statSync(found).size,
      'Cache-Control': 'no-cache',
    })
    createReadStream(found).pipe(response)
    return true
  }

  async #route(request: IncomingMessage, path: string, query: URLSearchParams): Promise<unknown> {
    const file = /^\/userdata\/(.+)$/.exec(path)?.[1]
    if (file !== undefined) return this.#userFile(request, decodeURIComponent(file))
    const setting = /^\/settings\/(.+)$/.exec(path)?.[1]
    switch (`${request.method} ${setting === undefined ? path : '/settings/*'}`) {
      case 'GET /users':
        return { storage: 'server', migrated: true }
      case 'GET /settings':
        return this.#settings
      case 'POST /settings':
        this.#settings = { ...this.#settings, ...(await readJson(request, MOST_BYTES)) }
        return {}
      case 'GET /settings/*':
        return this.#settings[setting ?? ''] ?? null
      case 'POST /settings/*':
        this.#settings[setting ?? ''] = JSON.parse((await readBody(request, MOST_BYTES)).toString())
        return {}
      case 'GET /extensions':
        return Object.keys(this.#options.plugins ?? {}).map((name) => `/extensions/${name}/index.js`)
      case 'GET /userdata':
        return this.#userFiles(query.get('dir') ?? '')
      case 'GET /v2/userdata':
      case 'GET /embeddings':
      case 'GET /experiment/models':
      case 'GET /node_replacements':
        return []
      case 'GET /i18n':
      case 'GET /global_subgraphs':
      case 'GET /workflow_templates':
      case 'GET /node_replacements/all':
        return {}
      case 'GET /user.css':
      case 'GET /userdata/user.css':
        return ''
      default:
        return undefined
    }
  }

  #userFiles(folder: string): unknown {
    const root = this.#inside(folder)
    if (!existsSync(root)) return []
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => {
        const path = join(entry.parentPath, entry.name)
        const { size, mtimeMs } = statSync(path)
        return { path: relative(root, path), size, modified: mtimeMs }
      })
  }

  async #userFile(request: IncomingMessage, name: string): Promise<unknown> {
    const path = this.#inside(name)
    if (request.method === 'POST') {
      mkdirSync(dirname(path), { recursive: true })
      const body = await readBody(request, MOST_BYTES)
      writeFileSync(path, body)
      return { path: name, size: body.length, modified: statSync(path).mtimeMs }
    }
    if (!existsSync(path)) throw new HttpAnswer(404)
    return readFileSync(path, 'utf8')
  }

  #inside(name: string): string {
    const path = resolve(this.#userFolder, name)
    if (relative(this.#userFolder, path).startsWith('..')) throw new HttpAnswer(403)
    return path
  }
}
