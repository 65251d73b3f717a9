import type { IncomingMessage } from 'node:http'
import { ApiError, invalidRequest, type RouteSpec, refuseFaults } from '@cyberun/api'
import type { z } from 'zod'

/** From the bytes of a request to parsed values, or to an error that names the field. */

/** Bodies of most calls are small; a larger one is refused before it is read. */
export const MAX_BODY_BYTES = 64 * 1024
/** Nesting no schema of ours needs, but every recursive reader can stand. */
const MAX_DEPTH = 32

/** The parsed parts of a call. A part its route does not have is undefined. */
export interface ParsedRequest {
  params: unknown
  query: unknown
  headers: unknown
  body: unknown
}

/**
 * Parses a call by its route. Throws `ApiError`: `not_found` for a path parameter that no object can have,
 * `payload_too_large`, and `invalid_request` with a detail for every fault of query, headers or body.
 */
export async function parseRequest(
  spec: RouteSpec,
  request: IncomingMessage,
  params: Record<string, string>,
): Promise<ParsedRequest> {
  const parsedParams = spec.params?.safeParse(params)
  if (parsedParams && !parsedParams.success) throw notFound()
  const query = spec.query && checked(spec.query, queryObject(request), 'query')
  const headers = spec.headers && checked(spec.headers, headerObject(spec.headers, request), 'header')
  const body = spec.body && checked(spec.body, parseJson(await readBody(request, spec.maxBodyBytes)), 'body')
  return { params: parsedParams?.data, query, headers, body }
}

/** The one answer for an object that is unknown, another team's, or cannot exist. */
export function notFound(): ApiError {
  return new ApiError('not_found', 'There is no such object. Check the id, and the team you are calling for.')
}

function checked(schema: z.ZodType, value: unknown, part: 'query' | 'header' | 'body'): unknown {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  refuseFaults(result.error.issues.map(({ path, message }) => ({ path: [part, ...path].join('.'), message })))
  throw new Error('a schema refused a value without saying why')
}

function queryObject({ url = '' }: IncomingMessage): Record<string, string> {
  const search = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?') + 1) : '')
  const query: Record<string, string> = Object.create(null)
  for (const [name, value] of search) {
    if (name in query) throw invalidRequest([{ path: `query.${name}`, message: 'given twice; send it once' }])
    if (value.includes('\0')) throw invalidRequest([{ path: `query.${name}`, message: 'holds a NUL character' }])
    query[name] = value
  }
  return query
}

/** The fields a schema names; one that was not sent is absent. */
function headerObject(schema: z.ZodObject, request: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.keys(schema.shape).flatMap((name) => {
      const value = headerOf(request, name)
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/** The value of a field; of one that was sent several times all of them, as one list. `name` is in lower case. */
export function headerOf(request: IncomingMessage, name: string): string | undefined {
  return request.headersDistinct[name]?.join(', ')
}

/** The body's bytes; an absent body is empty. */
async function readBody(request: IncomingMessage, maxBytes = MAX_BODY_BYTES): Promise<Uint8Array> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
  const body = takeArrived(request, maxBytes) ?? (await gather(request, maxBytes))
  if (body.length > 0 && !/^application\/json\s*(;|$)/i.test(headerOf(request, 'content-type') ?? '')) {
    throw invalidRequest([{ path: 'header.Content-Type', message: 'must be application/json' }])
  }
  return body
}

/** The body when all of it is here already, as it mostly is once the caller is known; reading a stream takes longer. */
function takeArrived(request: IncomingMessage, maxBytes: number): Uint8Array | undefined {
  const { complete, destroyed, readableLength } = request
  if (!complete || destroyed || readableLength > maxBytes) return undefined
  return (request.read() as Uint8Array | null) ?? undefined
}

async function gather(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  // Not destroyed when it is too long: the caller is told so on the same connection.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const { byteLength } = chunk as Uint8Array
    bytes += byteLength
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk as Uint8Array)
  }
  return Buffer.concat(chunks, bytes)
}

function tooLarge(maxBytes: number): ApiError {
  return new ApiError('payload_too_large', `The body is larger than ${maxBytes} bytes, the most this call takes.`)
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * The value of a JSON body; of an empty one `{}`, so that a missing field is named and a call whose fields all have
 * defaults needs no body. Refuses what would come back to bite later: bytes that are not UTF-8, half surrogate pairs,
 * NUL (PostgreSQL cannot store it), deep nesting, `__proto__` (objects lose it without a word), numbers beyond every float
 * (they would be stored as null).
 */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) return {}
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(bytes))
  } catch {
    // What the parser says quotes the text, which may hold a password.
    throw invalidRequest([{ path: 'body', message: 'is not JSON in UTF-8' }])
  }
  refuseOddities(value, 0)
  return value
}

function refuseOddities(value: unknown, depth: number): void {
  if (typeof value === 'string') refuseOddText(value)
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw invalidRequest([{ path: 'body', message: 'holds a number that is too large' }])
  }
  if (typeof value !== 'object' || value === null) return
  if (depth === MAX_DEPTH)
    throw invalidRequest([{ path: 'body', message: `is nested deeper than ${MAX_DEPTH} levels` }])
  for (const [key, inner] of Object.entries(value)) {
    refuseOddText(key)
    if (key === '__proto__') throw invalidRequest([{ path: 'body', message: 'has a field named __proto__; rename it' }])
    refuseOddities(inner, depth + 1)
  }
}

function refuseOddText(text: string): void {
  if (!text.isWellFormed() || text.includes('\0')) {
    throw invalidRequest([{ path: 'body', message: 'holds text with half a surrogate pair or a NUL character' }])
  }
}
