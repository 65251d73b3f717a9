import type { InspectedDetail, InspectedRequest } from '@cyberun/api'
import { formatBytes, printable } from '../text.ts'

/** What the inspector of a tunnel shows, for people. Paths, headers and bodies are strangers': nothing of them is obeyed. */

/** Columns of the live table but the path, which gets what is left. */
const COLUMNS = [
  { head: 'NO', width: 6, of: (entry: InspectedRequest) => String(entry.number) },
  { head: 'TIME', width: 8, of: (entry: InspectedRequest) => entry.started_at.slice(11, 19) },
  { head: 'STATUS', width: 8, of: statusOf },
  { head: 'TOTAL', width: 8, of: (entry: InspectedRequest) => milliseconds(entry.timing.total_ms) },
  { head: 'VISITOR', width: 8, of: (entry: InspectedRequest) => milliseconds(entry.timing.visitor_ms) },
  { head: 'EDGE', width: 8, of: (entry: InspectedRequest) => milliseconds(entry.timing.edge_ms) },
  { head: 'AGENT', width: 8, of: (entry: InspectedRequest) => milliseconds(entry.timing.agent_ms) },
  { head: 'SERVICE', width: 8, of: (entry: InspectedRequest) => milliseconds(entry.timing.service_ms) },
  { head: 'SIZE', width: 9, of: sizeOf },
  { head: 'METHOD', width: 7, of: (entry: InspectedRequest) => entry.method },
] as const
const LEAST_PATH = 20

/** The entries under a head, each on one line of at most `columns` characters; the newest last. Times are UTC. */
export function entryTable(entries: readonly InspectedRequest[], columns: number): string {
  const rest = COLUMNS.reduce((sum, { width }) => sum + width + 1, 0)
  const pathWidth = Math.max(LEAST_PATH, columns - rest)
  const line = (cells: readonly string[]): string =>
    `${cells.map((cell, i) => fitted(printable(cell), COLUMNS[i]?.width ?? pathWidth)).join(' ')}`.slice(0, columns)
  const lines = entries.map((entry) => line([...COLUMNS.map(({ of }) => of(entry)), entry.path]))
  const head = line([...COLUMNS.map(({ head }) => head), 'PATH'])
  if (lines.length === 0) lines.push('No request has come since the inspector was turned on.'.slice(0, columns))
  return `${[head, ...lines].map((each) => each.trimEnd()).join('\n')}\n`
}

/** One entry as one line that ends there, without columns, for a pipe. */
export function entryLine(entry: InspectedRequest): string {
  const { total_ms, visitor_ms, edge_ms, agent_ms, service_ms } = entry.timing
  const parts = `visitor ${visitor_ms} edge ${edge_ms} agent ${agent_ms} service ${service_ms}`
  const from = entry.replay_of === null ? (entry.visitor_address ?? '-') : `replay of ${entry.replay_of}`
  const messages = entry.websocket
    ? ` messages ${entry.websocket.from_visitor.message_count} up ${entry.websocket.from_service.message_count} down`
    : ''
  const line = `${entry.number} ${entry.started_at} ${entry.method} ${entry.path} ${statusOf(entry)} ${total_ms} ms (${parts})`
  const sizes = `${entry.request_body_bytes} B up ${entry.response_body_bytes} B down${messages}`
  return `${printable(`${line} ${sizes} from ${from}`)}\n`
}

/** All of one entry: what was asked and answered, and where the time went. */
export function detailText(entry: InspectedDetail): string {
  const fields = (list: InspectedDetail['request_header_list']): string =>
    list.map(({ name, value }) => `  ${printable(name)}: ${printable(value)}\n`).join('')
  return (
    entryLine(entry) +
    `\nRequest\n${fields(entry.request_header_list)}${bodyText(entry.request_body)}` +
    `\nAnswer ${statusOf(entry)}\n${fields(entry.response_header_list)}${bodyText(entry.response_body)}`
  )
}

function bodyText(body: InspectedDetail['request_body']): string {
  if (!body || (body.is_whole && body.text === '')) return ''
  const text = body.text === null ? `(base64) ${body.base64}` : body.text
  const shown = text.split('\n').map((line) => `  ${printable(line)}\n`)
  return `\n${shown.join('')}${body.is_whole ? '' : '  … the rest was not kept\n'}`
}

function statusOf({ status, failure, ended_at }: InspectedRequest): string {
  if (ended_at === null) return status === null ? '…' : `${status} …`
  return failure === null ? String(status ?? '-') : `${status ?? '-'} !${failure}`
}

function sizeOf({ response_body_bytes, websocket }: InspectedRequest): string {
  return formatBytes(websocket ? websocket.from_service.byte_count : response_body_bytes)
}

function milliseconds(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`
  return `${ms >= 100 ? Math.round(ms) : ms.toFixed(1)} ms`
}

/** Cut or filled to a width. */
function fitted(text: string, width: number): string {
  const characters = [...text]
  return characters.length > width ? `${characters.slice(0, width - 1).join('')}…` : text.padEnd(width)
}
