import { ApiError } from '@cyberun/api'
import type { LinkStream } from '@cyberun/link'
import type { Log } from '@cyberun/link/log'
import { safeFileName } from '@cyberun/protocol'
import type { Bus } from '../bus.ts'
import { createInput } from '../store/files.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import type { Store } from '../store/store.ts'
import { receiveArtifact } from './artifact-stream.ts'
import { artifactPath, type FileContext, type FileLimits, inputPath } from './context.ts'
import type { Reach } from './fail-points.ts'
import { FileDoor } from './file-door.ts'
import { sendInput } from './input-stream.ts'
import type { ObjectStore } from './object-store.ts'
import { UrlSigner } from './signed-urls.ts'
import { startFileSweep } from './sweep.ts'
import type { Files } from './types.ts'

export interface FilesOptions {
  store: Store
  objects: ObjectStore
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  newId(): string
  secret: ServerSecret
  limits: FileLimits
  /** Where callers reach the file door, without a slash at the end. */
  baseUrl(): string
  /** Set by the suite that kills processes. */
  reach?: Reach
}

/** Time to begin an upload or a download; one that has begun may take longer. */
export const UPLOAD_URL_MS = 60 * 60_000
export const DOWNLOAD_URL_MS = 60 * 60_000

/** Starts the part that moves and keeps files. */
export function createFiles(options: FilesOptions): Files {
  const { store, limits, now, baseUrl, secret, reach = () => {} } = options
  const context: FileContext = { ...options, reach, signer: new UrlSigner(secret.deriveKey('file-url'), now) }
  const { signer } = context
  const door = new FileDoor(context)
  const streams = new OpenStreams()
  const stopSweep = startFileSweep(context)

  return {
    async presignInput(teamId, userId, { fileName, fileSize, contentType }) {
      if (fileSize > limits.maxInputBytes) {
        throw new ApiError('payload_too_large', `A file may have ${limits.maxInputBytes} bytes at most.`)
      }
      const fileKey = context.newId()
      const createdAt = now()
      const { target, expiresAt } = signer.sign('PUT', inputPath(fileKey), UPLOAD_URL_MS)
      await createInput(store, {
        ...{ fileKey, teamId, userId, contentType, createdAt, expiresAt },
        ...{ fileName: safeFileName(fileName), size: fileSize },
      })
      reach('input.presigned')
      return {
        fileKey,
        uploadUrl: baseUrl() + target,
        uploadHeaders: { 'Content-Type': contentType, 'If-None-Match': '*' },
      }
    },
    downloadUrl(artifactId) {
      const { target, expiresAt } = signer.sign('GET', artifactPath(artifactId), DOWNLOAD_URL_MS)
      return { url: baseUrl() + target, expiresAt }
    },
    handleRequest: (request, response) => door.handleRequest(request, response),
    serveArtifactStream: (stream, agent) => streams.hold(stream, receiveArtifact(context, stream, agent)),
    serveInputStream: (stream, agent) => streams.hold(stream, sendInput(context, stream, agent)),
    async stop(signal) {
      await stopSweep()
      await Promise.all([door.stop(signal), streams.stop(signal)])
    },
  }
}

/** The streams under way, to wait for or to cut. */
class OpenStreams {
  readonly #served = new Map<LinkStream, Promise<void>>()

  hold(stream: LinkStream, served: Promise<void>): void {
    this.#served.set(
      stream,
      served.finally(() => this.#served.delete(stream)),
    )
  }

  async stop(signal: AbortSignal): Promise<void> {
    const cut = () => {
      for (const stream of this.#served.keys()) stream.reset('cancelled')
    }
    if (signal.aborted) cut()
    else signal.addEventListener('abort', cut, { once: true })
    await Promise.all(this.#served.values())
    signal.removeEventListener('abort', cut)
  }
}
