import { type Graph, type GraphNode, linked, literalText } from './graph.ts'

/** Where a text stands in a graph. */
export interface TextPlace {
  node: GraphNode
  field: string
  text: string
}

/** What a sampler is told to want, and what to avoid. */
export type PromptRole = 'prompt' | 'negative'

/** Inputs that hold a prompt, in nodes that encode one and in nodes that only hold one. */
const TEXT_FIELDS = ['text', 'prompt', 'text_g', 'text_l', 't5xxl', 'clip_l', 'string', 'value']
/** Inputs through which a conditioning passes on its way from an encoder to a sampler. */
const CONDITIONING = /^(?:positive|negative|conditioning\w*|cond\w*)$/
/** A text may be put together by nodes before the encoder; a graph with a circle must not keep us. */
const DEEPEST_TEXT = 8

/** The texts that lead to `role` of this sampler, nearest first. */
export function findTexts(graph: Graph, sampler: GraphNode, role: PromptRole): TextPlace[] {
  const found: TextPlace[] = []
  const seen = new Set<GraphNode>([sampler])
  let next = entrances(graph, sampler, role)
  while (next.length > 0) {
    const nodes = next.filter((node) => !seen.has(node))
    for (const node of nodes) seen.add(node)
    found.push(...nodes.flatMap((node) => textOf(graph, node, DEEPEST_TEXT) ?? []))
    next = nodes.flatMap((node) => above(graph, node, role))
  }
  return found
}

/** The nodes that a sampler, or the guider that stands in for its inputs, takes this role from. */
function entrances(graph: Graph, node: GraphNode, role: PromptRole): GraphNode[] {
  const guider = linked(graph, node, 'guider')
  const names = role === 'prompt' ? ['positive', 'conditioning'] : ['negative']
  const from = guider && guider !== node ? [node, guider] : [node]
  return from.flatMap((taker) => names.flatMap((name) => linked(graph, taker, name) ?? []))
}

/** A node that takes both conditionings hands on each by itself. */
function above(graph: Graph, node: GraphNode, role: PromptRole): GraphNode[] {
  const other = role === 'prompt' ? 'negative' : 'positive'
  const names = [...node.inputs.keys()].filter((name) => CONDITIONING.test(name) && name !== other)
  return names.flatMap((name) => linked(graph, node, name) ?? [])
}

/** The text of an encoder, or of the node that holds it for the encoder. */
function textOf(graph: Graph, node: GraphNode, deepest: number): TextPlace | undefined {
  for (const field of TEXT_FIELDS) {
    const text = literalText(node, field)
    if (text !== undefined) return { node, field, text }
    const holder = deepest > 0 ? linked(graph, node, field) : undefined
    const held = holder && textOf(graph, holder, deepest - 1)
    if (held) return held
  }
  return undefined
}
