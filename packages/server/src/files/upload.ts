import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from '@cyberun/api'
import { commitInput, findInput, type InputFile } from '../store/files.ts'
import { DoorError } from './answers.ts'
import type { FileContext } from './context.ts'
import { readUploadStart } from './range.ts'
import { Turns } from './turns.ts'

/**
 * Receives inputs: one PUT with the whole file, or, after it was cut short, another with `Content-Range` that goes on
 * where `HEAD` of the same URL says (`Upload-Offset`). The file is there when its row says so and never partly.
 */
export class Uploads {
  readonly #context: FileContext
  /** A client that tries again has given up on its former try, which may not know yet: the newer one goes first. */
  readonly #turns = new Turns()

  constructor(context: FileContext) {
    this.#context = context
  }

  /** How much of the file is here: what an interrupted upload goes on from. */
  async answerProbe(fileKey: string, response: ServerResponse): Promise<void> {
    const input = await this.#find(fileKey)
    const isStored = input.uploadedAt !== null
    const offset = isStored ? input.size : await this.#offsetOf(input)
    response.writeHead(200, { 'upload-offset': offset, ...(isStored && etagOf(input)) }).end()
  }

  async receive(fileKey: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { reach } = this.#context
    const input = await this.#find(fileKey)
    const start = checkedStart(request, input)
    refuseSecond(input)
    const cut = () => request.destroy(new ApiError('conflict', 'A newer upload of this file took over.'))
    await this.#turns.take(fileKey, cut, async () => {
      // Whoever had the turn before may have finished meanwhile.
      refuseSecond(await this.#find(fileKey))
      await this.#checkOffset(input, start)
      reach('input.admitted')
      if (request.headers.expect !== undefined) response.writeContinue()
      const sha256 = await this.#store(input, start, request)
      response.writeHead(200, { etag: `"${sha256}"`, 'content-length': 0 }).end()
      reach('input.answered')
    })
  }

  async #store(input: InputFile, start: number, request: IncomingMessage): Promise<string> {
    const { store, objects, limits, log, now, newId, reach } = this.#context
    const { fileKey, size } = input
    const objectKey = `in-${newId()}`
    // A write that fails must leave the connection, on which the client is told why.
    const body: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false })
    const staged = await objects.write(objectKey, body, { maxBytes: size, resume: { name: fileKey, from: start } })
    if (staged.size !== size) {
      // Node ends a body short of its Content-Length with an error, so the bytes kept before were not what they were.
      await staged.discard()
      throw new ApiError('conflict', `${staged.size} of ${size} bytes are here. Send the whole file again.`)
    }
    await staged.commit()
    reach('input.object_committed')
    const uploadedAt = now()
    const expiresAt = uploadedAt + limits.inputRetentionMs
    const outcome = await commitInput(store, fileKey, { objectKey, sha256: staged.sha256, uploadedAt, expiresAt })
    if (outcome !== 'committed') {
      await objects.delete(objectKey)
      throw outcome === 'exists' ? alreadyUploaded() : gone()
    }
    reach('input.row_committed')
    log.info({ team_id: input.teamId, file_key: fileKey, bytes: size }, 'files.input_stored')
    return staged.sha256
  }

  /** The last byte of a file that is not stored is always sent again: there must be a PUT that stores it. */
  async #offsetOf({ fileKey, size }: InputFile): Promise<number> {
    const kept = await this.#context.objects.resumableBytes(fileKey)
    return Math.max(0, Math.min(kept, size - 1))
  }

  async #checkOffset(input: InputFile, start: number): Promise<void> {
    if (start === 0) return
    const offset = await this.#offsetOf(input)
    if (start === offset) return
    throw new DoorError('conflict', `The upload goes on at byte ${offset}, not at ${start}.`, {
      'upload-offset': String(offset),
    })
  }

  async #find(fileKey: string): Promise<InputFile> {
    const input = await findInput(this.#context.store, fileKey)
    if (!input) throw gone()
    return input
  }
}

/** Checks what the PUT says of itself and returns where it starts. */
function checkedStart({ headers }: IncomingMessage, input: InputFile): number {
  const length = headers['content-length']
  if (length === undefined) {
    throw new ApiError('length_required', `Send Content-Length: ${input.size}; chunked uploads are not taken.`)
  }
  if (headers['if-none-match'] !== '*') throw badHeader('If-None-Match', '*')
  if (headers['content-type'] !== input.contentType) throw badHeader('Content-Type', input.contentType)
  const contentRange = headers['content-range']
  const start = contentRange === undefined ? 0 : readUploadStart(contentRange, input.size)
  if (start === undefined) throw badHeader('Content-Range', `bytes <offset>-${input.size - 1}/${input.size}`)
  const expected = input.size - start
  if (Number(length) === expected) return start
  throw new ApiError(
    Number(length) > expected ? 'payload_too_large' : 'invalid_request',
    `Content-Length is ${length}, and the file was announced with ${expected} bytes to come.`,
  )
}

function badHeader(name: string, value: string): ApiError {
  return new ApiError('invalid_request', `The upload must send ${name}: ${value}, as upload_headers says.`)
}

function refuseSecond(input: InputFile): void {
  if (input.uploadedAt !== null) throw alreadyUploaded()
}

function alreadyUploaded(): ApiError {
  return new ApiError('precondition_failed', 'This file is uploaded already. Presign another to send other bytes.')
}

function gone(): ApiError {
  return new ApiError('not_found', 'There is no such file, or its time is over. Presign it again.')
}

function etagOf(input: InputFile): { etag: string } {
  return { etag: `"${input.sha256}"` }
}
