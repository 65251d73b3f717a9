import { isDeepStrictEqual } from 'node:util'
import type { ComfyuiGeneration } from './faults.ts'
import type { Folders } from './folders.ts'
import type { InputSpec, NodeClass } from './node-classes.ts'

export interface GraphNode {
  class_type: string
  inputs: Record<string, unknown>
}
export type Graph = Record<string, GraphNode>

interface Reason {
  type: string
  message: string
  details: string
  extra_info: Record<string, unknown>
}
export type NodeErrors = Record<string, { errors: Reason[]; dependent_outputs: string[]; class_type: string }>

export type Validation =
  | { kind: 'valid'; outputs: string[]; nodeErrors: NodeErrors }
  | { kind: 'invalid'; error: Reason; nodeErrors: NodeErrors }

/** A link of a graph: `[node id, index of its output]`. */
export function isLink(value: unknown): value is [node: string, output: number] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && typeof value[1] === 'number'
}

/** Judges a graph as `execution.validate_prompt` does: one valid output node is enough. */
export function validate(
  graph: Graph,
  classes: Readonly<Record<string, NodeClass>>,
  folders: Folders,
  generation: ComfyuiGeneration,
): Validation {
  const missing = missingClass(graph, classes, generation)
  if (missing !== undefined) return { kind: 'invalid', error: missing, nodeErrors: {} }
  const outputs = Object.keys(graph).filter((id) => classes[graph[id]?.class_type ?? '']?.isOutput)
  if (outputs.length === 0) {
    return { kind: 'invalid', error: reason('prompt_no_outputs', 'Prompt has no outputs', ''), nodeErrors: {} }
  }
  const judge = new Judge(graph, classes, folders, generation)
  const good = outputs.filter((id) => judge.passes(id, []))
  const failed = outputs.filter((id) => !good.includes(id))
  const nodeErrors = judge.nodeErrors(failed)
  if (good.length > 0) return { kind: 'valid', outputs: good, nodeErrors }
  // What is wrong upstream of the output node is not among the details.
  const details = failed.flatMap((id) => judge.reasons(id)).map((why) => `${why.message}: ${why.details}`)
  const error = reason('prompt_outputs_failed_validation', 'Prompt outputs failed validation', details.join('\n'))
  return { kind: 'invalid', error, nodeErrors }
}

function missingClass(
  graph: Graph,
  classes: Readonly<Record<string, NodeClass>>,
  generation: ComfyuiGeneration,
): Reason | undefined {
  const isModern = generation === 'modern'
  for (const [id, node] of Object.entries(graph)) {
    const title = { node_id: id, class_type: node.class_type ?? null, node_title: node.class_type ?? '' }
    if (node.class_type === undefined) {
      const message = 'Cannot execute because a node is missing the class_type property.'
      return reason(
        isModern ? 'missing_node_type' : 'invalid_prompt',
        message,
        `Node ID '#${id}'`,
        isModern ? title : {},
      )
    }
    if (classes[node.class_type] === undefined) {
      return isModern
        ? reason(
            'missing_node_type',
            `Node '${node.class_type}' not found. The custom node may not be installed.`,
            `Node ID '#${id}'`,
            title,
          )
        : reason('invalid_prompt', `Cannot execute because node ${node.class_type} does not exist.`, `Node ID '#${id}'`)
    }
  }
  return undefined
}

/** Judges each node once, from the outputs towards what they need. */
class Judge {
  readonly #graph: Graph
  readonly #classes: Readonly<Record<string, NodeClass>>
  readonly #folders: Folders
  readonly #generation: ComfyuiGeneration
  readonly #verdicts = new Map<string, { valid: boolean; reasons: Reason[] }>()

  constructor(
    graph: Graph,
    classes: Readonly<Record<string, NodeClass>>,
    folders: Folders,
    generation: ComfyuiGeneration,
  ) {
    this.#graph = graph
    this.#classes = classes
    this.#folders = folders
    this.#generation = generation
  }

  reasons(id: string): Reason[] {
    return this.#verdicts.get(id)?.reasons ?? []
  }

