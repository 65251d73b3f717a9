import type { ErrorDetail, WorkflowParameter } from '@cyberun/api'
import { type JsonObject, suggest } from '@cyberun/protocol'

/** What stands for a file until the tool has it: this and its key (docs/protocol.md, "Tasks"). */
const FILE_PLACEHOLDER = 'cyberun-file:'

type Segment = string

interface Injected {
  workflow_json: JsonObject
  parameters: readonly WorkflowParameter[]
}

/**
 * The workflow with the values of a run in their places. What a run does not give stays as the workflow has it. The
 * places were checked when the workflow was imported; one that is not there is passed over.
 */
export function injectParameters({ workflow_json, parameters }: Injected, values: JsonObject): JsonObject {
  let result: unknown = workflow_json
  for (const parameter of parameters) {
    const value = Object.hasOwn(values, parameter.key) ? values[parameter.key] : undefined
    const place = placeOf(parameter)
    if (value === undefined || place === undefined) continue
    const filled = withValue(result, place, parameter.type === 'file' ? `${FILE_PLACEHOLDER}${value}` : value)
    if (typeof filled === 'object') result = filled
  }
  return result as JsonObject
}

/** What is wrong with the places that parameters name, one detail for each fault; paths as in the body of an import. */
export function checkPlaces({ workflow_json, parameters }: Injected): ErrorDetail[] {
  return parameters.flatMap((parameter, index) => {
    const fault = placeFault(workflow_json, parameter)
    return fault === undefined ? [] : [{ path: `body.parameters.${index}.${fault.field}`, message: fault.message }]
  })
}

function placeOf({ node_id, field, target_path }: WorkflowParameter): Segment[] | undefined {
  if (isGiven(node_id) && isGiven(field)) return [node_id, 'inputs', field]
  return isGiven(target_path) ? target_path.split('.') : undefined
}

interface PlaceFault {
  field: 'node_id' | 'field' | 'target_path'
  message: string
}

function placeFault(graph: JsonObject, { node_id, field, target_path }: WorkflowParameter): PlaceFault | undefined {
  if (isGiven(target_path) && (isGiven(node_id) || isGiven(field))) {
    return { field: 'target_path', message: 'goes without node_id and field: a value has one place' }
  }
  if (isGiven(node_id)) return nodeFault(graph, node_id, field)
  if (isGiven(field)) return { field: 'node_id', message: 'is missing: a field belongs to a node' }
  return isGiven(target_path) ? pathFault(graph, target_path) : undefined
}

function nodeFault(graph: JsonObject, nodeId: string, field: string | null | undefined): PlaceFault | undefined {
  const inputs = inputsOf(graph, nodeId)
  if (inputs === undefined) return { field: 'node_id', message: `names no node of the graph${near(nodeId, graph)}` }
  if (!isGiven(field)) return { field: 'field', message: `is missing: which input of node ${nodeId} is it` }
  if (Object.hasOwn(inputs, field)) return undefined
  return { field: 'field', message: `names no input of node ${nodeId}${near(field, inputs)}` }
}

function near(name: string, known: object): string {
  const found = suggest(name, Object.keys(known))
  return found === undefined ? '' : `; did you mean ${found}?`
}

function inputsOf(graph: JsonObject, nodeId: string): object | undefined {
  const node: unknown = Object.hasOwn(graph, nodeId) ? graph[nodeId] : undefined
  if (typeof node !== 'object' || node === null || !('inputs' in node)) return undefined
  return typeof node.inputs === 'object' && node.inputs !== null ? node.inputs : undefined
}

/** The last name may be new; what comes before it must be an object or list, or be new as a whole. */
function pathFault(graph: JsonObject, path: string): PlaceFault | undefined {
  const segments = path.split('.')
  if (segments.some((segment) => segment === '' || segment === '__proto__')) {
    return { field: 'target_path', message: 'must be names joined by single dots' }
  }
  if (withValue(graph, segments, true) !== undefined) return undefined
  return { field: 'target_path', message: 'leads through something that is neither object nor list' }
}

/** A copy of `root` with the value at `place`, copied along the way only. Undefined when the way is barred. */
function withValue(root: unknown, place: readonly Segment[], value: unknown): unknown {
  const [name, ...rest] = place
  if (name === undefined) return value
  if (name === '__proto__') return undefined
  if (Array.isArray(root)) {
    const at = /^\d{1,6}$/.test(name) ? Number(name) : root.length
    if (at >= root.length) return undefined
    const inner = withValue(root[at], rest, value)
    return inner === undefined ? undefined : root.with(at, inner)
  }
  if (root !== undefined && (typeof root !== 'object' || root === null)) return undefined
  const known: JsonObject = { ...root }
  const inner = withValue(Object.hasOwn(known, name) ? known[name] : undefined, rest, value)
  return inner === undefined ? undefined : { ...known, [name]: inner }
}

function isGiven(name: string | null | undefined): name is string {
  return name !== null && name !== undefined && name !== ''
}
