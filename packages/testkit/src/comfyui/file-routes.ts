import { createReadStream, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { basename, extname, join, relative, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HttpAnswer, readBody } from './answers.ts'
import type { ComfyuiFaults, ComfyuiGeneration } from './faults.ts'
import type { Folders } from './folders.ts'

const TYPES: Readonly<Record<string, string>> = { '.png': 'image/png', '.mp4': 'video/mp4', '.flac': 'audio/x-flac' }
const PIECE_BYTES = 64 * 1024

/** `POST /upload/image`: takes any bytes. */
export async function upload(request: IncomingMessage, folders: Folders, maxBytes: number): Promise<unknown> {
  const body = await readBody(request, maxBytes)
  const headers = { 'content-type': request.headers['content-type'] ?? '' }
  const form = await new Response(new Uint8Array(body), { headers }).formData()
  const file = form.get('image')
  if (!(file instanceof File) || file.name === '') throw new HttpAnswer(400)
  const type = String(form.get('type') ?? 'input')
  const subfolder = String(form.get('subfolder') ?? '')
  const root = folders.byType(type)
  if (root === undefined) throw new HttpAnswer(400)
  const folder = resolve(root, subfolder)
  if (relative(root, resolve(folder, file.name)).startsWith('..')) throw new HttpAnswer(400)
  const bytes = Buffer.from(await file.arrayBuffer())
  const overwrites = ['true', '1'].includes(String(form.get('overwrite') ?? ''))
  const name = overwrites ? file.name : freeName(folder, file.name, bytes)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), bytes)
  return { name, subfolder, type }
}

/** The same name for the same bytes, else the next that is free. */
function freeName(folder: string, name: string, bytes: Buffer): string {
  const [stem, extension] = [name.slice(0, name.length - extname(name).length), extname(name)]
  for (let i = 0; ; i++) {
    const candidate = i === 0 ? name : `${stem} (${i})${extension}`
    const path = join(folder, candidate)
    if (!existsSync(path) || readFileSync(path).equals(bytes)) return candidate
  }
}

/** `GET /view`, with one range. */
export async function view(
  request: IncomingMessage,
  response: ServerResponse,
  query: URLSearchParams,
  folders: Folders,
  faults: ComfyuiFaults,
  generation: ComfyuiGeneration,
): Promise<void> {
  const filename = query.get('filename') ?? ''
  const root = folders.byType(query.get('type') ?? 'output')
  if (filename === '' || filename.startsWith('/') || filename.includes('..') || root === undefined)
    throw new HttpAnswer(400)
  const folder = resolve(root, query.get('subfolder') ?? '')
  if (relative(root, folder).startsWith('..')) throw new HttpAnswer(403)
  const path = join(folder, basename(filename))
  if (faults.losesFiles > 0) {
    faults.losesFiles--
    rmSync(path, { force: true })
  }
  if (!existsSync(path) || !statSync(path).isFile()) throw new HttpAnswer(404)
  const { size } = statSync(path)
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const start = Number(range?.[1] ?? 0)
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1
  if (range !== null && start >= size) {
    response.writeHead(416, { 'Content-Range': `bytes */${size}` }).end()
    return
  }
  response.writeHead(range === null ? 200 : 206, {
    'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
    'Content-Disposition': `filename="${basename(path)}"`,
    'Content-Length': Math.max(0, end - start + 1),
    'Accept-Ranges': 'bytes',
    ...(range !== null && { 'Content-Range': `bytes ${start}-${end}/${size}` }),
    ...(generation === 'modern' && { 'X-Content-Type-Options': 'nosniff' }),
  })
  if (size === 0 || request.method === 'HEAD') {
    response.end()
    return
  }
  await pour(response, path, start, end, faults)
}

async function pour(
  response: ServerResponse,
  path: string,
  start: number,
  end: number,
  faults: ComfyuiFaults,
): Promise<void> {
  const cutAt = faults.viewCuts > 0 ? faults.viewCutBytes : Number.POSITIVE_INFINITY
  if (faults.viewCuts > 0) faults.viewCuts--
  let sent = 0
  for await (const piece of createReadStream(path, { start, end, highWaterMark: PIECE_BYTES })) {
    if (response.destroyed) return
    if (sent + (piece as Buffer).length > cutAt) {
      response.write((piece as Buffer).subarray(0, cutAt - sent), () => response.destroy())
      return
    }
    sent += (piece as Buffer).length
    if (!response.write(piece)) await drained(response)
    const isLast = start + sent > end
    if (faults.viewPauseMs > 0 && !isLast) await delay(faults.viewPauseMs)
  }
  response.end()
}

/** Also resolves when the connection ends. */
async function drained(response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}
