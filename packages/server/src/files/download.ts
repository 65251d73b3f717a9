import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from '@cyberun/api'
import { type Artifact, findArtifact } from '../store/files.ts'
import { ClientLeftError, DoorError } from './answers.ts'
import { attachmentOf } from './content-disposition.ts'
import type { FileContext } from './context.ts'
import { type RangeAnswer, readRange } from './range.ts'

/** Answers GET or HEAD of an artifact: 200, 206, 304, 404, 412 or 416 (RFC 9110, sections 13 and 14). */
export async function sendArtifact(
  { store, objects }: FileContext,
  artifactId: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const artifact = await findArtifact(store, artifactId)
  if (!artifact) throw gone()
  const etag = `"${artifact.sha256}"`
  const { headers, method } = request
  if (headers['if-match'] !== undefined && !matches(headers['if-match'], etag)) {
    throw new ApiError('precondition_failed', 'The file has other bytes than If-Match names.')
  }
  response.setHeader('etag', etag)
  response.setHeader('accept-ranges', 'bytes')
  if (headers['if-none-match'] !== undefined && matches(headers['if-none-match'], etag)) {
    response.writeHead(304).end()
    return
  }
  const wanted = wantedRange(request, artifact, etag)
  if (wanted.kind === 'unsatisfiable') {
    throw new DoorError('range_not_satisfiable', `The file has ${artifact.size} bytes.`, {
      'content-range': `bytes */${artifact.size}`,
    })
  }
  const range = wanted.kind === 'part' ? wanted.range : undefined
  const length = range ? range.end - range.start + 1 : artifact.size
  const hasBody = method === 'GET' && length > 0
  const bytes = hasBody ? await objects.read(artifact.objectKey, range) : undefined
  if (hasBody && !bytes) throw gone()
  response.writeHead(range ? 206 : 200, {
    'content-type': artifact.contentType,
    'content-disposition': attachmentOf(artifact.fileName),
    'content-length': length,
    'last-modified': new Date(artifact.createdAt).toUTCString(),
    ...(range && { 'content-range': `bytes ${range.start}-${range.end}/${artifact.size}` }),
  })
  for await (const piece of bytes ?? []) await sendPiece(response, piece)
  response.end()
}

/** Resolves when the kernel has the piece, whose buffer is then used again. Rejects when the client has left. */
function sendPiece(response: ServerResponse, piece: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onClose = () => reject(new ClientLeftError('the client has left'))
  if (response.destroyed) onClose()
  else {
    response.once('close', onClose)
    response.write(piece, (error) => {
      response.off('close', onClose)
      if (error) onClose()
      else resolve()
    })
  }
  return promise
}

/** Range means GET only, and only for the bytes that If-Range names. */
function wantedRange({ method, headers }: IncomingMessage, { size }: Artifact, etag: string): RangeAnswer {
  const isOther = headers['if-range'] !== undefined && headers['if-range'] !== etag
  return method === 'GET' && !isOther ? readRange(headers.range, size) : { kind: 'whole' }
}

function matches(field: string, etag: string): boolean {
  return field.split(',').some((item) => item.trim() === '*' || item.trim().replace(/^W\//, '') === etag)
}

function gone(): ApiError {
  return new ApiError('not_found', 'There is no such file, or it is past its retention.')
}
