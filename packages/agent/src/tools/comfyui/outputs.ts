import { posix } from 'node:path'
import type { JsonObject } from '@cyberun/protocol'
import type { HistoryEntry } from './answers.ts'
import type { Graph } from './graph.ts'
import type { FileReference } from './http.ts'
import { asArray, asObject, asText } from './json.ts'

const MODEL_3D = /\.(glb|gltf|obj|fbx|stl|ply|usdz|spz|splat|ksplat)$/i

/** One item of one list of one node: a file to fetch, or a value as it is. */
export interface OutputItem {
  readonly node: string
  readonly kind: string
  readonly index: number
  readonly item: { readonly file: FileReference } | { readonly value: unknown }
}

/**
 * Every output of a finished prompt: all lists of all nodes of its graph, whatever their kind. Previews (`temp`) count
 * only when nothing was saved, and inputs that a node shows are none.
 */
export function readOutputs({ outputs, meta }: HistoryEntry, graph: Graph): OutputItem[] {
  const items = Object.entries(outputs)
    // Old servers list what other prompts left in the cache.
    .filter(([node]) => graph.has(node) || expandedFrom(meta[node]).some((origin) => graph.has(origin)))
    .flatMap(([node, kinds]) =>
      Object.entries(asObject(kinds) ?? {}).flatMap(([kind, list]) =>
        asArray(list).map((raw, index) => ({ node, kind, index, item: readItem(kind, raw) })),
      ),
    )
  const hasSaved = items.some(({ item }) => 'file' in item && item.file.type === 'output')
  return items.filter(
    ({ item }) => !('file' in item) || item.file.type === 'output' || (item.file.type === 'temp' && !hasSaved),
  )
}

/** `9.images.0`: how a file is named in the output and in `download_urls`. */
export function outputKey({ node, kind, index }: Pick<OutputItem, 'node' | 'kind' | 'index'>): string {
  return `${node}.${kind}.${index}`
}

/** The output of the task: as ComfyUI has it, with `{file_name, artifact}` in the place of each file. */
export function describeOutputs(items: readonly OutputItem[], files: ReadonlyMap<string, string>): JsonObject {
  // Maps, as a graph may call a node `__proto__`.
  const nodes = new Map<string, Map<string, unknown[]>>()
  for (const item of items) {
    const kinds = nodes.get(item.node) ?? new Map<string, unknown[]>()
    const list = kinds.get(item.kind) ?? []
    const key = outputKey(item)
    const name = files.get(key)
    list.push(name === undefined ? ('value' in item.item ? item.item.value : null) : { file_name: name, artifact: key })
    nodes.set(item.node, kinds.set(item.kind, list))
  }
  return Object.fromEntries([...nodes].map(([node, kinds]) => [node, Object.fromEntries(kinds)]))
}

function readItem(kind: string, raw: unknown): OutputItem['item'] {
  const descriptor = asObject(raw)
  const filename = asText(descriptor?.['filename'])
  if (filename !== undefined && filename !== '') {
    const subfolder = asText(descriptor?.['subfolder']) ?? ''
    return { file: { filename, subfolder, type: asText(descriptor?.['type']) ?? 'output' } }
  }
  // A 3D viewer is told a path and no descriptor.
  if (typeof raw === 'string' && (kind === '3d' || kind === 'result') && MODEL_3D.test(raw)) {
    const path = raw.replaceAll('\\', '/')
    const folder = posix.dirname(path)
    return { file: { filename: posix.basename(path), subfolder: folder === '.' ? '' : folder, type: 'output' } }
  }
  return { value: raw }
}

/** The nodes of the graph that an expanded node may stand for. */
function expandedFrom(raw: unknown): string[] {
  const about = asObject(raw)
  return ['display_node', 'parent_node', 'real_node_id'].flatMap((name) => asText(about?.[name]) ?? [])
}
