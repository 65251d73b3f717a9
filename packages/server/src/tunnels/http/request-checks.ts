import { type Fields, listOf, valuesOf } from './fields.ts'
import { Refusal } from './refusal.ts'
import type { RequestBody, RequestHead } from './request-parser.ts'
import { type HostName, parseHost, parseTarget } from './target.ts'

/** A request that is unambiguous HTTP, whoever reads it. */
export interface CheckedRequest {
  method: string
  /** Path and query as sent, or `*`. */
  path: string
  host: HostName
  fields: Fields
  body: RequestBody
  upgrade: 'none' | 'websocket'
  /** The visitor waits for 100 before it sends the body. */
  awaitsContinue: boolean
  oldVersion: boolean
  /** The visitor's connection is kept for another request, as far as the visitor is concerned. */
  persistent: boolean
}

const BASE64_16_BYTES = /^[+/0-9A-Za-z]{22}==$/

/**
 * Refuses what a service could read otherwise than we do (RFC 9112, sections 3.2, 6.1; RFC 9110, sections 7.8, 10.1.1):
 * refuse, never repair. Lines and fields that are none at all the parser has refused before. `early`: bytes that came
 * together with the head, after it.
 */
export function checkRequest(request: RequestHead, early: number): CheckedRequest | Refusal {
  const { method, fields } = request
  const oldVersion = request.httpVersion === '1.0'
  if (!oldVersion && request.httpVersion !== '1.1') return bad('only HTTP/1.1 and HTTP/1.0 are spoken here')
  if (method === 'CONNECT') return bad('this is no proxy: CONNECT is not served')
  const target = parseTarget(request.target)
  if (typeof target === 'string') return bad(`the request has ${target}`)
  if (target.path === '*' && method !== 'OPTIONS') return bad('only OPTIONS can ask about *')
  if (method === 'TRACE') return new Refusal('method_not_allowed', 'TRACE would show headers that are not yours')
  const host = checkHost(fields, target.authority)
  if (host instanceof Refusal) return host
  const body = checkBody(fields, oldVersion)
  if (body instanceof Refusal) return body
  const upgrade = checkUpgrade(request, body, early)
  if (upgrade instanceof Refusal) return upgrade
  const awaitsContinue = checkExpectation(fields, oldVersion)
  if (awaitsContinue instanceof Refusal) return awaitsContinue
  const persistent = oldVersion
    ? hasToken(fields, 'connection', 'keep-alive')
    : !hasToken(fields, 'connection', 'close')
  return { method, path: target.path, host, fields, body, upgrade, awaitsContinue, oldVersion, persistent }
}

function checkHost(fields: Fields, authority: string | undefined): HostName | Refusal {
  const values = valuesOf(fields, 'host')
  const [value] = values
  if (value === undefined || values.length > 1) return bad('the request needs exactly one Host')
  const host = parseHost(value)
  if (!host) return bad('the Host is neither a name nor an address')
  if (authority !== undefined && authority.toLowerCase() !== value.toLowerCase()) {
    return bad('the target names another host than Host does')
  }
  return host
}

function checkBody(fields: Fields, oldVersion: boolean): RequestBody | Refusal {
  const codings = valuesOf(fields, 'transfer-encoding')
  const lengths = valuesOf(fields, 'content-length')
  if (codings.length === 0) {
    const [length] = lengths
    if (length === undefined) return { kind: 'none' }
    const bytes = Number(length)
    if (lengths.length > 1 || !/^\d{1,16}$/.test(length) || !Number.isSafeInteger(bytes)) {
      return bad('the Content-Length is not one number')
    }
    return { kind: 'length', bytes }
  }
  if (lengths.length > 0) return bad('the request has both Content-Length and Transfer-Encoding')
  if (oldVersion) return bad('HTTP/1.0 has no Transfer-Encoding')
  if (codings.length > 1 || codings[0]?.toLowerCase() !== 'chunked') return bad('the only Transfer-Encoding is chunked')
  return { kind: 'chunked' }
}

/**
 * Whether this is an upgrade we pass on: to `websocket`, version 13, with a valid key. A request for any other protocol
 * is served as if it had not asked (RFC 9110, section 7.8). A body would become the first bytes of the new protocol for
 * one reader and stay a body for another, so it is refused (RFC 9112, section 6; RFC 9110, section 7.8).
 */
function checkUpgrade(request: RequestHead, body: RequestBody, early: number): 'none' | 'websocket' | Refusal {
  const { fields, method } = request
  if (!asksForWebSocket(fields)) return 'none'
  if (body.kind === 'chunked' || (body.kind === 'length' && body.bytes > 0)) return bad('an upgrade cannot have a body')
  if (early > 0) return bad('bytes of the new protocol came before the upgrade was granted')
  if (listOf(fields, 'upgrade').length > 1) return 'none'
  if (method !== 'GET' || request.httpVersion !== '1.1') return bad('a WebSocket is asked for with GET in HTTP/1.1')
  const versions = valuesOf(fields, 'sec-websocket-version')
  if (versions.length !== 1 || versions[0] !== '13') {
    return new Refusal('upgrade_required', 'only WebSocket version 13 is spoken here', ['Sec-WebSocket-Version', '13'])
  }
  const keys = valuesOf(fields, 'sec-websocket-key')
  if (keys.length !== 1 || !BASE64_16_BYTES.test(keys[0] ?? '')) return bad('the Sec-WebSocket-Key is not 16 bytes')
  return 'websocket'
}

function checkExpectation(fields: Fields, oldVersion: boolean): boolean | Refusal {
  const expectations = valuesOf(fields, 'expect')
  const [expectation] = expectations
  if (expectation === undefined) return false
  if (expectations.length > 1 || expectation.toLowerCase() !== '100-continue') {
    return new Refusal('expectation_failed', 'the only Expect is 100-continue')
  }
  // An HTTP/1.0 visitor cannot be sent a 100 (RFC 9110, section 10.1.1).
  return !oldVersion
}

/** Whether WebSocket is among what the request would switch to. */
export function asksForWebSocket(fields: Fields): boolean {
  return hasToken(fields, 'upgrade', 'websocket') && hasToken(fields, 'connection', 'upgrade')
}

function hasToken(fields: Fields, lowerName: string, token: string): boolean {
  return listOf(fields, lowerName).some((each) => each.toLowerCase() === token)
}

function bad(message: string): Refusal {
  return new Refusal('bad_request', message)
}
