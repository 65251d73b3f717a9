import type { Field } from './message.ts'

/** Text is Latin-1: one character, one byte. */
export type Bytes = string | Uint8Array

export interface BodySpec {
  bytes: Bytes
  framing: 'length' | 'chunked'
  /** Bytes a chunk; one chunk when absent. */
  chunkBytes?: number
  trailers?: readonly Field[]
}

export interface RequestSpec {
  method?: string
  target?: string
  version?: 'HTTP/1.0' | 'HTTP/1.1'
  /** After Host. In a value, `{origin}` is where the visitor sees the service, `{prefix}` the door's path prefix. */
  fields?: readonly Field[]
  body?: BodySpec
}

/** What the service writes for one request, to the byte, and how it finishes the connection then, if at all. */
export interface Reply {
  pieces: readonly Bytes[]
  finish?: 'end' | 'reset'
}

export interface AnswerSpec {
  /** Code and reason: `200 OK`. */
  status?: string
  version?: 'HTTP/1.0' | 'HTTP/1.1'
  fields?: readonly Field[]
  /** `until-close` writes the bytes and ends the connection. Absent: no body and no field that frames one. */
  body?: BodySpec | { bytes: Bytes; framing: 'until-close' }
}

export const toBuffer = (bytes: Bytes): Buffer =>
  typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

/** Bytes that differ from place to place, the same on every call. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let state = 0x9e3779b9
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    bytes[i] = state >>> 24
  }
  return bytes
}

/** The bytes of a request whose head starts with `Host: host` and then `extra`, with `prefix` before its target. */
export function buildRequest(
  spec: RequestSpec,
  at: { ca?: string; hostHeader: string; pathPrefix: string; extraHeaders: readonly Field[] },
): Buffer {
  const placed = (value: string) =>
    value
      .replaceAll('{origin}', `${at.ca === undefined ? 'http' : 'https'}://${at.hostHeader}`)
      .replaceAll('{prefix}', at.pathPrefix)
  const line = `${spec.method ?? 'GET'} ${at.pathPrefix}${spec.target ?? '/'} ${spec.version ?? 'HTTP/1.1'}`
  const fields: Field[] = [
    ['Host', at.hostHeader],
    ...at.extraHeaders,
    ...(spec.fields ?? []).map(([name, value]): Field => [name, placed(value)]),
    ...framingFields(spec.body),
  ]
  return Buffer.concat([headBytes(line, fields), ...bodyPieces(spec.body)])
}

/** The reply of a service that means well. */
export function answer(spec: AnswerSpec = {}): Reply {
  const { body } = spec
  const line = `${spec.version ?? 'HTTP/1.1'} ${spec.status ?? '200 OK'}`
  if (body?.framing === 'until-close') {
    return { pieces: [headBytes(line, spec.fields ?? []), body.bytes], finish: 'end' }
  }
  return { pieces: [headBytes(line, [...(spec.fields ?? []), ...framingFields(body)]), ...bodyPieces(body)] }
}

/** A reply with `text` as its body. */
export const textAnswer = (text: string, fields: readonly Field[] = []): Reply =>
  answer({ fields, body: { bytes: text, framing: 'length' } })

/** The exact bytes of a reply, for what `answer` would never write. */
export const rawReply = (bytes: Bytes, finish?: 'end' | 'reset'): Reply => ({
  pieces: [bytes],
  ...(finish && { finish }),
})

function headBytes(line: string, fields: readonly Field[]): Buffer {
  return toBuffer([line, ...fields.map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n'))
}

function framingFields(body: BodySpec | undefined): Field[] {
  if (!body) return []
  return body.framing === 'chunked'
    ? [['Transfer-Encoding', 'chunked']]
    : [['Content-Length', String(toBuffer(body.bytes).length)]]
}

function bodyPieces(body: BodySpec | undefined): Buffer[] {
  if (!body) return []
  const bytes = toBuffer(body.bytes)
  if (body.framing === 'length') return [bytes]
  const pieces: Buffer[] = []
  const size = body.chunkBytes ?? Math.max(bytes.length, 1)
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.subarray(at, at + size)
    pieces.push(toBuffer(`${chunk.length.toString(16)}\r\n`), chunk, toBuffer('\r\n'))
  }
  const trailers = (body.trailers ?? []).map(([name, value]) => `${name}: ${value}\r\n`)
  return [...pieces, toBuffer(`0\r\n${trailers.join('')}\r\n`)]
}
