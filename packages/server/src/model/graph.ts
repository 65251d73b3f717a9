import type { ErrorDetail, ToolType } from '@cyberun/api'

/** What can be known of a workflow's graph by reading it. Only ComfyUI's has a form of its own. */

const HOW_TO_EXPORT =
  "is a graph as ComfyUI's editor saves it, which only the editor can run. Export the other form: in ComfyUI choose Workflow, Export (API); in older versions switch on Dev mode in the settings and choose Save (API Format)"

/** Why a graph cannot be run by its tool, one detail for each fault; none when nothing speaks against it. */
export function graphFaults(tool: ToolType, graph: Readonly<Record<string, unknown>>): ErrorDetail[] {
  if (tool !== 'comfyui') return []
  const path = 'body.workflow_json'
  if (Array.isArray(graph['nodes'])) return [{ path, message: HOW_TO_EXPORT }]
  if (isObject(graph['prompt']) && !('class_type' in graph['prompt'])) {
    return [{ path, message: 'is wrapped in "prompt"; send the graph itself' }]
  }
  const nodes = Object.entries(graph)
  if (nodes.length === 0) return [{ path, message: 'has no nodes' }]
  return nodes.flatMap(([id, node]) => {
    const fault = nodeFault(node)
    return fault === undefined ? [] : [{ path: `${path}.${id}`, message: fault }]
  })
}

function nodeFault(node: unknown): string | undefined {
  if (!isObject(node) || typeof node['class_type'] !== 'string' || node['class_type'] === '') {
    return 'is no node: it has no class_type. A graph in the API format has an object of class_type and inputs for each node'
  }
  return node['inputs'] === undefined || isObject(node['inputs']) ? undefined : 'has inputs that are not an object'
}

/** The node classes a ComfyUI graph needs, each once; none for other tools. */
export function nodeClassesOf(tool: ToolType, graph: Readonly<Record<string, unknown>>): string[] {
  if (tool !== 'comfyui') return []
  const classes = Object.values(graph).flatMap((node) =>
    isObject(node) && typeof node['class_type'] === 'string' ? [node['class_type']] : [],
  )
  return [...new Set(classes)]
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
