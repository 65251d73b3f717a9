import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { encodeLine, type Link, StreamChannel } from '@cyberun/link'
import {
  type ArtifactAnswer,
  type ArtifactHeader,
  FILE_LINE_BYTES,
  type FileFacts,
  type InputAnswer,
  type InputRequest,
  LinkClosedError,
  parseArtifactAnswer,
  parseInputAnswer,
  StreamResetError,
} from '@cyberun/protocol'

/** What became of a try to move a file. `lost`: the link went, or the server dropped the stream; worth another try. */
export type Sent = ArtifactAnswer | { readonly type: 'lost' }
export type Fetched = InputAnswer | { readonly type: 'lost' } | { readonly type: 'damaged'; readonly message: string }

/** Length and hash of a file as it is now. Rejects when it is no plain file. */
export async function fileDigest(path: string, signal: AbortSignal): Promise<Pick<FileFacts, 'size' | 'sha256'>> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of createReadStream(path, { signal })) {
    const bytes = chunk as Buffer
    hash.update(bytes)
    size += bytes.length
  }
  return { size, sha256: hash.digest('hex') }
}

/** Sends a file on a stream of its own. Rejects with the signal's reason, or when the file cannot be read. */
export async function sendArtifact(
  link: Link,
  header: ArtifactHeader,
  path: string,
  signal: AbortSignal,
): Promise<Sent> {
  return onChannel(link, 'artifact', signal, async (channel) => {
    // The answer may come before the last byte: a refusal then saves the rest.
    const answer = channel.readLine(FILE_LINE_BYTES)
    const written = writeFileTo(channel, header, path, signal)
    const line = await Promise.race([answer, written.then(() => answer)])
    return line === undefined ? { type: 'lost' } : parseArtifactAnswer(line)
  })
}

async function writeFileTo(
  channel: StreamChannel,
  header: ArtifactHeader,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  await channel.write(encodeLine(header))
  if (header.size > 0) {
    for await (const chunk of createReadStream(path, { end: header.size - 1, signal })) {
      await channel.write(chunk as Buffer)
    }
  }
  channel.end()
}

/**
 * Fetches a file to `path`, which exists only once it is whole. Rejects
 * with the signal's reason, or when the file cannot be written.
 */
export async function fetchInput(
  link: Link,
  request: InputRequest,
  path: string,
  expected: Pick<FileFacts, 'size' | 'sha256'>,
  signal: AbortSignal,
): Promise<Fetched> {
  return onChannel(link, 'input', signal, async (channel) => {
    await channel.write(encodeLine(request))
    channel.end()
    const line = await channel.readLine(FILE_LINE_BYTES)
    if (line === undefined) return { type: 'lost' }
    const answer = parseInputAnswer(line)
    if (answer.type === 'refused') return answer
    const got = await writeTo(`${path}.part`, channel.read(expected.size))
    // Fewer bytes are what a link lost in the middle looks like to a server that ends politely.
    if (got.size < expected.size) return { type: 'lost' }
    if (got.sha256 !== expected.sha256) {
      return { type: 'damaged', message: 'the bytes of the input file are not those that were uploaded' }
    }
    await rename(`${path}.part`, path)
    return answer
  })
}

async function writeTo(path: string, bytes: AsyncIterable<Uint8Array>): Promise<Pick<FileFacts, 'size' | 'sha256'>> {
  const hash = createHash('sha256')
  let size = 0
  const file = await open(path, 'w', 0o600)
  try {
    for await (const chunk of bytes) {
      hash.update(chunk)
      size += chunk.length
      await file.writeFile(chunk)
    }
  } finally {
    await file.close()
  }
  return { size, sha256: hash.digest('hex') }
}

/** Opens a stream, and ends it whichever way `use` does. */
async function onChannel<T>(
  link: Link,
  kind: 'artifact' | 'input',
  signal: AbortSignal,
  use: (channel: StreamChannel) => Promise<T>,
): Promise<T | { readonly type: 'lost' }> {
  signal.throwIfAborted()
  let cut = (): void => {}
  try {
    const stream = link.open({ target: { kind }, priority: 'bulk' })
    // A refusal is read from the stream itself.
    stream.accepted.catch(() => {})
    const channel = new StreamChannel(stream)
    cut = () => channel.reset('cancelled')
    signal.addEventListener('abort', cut, { once: true })
    return await use(channel)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof StreamResetError || error instanceof LinkClosedError) return { type: 'lost' }
    throw error
  } finally {
    signal.removeEventListener('abort', cut)
    cut()
  }
}

/** So many at once; the others wait their turn. */
export class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Rejects with the signal's reason when that aborts before one's turn has come. */
  async take<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await this.#turn(signal)
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free += 1
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(begin), 1)
        reject(signal.reason)
      }
      this.#waiting.push(begin)
      signal.addEventListener('abort', leave, { once: true })
    })
  }
}
