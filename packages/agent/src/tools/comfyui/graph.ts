import type { JsonObject } from '@cyberun/protocol'
import { FILE_PLACEHOLDER } from '../tool.ts'
import { asObject, asText } from './json.ts'

/** A node of a graph in API format. */
export interface GraphNode {
  readonly classType: string
  readonly inputs: JsonObject
}

/** What a workflow is to ComfyUI: nodes by id. */
export type Graph = ReadonlyMap<string, GraphNode>

/** Reads a workflow; a sentence about what is wrong when it is no graph in API format. */
export function readGraph(workflow: JsonObject): Graph | string {
  if (Array.isArray(workflow['nodes'])) {
    return 'The workflow is in the format of the ComfyUI page: export it with "Workflow > Export (API)" and import that file.'
  }
  const graph = new Map<string, GraphNode>()
  for (const [id, raw] of Object.entries(workflow)) {
    const node = asObject(raw)
    const classType = asText(node?.['class_type'])
    if (classType === undefined)
      return `Node ${id} of the workflow has no class_type: it is no graph in ComfyUI's API format.`
    graph.set(id, { classType, inputs: asObject(node?.['inputs']) ?? {} })
  }
  return graph.size === 0 ? 'The workflow has no nodes.' : graph
}

/** Every node class of a graph, once. */
export function nodeClassesOf(graph: Graph): string[] {
  return [...new Set([...graph.values()].map(({ classType }) => classType))]
}

/** What a graph becomes before it is submitted. */
export interface Rewriting {
  /** Folder of this attempt below ComfyUI's input and output folders. */
  readonly folder: string
  /** By file key: how ComfyUI names the uploaded file. */
  readonly inputs: ReadonlyMap<string, string>
}

/**
 * The graph as it is submitted: files by the names ComfyUI gave them, and every `filename_prefix` moved into the
 * attempt's own folder. That makes savers run although an equal run is cached (a cached saver announces its old file,
 * which may be gone), keeps names of different tasks apart, and makes cleaning up one folder.
 */
export function rewriteGraph(workflow: JsonObject, { folder, inputs }: Rewriting): JsonObject {
  const named = mapTexts(workflow, (text) => {
    if (!text.startsWith(FILE_PLACEHOLDER)) return text
    return inputs.get(text.slice(FILE_PLACEHOLDER.length)) ?? text
  })
  return Object.fromEntries(
    Object.entries(named).map(([id, raw]) => {
      const node = asObject(raw)
      const own = asObject(node?.['inputs'])
      const prefix = asText(own?.['filename_prefix'])
      return prefix === undefined
        ? [id, raw]
        : [id, { ...node, inputs: { ...own, filename_prefix: `${folder}/${insideFolder(prefix)}` } }]
    }),
  )
}

/** A prefix cannot leave the folder: `/etc/x`, `../x` and `C:\x` are all below it. */
function insideFolder(prefix: string): string {
  const parts = prefix
    .split(/[/\\]/)
    .filter((part) => part !== '' && part !== '.' && part !== '..' && !/^[a-z]:$/i.test(part))
  return parts.length === 0 ? 'output' : parts.join('/')
}

function mapTexts(value: JsonObject, map: (text: string) => string): JsonObject {
  const visit = (item: unknown): unknown => {
    if (typeof item === 'string') return map(item)
    if (Array.isArray(item)) return item.map(visit)
    const inner = asObject(item)
    return inner === undefined
      ? item
      : Object.fromEntries(Object.entries(inner).map(([key, member]) => [key, visit(member)]))
  }
  return asObject(visit(value)) ?? {}
}

const MODEL_FILE = /\.(safetensors|sft|ckpt|pt|pt2|pth|bin|gguf|onnx|pkl)$/i
const MODEL_INPUT =
  /^(ckpt|lora|vae|unet|clip|control_net|style_model|gligen|hypernetwork|upscale_model|model)_name\d*$/

/** Whether an input's value names a model: by its ending, or by the name that loaders use for it. */
export function namesModel(input: string, value: string): boolean {
  return MODEL_FILE.test(value) || MODEL_INPUT.test(input)
}

/** The models a graph loads, as its nodes name them. */
export function modelsOf(graph: Graph): string[] {
  const models = [...graph.values()].flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([name, value]) =>
      typeof value === 'string' && namesModel(name, value) ? [value] : [],
    ),
  )
  return [...new Set(models)].sort()
}
