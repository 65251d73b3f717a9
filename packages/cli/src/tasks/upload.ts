import { createReadStream } from 'node:fs'
import { type ClientRequest, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { basename } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { PresignedUpload } from '@cyberun/api'
import { type Client, ClientError } from '@cyberun/api/client'
import { CliError } from '../errors.ts'
import { contentTypeOf } from './content-type.ts'
import type { LocalFile } from './local-file.ts'
import type { UploadMemory } from './upload-memory.ts'

/** Tries without a byte of progress between them before an upload is given up. */
const MOST_FAILURES = 6
const FIRST_PAUSE_MS = 500
const IDLE_MS = 60_000

/**
 * Uploads a file and returns the key that a parameter names it by. A cut upload goes on where the server says it was,
 * also when another command began it. `onProgress` hears how many bytes are there.
 */
export async function uploadFile(
  client: Client,
  memory: UploadMemory,
  file: LocalFile,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<string> {
  const begun = await takeUp(memory, file, signal)
  const upload = begun?.upload ?? (await presign(client, file, signal))
  let offset = begun?.offset ?? 0
  await memory.remember(file, upload)
  for (let failures = 0; offset < file.size || file.size === 0; ) {
    try {
      await putFrom(upload, file, offset, onProgress, signal)
      break
    } catch (error) {
      signal.throwIfAborted()
      const isFinal = error instanceof UploadRefused || error instanceof UnreadFile
      if (isFinal || ++failures >= MOST_FAILURES) throw uploadError(file, error)
      await delay(FIRST_PAUSE_MS * 2 ** (failures - 1), undefined, { signal })
      // When all of it is there, its answer was lost and not the file.
      const reached = (await probe(upload, signal).catch(() => undefined)) ?? offset
      if (reached > offset) failures = 0
      offset = reached
      onProgress(offset)
    }
  }
  await memory.forget(file)
  return upload.file_key
}

function presign(client: Client, file: LocalFile, signal: AbortSignal): Promise<PresignedUpload> {
  const body = { file_name: basename(file.path), file_size: file.size, content_type: contentTypeOf(file.path) }
  return client.call('POST /r/files/presign', { body }, signal)
}

/** What was begun earlier, when the server still has a part of it and none is done: a finished one is somebody's. */
async function takeUp(
  memory: UploadMemory,
  file: LocalFile,
  signal: AbortSignal,
): Promise<{ upload: PresignedUpload; offset: number } | undefined> {
  const upload = await memory.recall(file)
  const offset = upload && (await probe(upload, signal).catch(() => undefined))
  return upload && offset !== undefined && offset < file.size ? { upload, offset } : undefined
}

/** The server has the connection and says no: trying again would say the same. */
class UploadRefused extends Error {}

/** The file cannot be read as it was when it was looked at. */
class UnreadFile extends Error {}

async function putFrom(
  upload: PresignedUpload,
  file: LocalFile,
  offset: number,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const range = `bytes ${offset}-${file.size - 1}/${file.size}`
  const request = send(upload.upload_url, {
    method: 'PUT',
    headers: {
      ...upload.upload_headers,
      'content-length': file.size - offset,
      ...(offset > 0 && { 'content-range': range }),
    },
    signal,
  })
  const answered = answerOf(request)
  const [answer, written] = await Promise.allSettled([answered, pipeline(bytesOf(file, offset, onProgress), request)])
  if (written.status === 'rejected' && written.reason instanceof UnreadFile) throw written.reason
  // Any other error of the writing comes from the connection, or an early answer: what was answered says more.
  if (answer.status === 'rejected') throw answer.reason
  const { status, text } = answer.value
  if (status === 200) return
  throw status < 500 && status !== 409 ? new UploadRefused(text) : new Error(text)
}

/** The file's bytes from `offset` on, to the end that it had when it was looked at. Throws `UnreadFile`. */
async function* bytesOf(file: LocalFile, offset: number, onProgress: (bytes: number) => void): AsyncGenerator<Buffer> {
  let sent = offset
  if (file.size > 0) {
    const read = createReadStream(file.path, { start: offset, end: file.size - 1 })
    try {
      for await (const piece of read as AsyncIterable<Buffer>) {
        yield piece
        sent += piece.length
        onProgress(sent)
      }
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      throw new UnreadFile(`it cannot be read: ${code ?? message}`, { cause })
    }
  }
  if (sent < file.size) throw new UnreadFile(`it became shorter: ${sent} bytes of ${file.size} were there`)
}

/** How many bytes of the file the server has; undefined when it does not take this upload any more. */
async function probe(upload: PresignedUpload, signal: AbortSignal): Promise<number | undefined> {
  const request = send(upload.upload_url, { method: 'HEAD', signal })
  const answered = answerOf(request)
  request.end()
  const { status, headers } = await answered
  const offset = Number(headers['upload-offset'])
  return status === 200 && Number.isSafeInteger(offset) ? offset : undefined
}

function send(url: string, options: RequestOptions): ClientRequest {
  const request = url.startsWith('https:') ? httpsRequest(url, options) : httpRequest(url, options)
  request.setTimeout(IDLE_MS, () => request.destroy(new Error('no answer')))
  return request
}

interface Answer {
  status: number
  headers: IncomingMessage['headers']
  /** What the server says is wrong. */
  text: string
}

function answerOf(request: ClientRequest): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (response) => {
      readText(response).then((body) => {
        const { statusCode: status = 0, headers } = response
        resolve({ status, headers, text: messageOf(body) ?? `the upload was answered with ${status}` })
      }, reject)
    })
  })
}

async function readText(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of response.setEncoding('utf8')) if (text.length < 10_000) text += String(piece)
  return text
}

function messageOf(body: string): string | undefined {
  try {
    const { error_message } = JSON.parse(body) as { error_message?: unknown }
    return typeof error_message === 'string' ? error_message : undefined
  } catch {
    return undefined // Not our answer: a proxy's page.
  }
}

function uploadError(file: LocalFile, cause: unknown): Error {
  if (cause instanceof ClientError) return cause
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new CliError('failed', 'upload_failed', `${file.path} could not be uploaded: ${reason}`, { cause })
}
