import { asArray, asNumber, asObject, asText, texts } from './json.ts'

/** One node of a `progress_state`. */
export interface NodeState {
  readonly id: string
  readonly finished: boolean
  readonly value: number
  readonly max: number
}

/** What ComfyUI says on its socket, as far as it matters here. Only hints: the truth is in queue and history. */
export type SocketEvent =
  | { readonly kind: 'status' }
  | { readonly kind: 'started'; readonly promptId: string }
  | { readonly kind: 'cached'; readonly promptId: string; readonly nodes: readonly string[] }
  /** `node` undefined: the worker is done with the prompt, and its history is written. */
  | { readonly kind: 'executing'; readonly promptId: string | undefined; readonly node: string | undefined }
  | {
      readonly kind: 'progress'
      readonly promptId: string | undefined
      readonly node: string
      readonly value: number
      readonly max: number
    }
  | { readonly kind: 'states'; readonly promptId: string | undefined; readonly nodes: readonly NodeState[] }
  | { readonly kind: 'ended'; readonly promptId: string | undefined }
  | {
      readonly kind: 'picture'
      readonly promptId: string | undefined
      readonly node: string | undefined
      readonly contentType: string
      readonly bytes: Uint8Array
    }
  | { readonly kind: 'log'; readonly lines: readonly string[] }

/** Reads a text message; undefined for what custom nodes invent, and for what is no JSON. */
export function readMessage(text: string): SocketEvent | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return undefined
  }
  const message = asObject(parsed)
  const data = asObject(message?.['data']) ?? {}
  const promptId = asText(data['prompt_id'])
  switch (message?.['type']) {
    case 'status':
      return { kind: 'status' }
    case 'execution_start':
      return promptId === undefined ? undefined : { kind: 'started', promptId }
    case 'execution_cached':
      return promptId === undefined ? undefined : { kind: 'cached', promptId, nodes: texts(data['nodes']) }
    case 'executing':
      return { kind: 'executing', promptId, node: asText(data['node']) }
    case 'progress': {
      const node = asText(data['node'])
      const [value, max] = [asNumber(data['value']), asNumber(data['max'])]
      return node === undefined || value === undefined || max === undefined
        ? undefined
        : { kind: 'progress', promptId, node, value, max }
    }
    case 'progress_state':
      return { kind: 'states', promptId, nodes: readStates(data['nodes']) }
    case 'execution_success':
    case 'execution_error':
    case 'execution_interrupted':
      return { kind: 'ended', promptId }
    case 'logs':
      return { kind: 'log', lines: readLog(data['entries']) }
    default:
      return undefined
  }
}

/** Whether a text message is a `progress_state`, without reading it: a thousand nodes send a megabyte a step. */
export function looksLikeStates(message: Buffer): boolean {
  return message.subarray(0, 48).includes('"progress_state"')
}

/**
 * Reads a binary message, all integers big-endian: 1 is a format and a picture, 4 a length, JSON about the picture and
 * the picture. Undefined for texts (3) and for what is cut short.
 */
export function readPicture(message: Buffer): SocketEvent | undefined {
  if (message.length < 8) return undefined
  const second = message.readUInt32BE(4)
  switch (message.readUInt32BE(0)) {
    case 1: {
      const contentType = second === 1 ? 'image/jpeg' : second === 2 ? 'image/png' : undefined
      if (contentType === undefined) return undefined
      return { kind: 'picture', promptId: undefined, node: undefined, contentType, bytes: message.subarray(8) }
    }
    case 4: {
      if (message.length < 8 + second) return undefined
      const about = readJson(message.subarray(8, 8 + second))
      const contentType = asText(about?.['image_type'])
      if (contentType !== 'image/jpeg' && contentType !== 'image/png') return undefined
      return {
        kind: 'picture',
        promptId: asText(about?.['prompt_id']),
        node: asText(about?.['node_id']),
        contentType,
        bytes: message.subarray(8 + second),
      }
    }
    default:
      return undefined
  }
}

function readStates(raw: unknown): NodeState[] {
  return Object.entries(asObject(raw) ?? {}).flatMap(([id, state]) => {
    const node = asObject(state)
    if (node === undefined) return []
    const [value, max] = [asNumber(node['value']) ?? 0, asNumber(node['max']) ?? 1]
    return [{ id, finished: node['state'] === 'finished', value, max }]
  })
}

function readLog(raw: unknown): string[] {
  const text = asArray(raw)
    .map((entry) => asText(asObject(entry)?.['m']) ?? '')
    .join('')
  // A progress bar writes over its own line: its last state is the line.
  return text
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf('\r', line.length - 2) + 1).trimEnd())
    .filter((line) => line !== '')
}

function readJson(bytes: Buffer): ReturnType<typeof asObject> {
  try {
    return asObject(JSON.parse(bytes.toString('utf8')))
  } catch {
    return undefined
  }
}
