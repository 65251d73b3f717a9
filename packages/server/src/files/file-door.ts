import type { IncomingMessage, ServerResponse } from 'node:http'
import { ApiError } from '@cyberun/api'
import { answerError, answerPreflight, beginDoorResponse, DoorError, hasLeft, toDoorError } from './answers.ts'
import { FILES_PATH, type FileContext, readFilePath } from './context.ts'
import { sendArtifact } from './download.ts'
import type { SignedMethod } from './signed-urls.ts'
import { Uploads } from './upload.ts'

/** A client that moves no byte for so long is cut off. */
export const IDLE_MS = 60_000

/**
 * Answers requests below `/files/`: `PUT` of an input, `GET` and `HEAD` of an artifact, each with a signed URL and with
 * nothing else. The signature is looked at before anything in the store is.
 */
export class FileDoor {
  readonly #context: FileContext
  readonly #uploads: Uploads
  /** Requests under way, to wait for or to cut. */
  readonly #underWay = new Map<ServerResponse, Promise<void>>()

  constructor(context: FileContext) {
    this.#context = context
    this.#uploads = new Uploads(context)
  }

  /** False when the request is not for this door. Owns both when it returns true; never throws. */
  handleRequest(request: IncomingMessage, response: ServerResponse): boolean {
    if (!request.url?.startsWith(FILES_PATH)) return false
    const served = this.#serve(request, response).finally(() => this.#underWay.delete(response))
    this.#underWay.set(response, served)
    return true
  }

  /** Waits for what is under way until `signal` aborts, then cuts it. */
  async stop(signal: AbortSignal): Promise<void> {
    const cut = () => {
      for (const response of this.#underWay.keys()) response.destroy()
    }
    if (signal.aborted) cut()
    else signal.addEventListener('abort', cut, { once: true })
    await Promise.all(this.#underWay.values())
    signal.removeEventListener('abort', cut)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    beginDoorResponse(response)
    request.setTimeout(IDLE_MS, () => request.socket.destroy())
    try {
      await this.#route(request, response)
    } catch (error) {
      const shown = toDoorError(error)
      if (hasLeft(error)) this.#context.log.debug({ method: request.method }, 'files.client_left')
      else if (shown.code === 'internal') this.#context.log.error({ error: shown.cause }, 'files.request_failed')
      answerError(request, response, shown, this.#context.limits.maxInputBytes)
    } finally {
      request.setTimeout(0)
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', query = ''] = (request.url ?? '').split('?', 2)
    const target = readFilePath(path)
    if (!target) throw new ApiError('not_found', 'There is no such file address.')
    const [method, allowed] =
      target.kind === 'input' ? (['PUT', 'PUT, HEAD'] as const) : (['GET', 'GET, HEAD'] as const)
    if (request.method === 'OPTIONS') {
      answerPreflight(response)
      return
    }
    this.#checkRight(request.method === 'HEAD' ? method : request.method, path, new URLSearchParams(query))
    if (request.method !== method && request.method !== 'HEAD') {
      throw new DoorError('method_not_allowed', `${request.method} is not for this address; it takes ${allowed}.`, {
        allow: allowed,
      })
    }
    if (target.kind === 'artifact') await sendArtifact(this.#context, target.id, request, response)
    else if (request.method === 'HEAD') await this.#uploads.answerProbe(target.id, response)
    else await this.#uploads.receive(target.id, request, response)
  }

  #checkRight(method: string | undefined, path: string, query: URLSearchParams): void {
    const { signer } = this.#context
    const check = method === 'GET' || method === 'PUT' ? signer.check(method, path, query) : 'invalid'
    if (check === 'valid') return
    if (check === 'expired') {
      throw new ApiError('forbidden', 'This URL has expired. Ask the API for a new one.')
    }
    const right = (['GET', 'PUT'] satisfies SignedMethod[]).find(
      (other) => signer.check(other, path, query) === 'valid',
    )
    throw new ApiError(
      'forbidden',
      right
        ? `This URL is signed for ${right} and for nothing else.`
        : 'The signature does not fit this address. Use the URL from the API as it is.',
    )
  }
}
