import { ApiError } from '@cyberun/api'
import type { Routing } from '../../routing/routing.ts'
import type { Upstream, UpstreamLoss, UpstreamUser } from '../edge/upstream.ts'
import { UpstreamPool } from '../edge/upstream-pool.ts'
import { type Fields, firstOf, formatHead } from '../http/fields.ts'
import { lossRefusal } from '../http/losses.ts'
import { Refusal } from '../http/refusal.ts'
import type { ResponseHead } from '../http/response-parser.ts'
import type { OpenTunnel } from '../open-tunnel.ts'
import type { InspectedRequest, Inspector } from './inspector.ts'

/** How much of an answer is awaited before the status alone is told; a stream of events has no end. */
export const REPLAY_LIMITS = { ms: 20_000, bytes: 64 * 1024 * 1024 } as const

/**
 * Sends a request of `inspector` once more to the tunnel's service, byte for byte as it got it, and waits for its
 * answer. Returns the new entry, which holds whatever happened. Throws `ApiError`: `conflict` when not all of the
 * request was kept, and the reason of `signal`.
 */
export async function replay(
  entry: InspectedRequest,
  inspector: Inspector,
  tunnel: OpenTunnel,
  routing: Routing,
  signal: AbortSignal,
): Promise<InspectedRequest> {
  const fields = entry.requestFields
  if (!fields || !entry.isRequestWhole) {
    const message = `Not all of request ${entry.number} was kept: turn the inspector on with bodies, which are kept up to 64 KiB each.`
    throw new ApiError('conflict', message)
  }
  if (firstOf(fields, 'upgrade') !== undefined) {
    throw new ApiError('conflict', `Request ${entry.number} opened a WebSocket; that cannot be sent again.`)
  }
  // Now: the entry may leave the ring, and its body with it, as the new one comes or while a connection is opened.
  const body = entry.requestBody.kept?.bytes
  const { method, path } = entry.request
  const again = inspector.begin({ method, path, address: null, replayOf: entry.number })
  const patience = AbortSignal.any([signal, tunnel.closed, AbortSignal.timeout(REPLAY_LIMITS.ms)])
  const opened = await new UpstreamPool(tunnel, routing).open(patience)
  if (opened instanceof Refusal) {
    again.ended(opened)
  } else {
    const user = new ReplayUser(again, opened)
    opened.begin(user, { toHead: method === 'HEAD', toUpgrade: false })
    again.asked(fields, false, opened.reached)
    opened.write(requestBytes(method, path, fields, body))
    if (body) again.requestBytes(body)
    await user.ended(patience)
  }
  signal.throwIfAborted()
  return again
}

/** The head as the service got it and its body in one piece. */
function requestBytes(method: string, path: string, all: Fields, body: Buffer = Buffer.alloc(0)): Buffer {
  // Nobody waits for a 100 here.
  const fields = all.filter((_, i) => all[i - (i % 2)]?.toLowerCase() !== 'expect')
  const head = formatHead(`${method} ${path} HTTP/1.1`, fields)
  if (firstOf(fields, 'transfer-encoding') === undefined) return Buffer.concat([head, body])
  const size = body.length === 0 ? '' : `${body.length.toString(16)}\r\n`
  return Buffer.concat([head, Buffer.from(size), body, Buffer.from(body.length === 0 ? '0\r\n\r\n' : '\r\n0\r\n\r\n')])
}

/** Reads the answer for nobody but its entry. */
class ReplayUser implements UpstreamUser {
  readonly #entry: InspectedRequest
  readonly #upstream: Upstream
  readonly #over = Promise.withResolvers<void>()

  constructor(entry: InspectedRequest, upstream: Upstream) {
    this.#entry = entry
    this.#upstream = upstream
  }

  /** Resolves with the end of the answer, or when `patience` is at its end. */
  async ended(patience: AbortSignal): Promise<void> {
    const giveUp = (): void => this.#fail('target_timeout')
    patience.addEventListener('abort', giveUp, { once: true })
    if (patience.aborted) giveUp()
    await this.#over.promise
    patience.removeEventListener('abort', giveUp)
  }

  onInterim(): void {}

  onHead(head: ResponseHead): void {
    this.#entry.answered(head.status, head.fields)
  }

  onBody(bytes: Uint8Array): void {
    this.#entry.responseBytes(bytes, false)
    if (this.#entry.responseBody.bytes > REPLAY_LIMITS.bytes) this.#fail('unavailable')
  }

  onComplete(): void {
    this.#entry.ended()
  }

  onPushed(): void {
    if (!this.#entry.isOver) return
    // The answer is whole. A service that keeps its side open would keep the stream, for which nobody else looks.
    this.#upstream.abort()
    this.#over.resolve()
  }

  onDrain(): void {}

  onSwitched(): void {
    this.#fail('bad_response')
  }

  onLost(loss: UpstreamLoss): void {
    this.#fail(loss.kind === 'reset' ? lossRefusal(loss.code).code : 'bad_response')
  }

  onBug(): void {
    this.#fail('internal')
  }

  #fail(code: Refusal['code']): void {
    this.#upstream.abort()
    this.#entry.ended({ code })
    this.#over.resolve()
  }
}
