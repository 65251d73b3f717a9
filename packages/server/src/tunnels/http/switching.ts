import { createHash } from 'node:crypto'
import { firstOf, formatHead, listOf, valuesOf } from './fields.ts'
import type { CheckedRequest } from './request-checks.ts'
import { type AnswerContext, rewriteInterim } from './response-head.ts'
import type { ResponseHead } from './response-parser.ts'

/** RFC 6455, section 1.3. */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/**
 * The 101 for the visitor, or undefined when the service's is not the grant of this very request (RFC 6455, section
 * 4.1): then what it speaks may be anything but WebSocket.
 */
export function switchingHead(request: CheckedRequest, head: ResponseHead, context: AnswerContext): Buffer | undefined {
  const { fields } = head
  const accepts = valuesOf(fields, 'sec-websocket-accept')
  const granted =
    listOf(fields, 'upgrade').join().toLowerCase() === 'websocket' &&
    listOf(fields, 'connection').some((member) => member.toLowerCase() === 'upgrade') &&
    accepts.length === 1 &&
    accepts[0] === acceptOf(firstOf(request.fields, 'sec-websocket-key') ?? '') &&
    (firstOf(fields, 'content-length') ?? '0') === '0' &&
    firstOf(fields, 'transfer-encoding') === undefined
  if (!granted) return undefined
  const passed = [...rewriteInterim(fields, context), 'Connection', 'Upgrade', 'Upgrade', 'websocket']
  return formatHead(`HTTP/1.1 101 ${head.reason}`, passed)
}

function acceptOf(key: string): string {
  return createHash('sha1')
    .update(key + ACCEPT_SUFFIX)
    .digest('base64')
}
