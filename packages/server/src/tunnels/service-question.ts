import type { LinkStream, StreamEvents } from '@cyberun/link'
import type { AgentPath } from '../routing/routing.ts'
import { localTarget } from './http/door.ts'
import { type Fields, formatHead } from './http/fields.ts'
import { type ResponseHead, ResponseParser, type ResponseSink } from './http/response-parser.ts'

/** What a service said to one small question of ours. */
export interface ServiceAnswer {
  status: number
  fields: Fields
  /** The first `ANSWER_BYTES` of the body, one character a byte. */
  text: string
}

/** How much of a body is looked at; the rest is not waited for. */
const ANSWER_BYTES = 128 * 1024

/**
 * Asks a service on the agent's loopback for one path, on a connection of its own. Redirects are not followed. Answers
 * with what came until the body ended, was long enough, or `signal` aborted; undefined when that is not even the head
 * of an HTTP answer. Never throws.
 */
export async function askService(
  path: AgentPath,
  port: number,
  target: string,
  signal: AbortSignal,
): Promise<ServiceAnswer | undefined> {
  const listener = new AnswerCollector()
  let stream: LinkStream | undefined
  const giveUp = (): void => listener.finish()
  signal.addEventListener('abort', giveUp, { once: true })
  try {
    signal.throwIfAborted()
    stream = await path.open({ target: { kind: 'tcp', port }, priority: 'interactive' }, listener, signal)
    stream.accepted.catch(giveUp)
    stream.write(questionFor(port, target))
    return await listener.answer
  } catch {
    // No path to the agent just now, or no stream: nothing was learnt.
    return undefined
  } finally {
    signal.removeEventListener('abort', giveUp)
    stream?.reset('cancelled')
  }
}

function questionFor(port: number, target: string): Buffer {
  return formatHead(`GET ${target} HTTP/1.1`, [
    ...['Host', localTarget(port).host, 'Accept', 'text/html, application/json;q=0.9, */*;q=0.8'],
    ...['User-Agent', 'Cyberun', 'Connection', 'close'],
  ])
}

/** Gathers the beginning of one answer; `answer` resolves once. */
class AnswerCollector implements StreamEvents, ResponseSink {
  readonly answer: Promise<ServiceAnswer | undefined>
  readonly #parser = new ResponseParser()
  readonly #resolve: (answer: ServiceAnswer | undefined) => void
  #head: ResponseHead | undefined
  #text = ''

  constructor() {
    const { promise, resolve } = Promise.withResolvers<ServiceAnswer | undefined>()
    this.answer = promise
    this.#resolve = resolve
    this.#parser.expect({ toHead: false, toUpgrade: false }, this)
  }

  finish(): void {
    const head = this.#head
    this.#resolve(head && { status: head.status, fields: head.fields, text: this.#text })
  }

  onData({ bytes }: { bytes: Uint8Array }): void {
    try {
      this.#parser.push(bytes)
    } catch {
      // Not HTTP, or not to be trusted as such.
      this.finish()
    }
  }

  onEnd(): void {
    this.finish()
  }

  onReset(): void {
    this.finish()
  }

  onDrain(): void {}

  onClose(): void {
    this.finish()
  }

  onInterim(): void {}

  onHead(head: ResponseHead): void {
    this.#head = head
  }

  onBody(bytes: Uint8Array): void {
    this.#text += Buffer.from(bytes).toString('latin1', 0, ANSWER_BYTES - this.#text.length)
    if (this.#text.length >= ANSWER_BYTES) this.finish()
  }

  onComplete(): void {
    this.finish()
  }
}
