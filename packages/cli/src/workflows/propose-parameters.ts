import type { WorkflowParameter } from '@cyberun/api'
import { findTexts, type PromptRole } from './find-text.ts'
import type { Graph, GraphNode } from './graph.ts'

/** A parameter as it is imported: what it is called, where it goes, and what the graph has there now. */
export type Proposal = Pick<
  WorkflowParameter,
  'key' | 'type' | 'label' | 'required' | 'default' | 'min' | 'max' | 'accept' | 'node_id' | 'field'
> & { node_id: string; field: string }

interface Rule {
  key: string
  type: 'string' | 'number' | 'boolean'
  min?: number
  max?: number
  /** Only in nodes that have this input too: `width` alone means many things. */
  with?: string
}

/** Inputs that nearly always mean the same, by their names. Bounds are those of ComfyUI's own nodes. */
const RULES: Readonly<Record<string, Rule>> = {
  seed: { key: 'seed', type: 'number', min: 0, max: Number.MAX_SAFE_INTEGER },
  noise_seed: { key: 'seed', type: 'number', min: 0, max: Number.MAX_SAFE_INTEGER },
  steps: { key: 'steps', type: 'number', min: 1, max: 10_000 },
  cfg: { key: 'cfg', type: 'number', min: 0, max: 100 },
  guidance: { key: 'guidance', type: 'number', min: 0, max: 100 },
  denoise: { key: 'denoise', type: 'number', min: 0, max: 1 },
  sampler_name: { key: 'sampler', type: 'string' },
  scheduler: { key: 'scheduler', type: 'string' },
  width: { key: 'width', type: 'number', min: 16, max: 16_384, with: 'height' },
  height: { key: 'height', type: 'number', min: 16, max: 16_384, with: 'width' },
  batch_size: { key: 'batch_size', type: 'number', min: 1, max: 4_096 },
  length: { key: 'length', type: 'number', min: 1, max: 16_384, with: 'width' },
  fps: { key: 'fps', type: 'number', min: 0.01, max: 1_000 },
  frame_rate: { key: 'fps', type: 'number', min: 0.01, max: 1_000 },
  ckpt_name: { key: 'model', type: 'string' },
  unet_name: { key: 'model', type: 'string' },
  lora_name: { key: 'lora', type: 'string' },
  strength_model: { key: 'lora_strength', type: 'number', min: -100, max: 100 },
}

/** Nodes that read a file of the caller's, by class, and the input that names it. */
const FILES: readonly { classType: RegExp; field: string; key: string; accept: string }[] = [
  { classType: /^LoadImageMask$/, field: 'image', key: 'mask', accept: 'image/*' },
  { classType: /^LoadImage|LoadImage$/, field: 'image', key: 'image', accept: 'image/*' },
  { classType: /LoadVideo/, field: 'video', key: 'video', accept: 'video/*' },
  { classType: /LoadVideo/, field: 'file', key: 'video', accept: 'video/*' },
  { classType: /LoadAudio/, field: 'audio', key: 'audio', accept: 'audio/*' },
  { classType: /^Load3D/, field: 'model_file', key: 'mesh', accept: '.glb,.gltf,.obj,.fbx,.stl' },
]

/**
 * What a run of this graph may be asked for, prompts first. A prompt is found by following links from samplers to what
 * encodes a text, everything else by the names of inputs. Only places with a value of their own: a link is the graph's.
 */
export function proposeParameters(graph: Graph): Proposal[] {
  const nodes = [...graph.values()]
  const prompts = proposePrompts(graph, nodes)
  const files = nodes.flatMap((node) => proposeFiles(node))
  const named = nodes.flatMap((node) => proposeByName(node))
  return withUniqueKeys([...prompts, ...files, ...named])
}

function proposePrompts(graph: Graph, nodes: readonly GraphNode[]): Proposal[] {
  const proposals = new Map<string, Proposal>()
  for (const role of ['prompt', 'negative'] satisfies PromptRole[]) {
    for (const { node, field, text } of nodes.flatMap((sampler) => findTexts(graph, sampler, role))) {
      const place = `${node.id}.${field}`
      // A text that is wanted and avoided alike is the prompt: a zeroed copy of it is a usual negative.
      if (proposals.has(place)) continue
      proposals.set(place, { ...placed(node, field), key: role, type: 'string', required: false, default: text })
    }
  }
  return [...proposals.values()]
}

function proposeFiles(node: GraphNode): Proposal[] {
  const rule = FILES.find(({ classType, field }) => classType.test(node.classType) && node.inputs.has(field))
  if (!rule || node.inputs.get(rule.field)?.kind !== 'value') return []
  // The name in the graph is a file of the machine it was made on, so it is no default.
  return [{ ...placed(node, rule.field), key: rule.key, type: 'file', required: true, accept: rule.accept }]
}

function proposeByName(node: GraphNode): Proposal[] {
  return [...node.inputs].flatMap(([field, input]) => {
    const rule = Object.hasOwn(RULES, field) ? RULES[field] : undefined
    if (!rule || input.kind !== 'value' || typeof input.value !== rule.type) return []
    if (rule.with !== undefined && !node.inputs.has(rule.with)) return []
    const { key, type, min, max } = rule
    const bounds = { ...(min !== undefined && { min }), ...(max !== undefined && { max }) }
    return [{ ...placed(node, field), key, type, required: false, default: asDefault(input.value, bounds), ...bounds }]
  })
}

/** Seeds of ComfyUI go beyond what JSON carries exactly. */
function asDefault(value: unknown, { min, max }: { min?: number; max?: number }): string | number | boolean {
  if (typeof value !== 'number') return typeof value === 'boolean' ? value : String(value)
  return Math.min(Math.max(value, min ?? value), max ?? value)
}

function placed(node: GraphNode, field: string): Pick<Proposal, 'node_id' | 'field' | 'label'> {
  return { node_id: node.id, field, ...(node.title !== undefined && { label: node.title.slice(0, 200) }) }
}

/** The first keeps the plain name, the next are `seed_2`, `seed_3`. */
function withUniqueKeys(proposals: readonly Proposal[]): Proposal[] {
  const counts = new Map<string, number>()
  return proposals.map((proposal) => {
    const count = (counts.get(proposal.key) ?? 0) + 1
    counts.set(proposal.key, count)
    return count === 1 ? proposal : { ...proposal, key: `${proposal.key}_${count}` }
  })
}
