import type { InspectedDetail, InspectedRequest as InspectedView } from '@cyberun/api'
import type { Fields } from '../http/fields.ts'
import type { InspectedRequest, InspectedSocket, KeptBody, Timing } from './inspector.ts'
import { asCurl } from './inspector-curl.ts'
import { maskFields, maskPath } from './inspector-mask.ts'

/** What the inspector knows, in the words of the API: secrets masked. */

/** Characters of a path that a list shows. */
const LISTED_PATH = 2_048

export function inspectedView(entry: InspectedRequest): InspectedView {
  return { ...view(entry), path: maskPath(entry.request.path).slice(0, LISTED_PATH) }
}

export function inspectedDetail(entry: InspectedRequest, tunnelUrl: string): InspectedDetail {
  return {
    ...view(entry),
    request_header_list: headerList(entry.requestFields),
    response_header_list: headerList(entry.responseFields),
    request_body: bodyView(entry.requestBody.kept),
    response_body: bodyView(entry.responseBody.kept),
    is_replayable: entry.isRequestWhole && !entry.socket,
    curl: asCurl(entry, tunnelUrl) ?? null,
  }
}

function view(entry: InspectedRequest): InspectedView {
  const { endedAt, request } = entry
  return {
    number: entry.number,
    started_at: new Date(entry.startedAt).toISOString(),
    ended_at: endedAt === null ? null : new Date(endedAt).toISOString(),
    method: request.method,
    path: maskPath(request.path),
    status: entry.status ?? null,
    failure: entry.failure ?? null,
    visitor_address: request.address,
    replay_of: request.replayOf,
    request_body_bytes: entry.requestBody.bytes,
    response_body_bytes: entry.responseBody.bytes,
    timing: timingView(entry.timing),
    websocket: entry.socket ? socketView(entry.socket) : null,
  }
}

function timingView(timing: Timing): InspectedView['timing'] {
  return {
    total_ms: hundredths(timing.totalMs),
    visitor_ms: hundredths(timing.visitorMs),
    edge_ms: hundredths(timing.edgeMs),
    agent_ms: hundredths(timing.agentMs),
    service_ms: hundredths(timing.serviceMs),
    first_byte_ms: timing.firstByteMs === null ? null : hundredths(timing.firstByteMs),
  }
}

function hundredths(ms: number): number {
  return Math.round(ms * 100) / 100
}

function socketView({ fromVisitor, fromService }: InspectedSocket): InspectedView['websocket'] {
  return {
    from_visitor: { message_count: fromVisitor.counted.messages, byte_count: fromVisitor.counted.bytes },
    from_service: { message_count: fromService.counted.messages, byte_count: fromService.counted.bytes },
    close_code: fromVisitor.counted.closeCode ?? fromService.counted.closeCode ?? null,
  }
}

function headerList(fields: Fields | undefined): { name: string; value: string }[] {
  const masked = maskFields(fields ?? [])
  return masked.flatMap((name, i) => (i % 2 === 0 ? [{ name, value: masked[i + 1] ?? '' }] : []))
}

function bodyView(kept: KeptBody | undefined): InspectedDetail['request_body'] {
  if (!kept) return null
  const { bytes, isWhole } = kept
  const text = textOf(bytes, isWhole)
  return { is_whole: isWhole, text, base64: text === null ? bytes.toString('base64') : null }
}

/** The bytes as UTF-8, or null when they are not. A body that was cut may end within a character. */
function textOf(bytes: Buffer, isWhole: boolean): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: !isWhole })
  } catch {
    return null
  }
}
