import { open } from 'node:fs/promises'
import { type ComfyuiHttp, ComfyuiRefusal, ComfyuiSilence, type FileReference } from './http.ts'

/** Connections in a row that bring no byte before a download is given up. */
const MOST_FRUITLESS = 3

/** A file that the run announced and that is not there: an equal run's, from the cache, that was deleted meanwhile. */
export class OutputGone extends Error {
  override readonly name = 'OutputGone'
}

/**
 * Fetches a file of ComfyUI's to `path`, going on where a cut connection ended, and resolves with its size and content
 * type once it has as many bytes as were announced. `idleMs` bounds the time without a byte.
 */
export async function download(
  http: ComfyuiHttp,
  file: FileReference,
  path: string,
  idleMs: number,
  signal: AbortSignal,
): Promise<{ size: number; contentType: string }> {
  await using target = await open(path, 'w')
  let size = 0
  for (let fruitless = 0; fruitless < MOST_FRUITLESS; ) {
    const idle = new AbortController()
    const timer = setTimeout(() => idle.abort(), idleMs)
    const before = size
    try {
      const response = await http.view(file, size, AbortSignal.any([signal, idle.signal]))
      const announced = readHead(response, file, size)
      // A server that ignores ranges begins anew.
      if (response.status === 200) size = 0
      for await (const part of response.body ?? []) {
        await target.write(part, 0, part.length, size)
        size += part.length
        timer.refresh()
      }
      if (announced.total === undefined || size === announced.total) {
        await target.truncate(size)
        return { size, contentType: announced.contentType }
      }
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof OutputGone || error instanceof ComfyuiRefusal) throw error
    } finally {
      clearTimeout(timer)
    }
    fruitless = size > before ? 0 : fruitless + 1
  }
  throw new ComfyuiSilence(`ComfyUI does not deliver ${file.filename}: it ends after ${size} bytes`)
}

function readHead(
  response: Response,
  file: FileReference,
  start: number,
): { total: number | undefined; contentType: string } {
  const contentType = response.headers.get('content-type') ?? 'application/octet-stream'
  const length = response.headers.get('content-length')
  if (response.status === 200) return { total: length === null ? undefined : Number(length), contentType }
  const total = /^bytes \d+-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]
  if (response.status === 206 && total !== undefined) return { total: Number(total), contentType }
  void response.body?.cancel()
  if (response.status === 404) throw new OutputGone(`ComfyUI announced ${file.filename}, and does not have it`)
  throw new ComfyuiRefusal(`GET /view (${file.filename} from ${start})`, response.status, '')
}
