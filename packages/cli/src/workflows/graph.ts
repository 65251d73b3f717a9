/** A link of a graph: the output of another node. */
export interface NodeLink {
  nodeId: string
  output: number
}
export type InputValue = { kind: 'link'; link: NodeLink } | { kind: 'value'; value: unknown }

export interface GraphNode {
  id: string
  classType: string
  /** What its author called it; absent when nobody did. */
  title?: string
  inputs: ReadonlyMap<string, InputValue>
}

/** A ComfyUI graph in its API format: what the server of ComfyUI takes as a prompt. */
export type Graph = ReadonlyMap<string, GraphNode>

export type GraphReading =
  | { kind: 'graph'; graph: Graph }
  /** The editor's own format, with positions and colours, which only the editor can turn into a prompt. */
  | { kind: 'editor' }
  | { kind: 'invalid'; reason: string }

/** Reads parsed JSON as a graph. Pure; nothing of what it is given is trusted. */
export function readGraph(json: unknown): GraphReading {
  if (!isObject(json)) return { kind: 'invalid', reason: 'it is not a JSON object' }
  if (Array.isArray(json['nodes']) && (Array.isArray(json['links']) || 'version' in json)) return { kind: 'editor' }
  // What /history and some tools wrap it in.
  if (isObject(json['prompt']) && !('class_type' in json['prompt'])) return readGraph(json['prompt'])
  const graph = new Map<string, GraphNode>()
  for (const [id, raw] of Object.entries(json)) {
    if (!isObject(raw) || typeof raw['class_type'] !== 'string') {
      return { kind: 'invalid', reason: `its entry ${JSON.stringify(id)} is no node: it has no class_type` }
    }
    if (raw['inputs'] !== undefined && !isObject(raw['inputs'])) {
      return { kind: 'invalid', reason: `the inputs of node ${JSON.stringify(id)} are no object` }
    }
    graph.set(id, readNode(id, raw['class_type'], raw))
  }
  if (graph.size === 0) return { kind: 'invalid', reason: 'it has no nodes' }
  for (const node of graph.values()) {
    for (const [name, input] of node.inputs) {
      if (input.kind === 'link' && !graph.has(input.link.nodeId)) {
        return {
          kind: 'invalid',
          reason: `${name} of node ${node.id} links to node ${input.link.nodeId}, which is not there`,
        }
      }
    }
  }
  return { kind: 'graph', graph }
}

function readNode(id: string, classType: string, raw: Record<string, unknown>): GraphNode {
  const inputs = Object.entries(raw['inputs'] ?? {}).map(([name, value]) => [name, readInput(value)] as const)
  const title = isObject(raw['_meta']) ? raw['_meta']['title'] : undefined
  const isNamed = typeof title === 'string' && title !== '' && title !== classType
  return { id, classType, inputs: new Map(inputs), ...(isNamed && { title }) }
}

/** A list of a node's id and a number is a link; every other list is a value. */
function readInput(value: unknown): InputValue {
  if (Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && Number.isInteger(value[1])) {
    return { kind: 'link', link: { nodeId: value[0], output: Number(value[1]) } }
  }
  return { kind: 'value', value }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text that an input has of its own. */
export function literalText(node: GraphNode, name: string): string | undefined {
  const input = node.inputs.get(name)
  return input?.kind === 'value' && typeof input.value === 'string' ? input.value : undefined
}

/** The node that an input is linked to. */
export function linked(graph: Graph, node: GraphNode, name: string): GraphNode | undefined {
  const input = node.inputs.get(name)
  return input?.kind === 'link' ? graph.get(input.link.nodeId) : undefined
}
