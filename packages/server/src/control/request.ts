import { ApiError, type ErrorDetail, type RouteSpec } from '@cyberun/api'
import type { z } from 'zod'

/** From the bytes of a request to parsed values, or to an error that names the field. */

/** Bodies of the calls there are today are small; a larger one is refused before it is read. */
export const MAX_BODY_BYTES = 64 * 1024
/** Nesting no schema of ours needs, but every recursive reader can stand. */
const MAX_DEPTH = 32

/** The three parsed parts of a call. A part its route does not have is undefined. */
export interface ParsedRequest {
  params: unknown
  query: unknown
  body: unknown
}

/**
 * Parses a call by its route. Throws `ApiError`: `not_found` for a path parameter that no object can have,
 * `payload_too_large`, and `invalid_request` with a detail for every fault of query or body.
 */
export async function parseRequest(
  spec: RouteSpec,
  request: Request,
  params: Record<string, string>,
): Promise<ParsedRequest> {
  const parsedParams = spec.params?.safeParse(params)
  if (parsedParams && !parsedParams.success) throw notFound()
  const query = spec.query && checked(spec.query, queryObject(new URL(request.url).searchParams), 'query')
  const body = spec.body && checked(spec.body, parseJson(await readBody(request)), 'body')
  return { params: parsedParams?.data, query, body }
}

/** The one answer for an object that is unknown, another team's, or cannot exist. */
export function notFound(): ApiError {
  return new ApiError('not_found', 'There is no such object. Check the id, and the team you are calling for.')
}

/** An `invalid_request` whose message names the first fault and whose details hold all. */
export function invalid(details: readonly [ErrorDetail, ...ErrorDetail[]]): ApiError {
  const [first] = details
  const more = details.length > 1 ? ` (and ${details.length - 1} more, see details)` : ''
  return new ApiError('invalid_request', `${first.path}: ${first.message}${more}`, { details })
}

function checked(schema: z.ZodType, value: unknown, part: 'query' | 'body'): unknown {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const [first, ...rest] = result.error.issues.map((issue) => ({
    path: [part, ...issue.path].join('.'),
    message: issue.message,
  }))
  throw invalid(first ? [first, ...rest] : [{ path: part, message: 'not valid' }])
}

function queryObject(search: URLSearchParams): Record<string, string> {
  const query: Record<string, string> = Object.create(null)
  for (const [name, value] of search) {
    if (name in query) throw invalid([{ path: `query.${name}`, message: 'given twice; send it once' }])
    query[name] = value
  }
  return query
}

/** The body's bytes; an absent body is empty. */
async function readBody(request: Request): Promise<Uint8Array> {
  if (Number(request.headers.get('content-length') ?? 0) > MAX_BODY_BYTES) throw tooLarge()
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > MAX_BODY_BYTES) throw tooLarge()
    chunks.push(chunk)
  }
  if (bytes > 0 && !/^application\/json\s*(;|$)/i.test(request.headers.get('content-type') ?? '')) {
    throw invalid([{ path: 'header.Content-Type', message: 'must be application/json' }])
  }
  return Buffer.concat(chunks, bytes)
}

function tooLarge(): ApiError {
  return new ApiError('payload_too_large', `The body is larger than ${MAX_BODY_BYTES} bytes, the most this call takes.`)
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * The value of a JSON body; of an empty one `{}`, so that a missing field is named and a call whose fields all have
 * defaults needs no body. Refuses what would come back to bite later: bytes that are not UTF-8, half surrogate pairs,
 * NUL (PostgreSQL cannot store it), deep nesting.
 */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) return {}
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(bytes))
  } catch {
    // What the parser says quotes the text, which may hold a password.
    throw invalid([{ path: 'body', message: 'is not JSON in UTF-8' }])
  }
  refuseOddities(value, 0)
  return value
}

function refuseOddities(value: unknown, depth: number): void {
  if (typeof value === 'string') refuseOddText(value)
  if (typeof value !== 'object' || value === null) return
  if (depth === MAX_DEPTH) throw invalid([{ path: 'body', message: `is nested deeper than ${MAX_DEPTH} levels` }])
  for (const [key, inner] of Object.entries(value)) {
    refuseOddText(key)
    refuseOddities(inner, depth + 1)
  }
}

function refuseOddText(text: string): void {
  if (!text.isWellFormed() || text.includes('\0')) {
    throw invalid([{ path: 'body', message: 'holds text with half a surrogate pair or a NUL character' }])
  }
}
