import type { JsonObject } from '@cyberun/protocol'
import { asArray, asNumber, asObject, asText, texts } from './json.ts'

/** What `/queue` shows: prompt ids, the waiting ones in the order in which they will run. */
export interface QueueState {
  readonly running: readonly string[]
  readonly pending: readonly string[]
}

/** A finished prompt as history has it. */
export interface HistoryEntry {
  /** In the order in which they were sent. */
  readonly messages: readonly { readonly event: string; readonly data: JsonObject }[]
  /** By node id: lists by kind. */
  readonly outputs: JsonObject
  /** By node id, in newer servers: which node of the graph an expanded one stands for. */
  readonly meta: JsonObject
  readonly saysError: boolean
}

export interface SystemStats {
  readonly version: string
  readonly argv: readonly string[]
  /** Of the device with the most memory; 0 when unknown. */
  readonly vramTotal: number
  readonly vramFree: number
}

/** Each queue item is `[number, prompt id, …]`; pending ones come in heap order. */
export function readQueue(raw: unknown): QueueState {
  const queue = asObject(raw)
  const items = (list: unknown) =>
    asArray(list)
      .map((item) => ({ number: asNumber(asArray(item)[0]) ?? 0, id: asText(asArray(item)[1]) ?? '' }))
      .sort((a, b) => a.number - b.number || (a.id < b.id ? -1 : 1))
      .map(({ id }) => id)
  return { running: items(queue?.['queue_running']), pending: items(queue?.['queue_pending']) }
}

/** Undefined for `{}`: the prompt is unknown, waits, runs, was removed or is forgotten. */
export function readHistory(raw: unknown, promptId: string): HistoryEntry | undefined {
  const entry = asObject(asObject(raw)?.[promptId])
  if (entry === undefined) return undefined
  const status = asObject(entry['status'])
  const messages = asArray(status?.['messages']).flatMap((message) => {
    const [event, data] = asArray(message)
    return typeof event === 'string' ? [{ event, data: asObject(data) ?? {} }] : []
  })
  return {
    messages,
    outputs: asObject(entry['outputs']) ?? {},
    meta: asObject(entry['meta']) ?? {},
    saysError: asText(status?.['status_str']) === 'error',
  }
}

/** Why a node failed, in ComfyUI's words. */
export interface NodeFailure {
  readonly nodeId: string
  readonly nodeType: string
  readonly exceptionType: string
  readonly message: string
  readonly traceback: readonly string[]
}

export type Ending =
  | { readonly kind: 'success' }
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'error'; readonly failure: NodeFailure }

/**
 * How a finished prompt ended. The last of its closing messages decides: `status_str` has been seen to say success for
 * a run that ended in a dependency cycle found while it ran.
 */
export function readEnding(entry: HistoryEntry): Ending {
  for (const { event, data } of entry.messages.toReversed()) {
    if (event === 'execution_success') return { kind: 'success' }
    if (event === 'execution_interrupted') return { kind: 'interrupted' }
    if (event === 'execution_error') return { kind: 'error', failure: readFailure(data) }
  }
  return entry.saysError ? { kind: 'error', failure: readFailure({}) } : { kind: 'success' }
}

function readFailure(data: JsonObject): NodeFailure {
  return {
    nodeId: asText(data['node_id']) ?? '',
    nodeType: asText(data['node_type']) ?? '',
    exceptionType: asText(data['exception_type']) ?? '',
    message: (asText(data['exception_message']) ?? '').trim(),
    traceback: texts(data['traceback']),
  }
}

export function readStats(raw: unknown): SystemStats | undefined {
  const stats = asObject(raw)
  const system = asObject(stats?.['system'])
  if (system === undefined) return undefined
  const devices = asArray(stats?.['devices']).map((device) => ({
    total: asNumber(asObject(device)?.['vram_total']) ?? 0,
    free: asNumber(asObject(device)?.['vram_free']) ?? 0,
  }))
  const largest = devices.sort((a, b) => b.total - a.total)[0]
  return {
    version: asText(system['comfyui_version']) ?? 'unknown',
    argv: texts(system['argv']),
    vramTotal: largest?.total ?? 0,
    vramFree: largest?.free ?? 0,
  }
}
