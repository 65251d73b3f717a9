import type { SocketReader } from '../socket-reader.ts'

/** A field as it stood on the wire: raw case, optional white space around the value taken off, Latin-1. */
export type Field = readonly [name: string, value: string]

export interface RequestHead {
  method: string
  target: string
  version: string
  fields: Field[]
}

export interface ResponseHead {
  version: string
  status: number
  reason: string
  fields: Field[]
}

/** How the end of a body is known (RFC 9112, section 6.3). */
export type Framing = 'none' | 'length' | 'chunked' | 'close'

export interface Body {
  framing: Framing
  bytes: Buffer
  trailers: Field[]
  /** False when the connection ended before the body did. */
  complete: boolean
}

export interface Answer {
  interim: ResponseHead[]
  head: ResponseHead
  body: Body
}

/** The other end wrote something that is not HTTP/1.1 by the letter. */
export class MalformedMessage extends Error {}

/** The other end stopped in the middle of a head. */
export class CutMessage extends MalformedMessage {}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const REQUEST_LINE = /^([A-Z-]+) (\S+) (HTTP\/1\.[01])$/
const STATUS_LINE = /^(HTTP\/1\.[01]) (\d{3}) (.*)$/
const CHUNK_LINE = /^([0-9A-Fa-f]+)(?:[ \t]*;.*)?$/

/** The values of a field, in order, whatever case its name was written in. */
export function valuesOf(fields: readonly Field[], name: string): string[] {
  return fields.filter(([given]) => given.toLowerCase() === name.toLowerCase()).map(([, value]) => value)
}

/** The next request head on a connection; undefined when it ended between two requests. */
export async function readRequestHead(reader: SocketReader): Promise<RequestHead | undefined> {
  const line = await reader.readLine()
  if (line === undefined) return undefined
  const [, method, target, version] = REQUEST_LINE.exec(line) ?? []
  if (!method || !target || !version) throw new MalformedMessage(`request line ${JSON.stringify(line)}`)
  return { method, target, version, fields: await readFields(reader) }
}

/** The body that `head` announces. */
export async function readRequestBody(reader: SocketReader, head: RequestHead): Promise<Body> {
  const framing = framingOf(head.fields)
  return readBody(reader, head.fields, framing === 'close' ? 'none' : framing)
}

/** One response head, interim or final. Throws `CutMessage` when the connection ends before it. */
export async function readResponseHead(reader: SocketReader): Promise<ResponseHead> {
  const line = await reader.readLine()
  if (line === undefined) throw new CutMessage(`no status line before the ${reader.end ?? 'end'}`)
  const [, version, status, reason] = STATUS_LINE.exec(line) ?? []
  if (!version || !status || reason === undefined) throw new MalformedMessage(`status line ${JSON.stringify(line)}`)
  return { version, status: Number(status), reason, fields: await readFields(reader) }
}

/** Everything that answers one request: interim heads, the final head, its body. */
export async function readAnswer(reader: SocketReader, method: string): Promise<Answer> {
  const interim: ResponseHead[] = []
  let head = await readResponseHead(reader)
  while (head.status < 200 && head.status !== 101) {
    interim.push(head)
    head = await readResponseHead(reader)
  }
  return { interim, head, body: await readResponseBody(reader, method, head) }
}

/** The body that follows `head` in the answer to `method`. */
export function readResponseBody(reader: SocketReader, method: string, head: ResponseHead): Promise<Body> {
  const bodiless = method === 'HEAD' || head.status === 101 || head.status === 204 || head.status === 304
  return readBody(reader, head.fields, bodiless ? 'none' : framingOf(head.fields))
}

async function readFields(reader: SocketReader): Promise<Field[]> {
  const fields: Field[] = []
  for (;;) {
    const line = await reader.readLine()
    if (line === undefined) throw new CutMessage('the connection ended inside the fields')
    if (line === '') return fields
    const colon = line.indexOf(':')
    const name = line.slice(0, Math.max(colon, 0))
    if (!TOKEN.test(name)) throw new MalformedMessage(`field line ${JSON.stringify(line)}`)
    fields.push([name, line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')])
  }
}

function framingOf(fields: readonly Field[]): Framing {
  const codings = valuesOf(fields, 'transfer-encoding')
  const lengths = valuesOf(fields, 'content-length')
  if (codings.length + lengths.length > 1) throw new MalformedMessage('more than one field says where the body ends')
  if (codings.length === 1) {
    if (codings[0]?.toLowerCase() !== 'chunked') throw new MalformedMessage(`Transfer-Encoding: ${codings[0]}`)
    return 'chunked'
  }
  return lengths.length === 1 ? 'length' : 'close'
}

async function readBody(reader: SocketReader, fields: readonly Field[], framing: Framing): Promise<Body> {
  switch (framing) {
    case 'none':
      return { framing, bytes: Buffer.alloc(0), trailers: [], complete: true }
    case 'length': {
      const length = Number(valuesOf(fields, 'content-length')[0])
      const bytes = await reader.readExact(length)
      return { framing, bytes, trailers: [], complete: bytes.length === length }
    }
    case 'chunked':
      return readChunks(reader)
    case 'close': {
      const bytes = await reader.readAll()
      return { framing, bytes, trailers: [], complete: reader.end === 'end' }
    }
  }
}

async function readChunks(reader: SocketReader): Promise<Body> {
  const pieces: Buffer[] = []
  const body = (complete: boolean, trailers: Field[] = []): Body => {
    return { framing: 'chunked', bytes: Buffer.concat(pieces), trailers, complete }
  }
  for (;;) {
    const line = await reader.readLine()
    if (line === undefined) return body(false)
    const digits = CHUNK_LINE.exec(line)?.[1]
    if (!digits) throw new MalformedMessage(`chunk line ${JSON.stringify(line)}`)
    const length = Number.parseInt(digits, 16)
    if (length === 0) return body(true, await readFields(reader))
    const bytes = await reader.readExact(length)
    pieces.push(bytes)
    if (bytes.length < length) return body(false)
    if ((await reader.readLine()) !== '') return body(false)
  }
}