  nodeErrors(failed: readonly string[]): NodeErrors {
    if (failed.length === 0) return {}
    return Object.fromEntries(
      [...this.#verdicts]
        .filter(([, { reasons }]) => reasons.length > 0)
        .map(([id, { reasons }]) => [
          id,
          { errors: reasons, dependent_outputs: [...failed], class_type: this.#graph[id]?.class_type ?? '' },
        ]),
    )
  }

  /** `path` are the nodes that asked, for cycles. */
  passes(id: string, path: readonly string[]): boolean {
    const known = this.#verdicts.get(id)
    if (known !== undefined) return known.valid
    if (path.includes(id)) throw new CycleFound(id)
    const verdict = this.#judge(id, [...path, id])
    this.#verdicts.set(id, verdict)
    return verdict.valid
  }

  #judge(id: string, path: readonly string[]): { valid: boolean; reasons: Reason[] } {
    const node = this.#graph[id]
    const type = this.#classes[node?.class_type ?? '']
    if (node === undefined || type === undefined) throw new Error(`no node ${id}`)
    const reasons: Reason[] = []
    let valid = true
    const specs = Object.entries({ ...type.required, ...type.optional })
    const own = type.validate?.(node.inputs, this.#folders)
    for (const [name, spec] of specs) {
      const value = node.inputs[name]
      if (value === undefined) {
        if (name in type.required)
          reasons.push(reason('required_input_missing', 'Required input is missing', name, { input_name: name }))
      } else if (Array.isArray(value)) {
        const found = this.#judgeLink(name, spec, value, path)
        if (found === 'upstream') valid = false
        else if (found !== undefined) reasons.push(found)
      } else if (own === undefined) {
        const found = judgeValue(node, name, spec)
        if (found !== undefined) reasons.push(found)
      }
    }
    for (const [name, what] of Object.entries(own ?? {})) {
      reasons.push(
        reason('custom_validation_failed', 'Custom validation failed for node', `${name} - ${what}`, {
          input_name: name,
        }),
      )
    }
    return { valid: valid && reasons.length === 0, reasons }
  }

  #judgeLink(name: string, spec: InputSpec, link: unknown[], path: readonly string[]): Reason | 'upstream' | undefined {
    if (!isLink(link)) {
      return reason('bad_linked_input', 'Bad linked input, must be a length-2 list of [node_id, slot_index]', name, {
        input_name: name,
        received_value: link,
      })
    }
    const [from, output] = link
    const given = this.#classes[this.#graph[from]?.class_type ?? '']?.outputs[output]
    if (given === undefined) return reason('exception_during_validation', 'Exception when validating node', `'${from}'`)
    if (given !== '*' && spec[0] !== '*' && !isDeepStrictEqual(given, spec[0])) {
      return reason(
        'return_type_mismatch',
        'Return type mismatch between linked nodes',
        `${name}, received_type(${given}) mismatch input_type(${spec[0]})`,
        {
          input_name: name,
          received_type: given,
          linked_node: link,
        },
      )
    }
    try {
      return this.passes(from, path) ? undefined : 'upstream'
    } catch (error) {
      if (!(error instanceof CycleFound) || this.#generation !== 'modern') {
        if (error instanceof CycleFound) return 'upstream'
        throw error
      }
      return reason('dependency_cycle', 'Dependency cycle detected', name, { input_name: name })
    }
  }
}

class CycleFound extends Error {}

/** Converts plain values as ComfyUI does, in place, then checks bounds and lists. */
function judgeValue(node: GraphNode, name: string, [type, extra]: InputSpec): Reason | undefined {
  let value = node.inputs[name]
  if (type === 'INT' || type === 'FLOAT') {
    value = type === 'INT' ? Math.trunc(Number(value)) : Number(value)
    if (Number.isNaN(value)) {
      return reason(
        'invalid_input_type',
        `Failed to convert an input value to a ${type} value`,
        `${name}, ${node.inputs[name]}`,
        {
          input_name: name,
          received_value: node.inputs[name],
        },
      )
    }
  } else if (type === 'STRING') value = String(value)
  else if (type === 'BOOLEAN') value = Boolean(value)
  node.inputs[name] = value
  const info = { input_name: name, received_value: value }
  if (typeof value === 'number' && typeof extra?.['min'] === 'number' && value < extra['min']) {
    return reason('value_smaller_than_min', `Value ${value} smaller than min of ${extra['min']}`, name, info)
  }
  if (typeof value === 'number' && typeof extra?.['max'] === 'number' && value > extra['max']) {
    return reason('value_bigger_than_max', `Value ${value} bigger than max of ${extra['max']}`, name, info)
  }
  if (typeof type !== 'string' && !type.includes(String(value))) {
    const list =
      type.length > 20 ? `(list of length ${type.length})` : `[${type.map((item) => `'${item}'`).join(', ')}]`
    return reason('value_not_in_list', 'Value not in list', `${name}: '${value}' not in ${list}`, info)
  }
  return undefined
}

function reason(type: string, message: string, details: string, extra_info: Record<string, unknown> = {}): Reason {
  return { type, message, details, extra_info }
}
