import type { Decline, Outcome } from '../tool.ts'
import type { NodeFailure } from './answers.ts'
import { namesModel } from './graph.ts'
import type { ComfyuiRefusal } from './http.ts'
import { asArray, asObject, asText } from './json.ts'

type Failure = Extract<Outcome, { kind: 'failed' }>

/** More faults than this of one graph are counted, not told. */
const MOST_TOLD = 5

/** One thing that ComfyUI finds wrong with a node. */
interface NodeFault {
  readonly nodeId: string
  readonly classType: string
  readonly type: string
  readonly text: string
  readonly input: string | undefined
  readonly value: unknown
}

/** What a refused `POST /prompt` means: another machine may have what is missing; the rest is the caller's. */
export function explainRefusal(refusal: ComfyuiRefusal): Failure {
  const answer = asObject(refusal.body)
  const error = asObject(answer?.['error'])
  if (refusal.status !== 400 || error === undefined) {
    const said =
      typeof refusal.body === 'string' ? refusal.body.split('\n').find((line) => line.trim() !== '') : undefined
    return {
      kind: 'failed',
      code: 'comfyui_refused',
      message: `${refusal.message}${said === undefined ? '' : `: ${said}`}.`,
      fault: 'infrastructure',
    }
  }
  const missingClass = missingNodeClass(error)
  if (missingClass !== undefined) return missingNode(missingClass)
  const faults = readNodeErrors(answer?.['node_errors'])
  return faults.length > 0 ? explainFaults(faults) : invalid(`ComfyUI refuses the workflow: ${sentence(error)}`)
}

/**
 * What non-empty `node_errors` of an accepted prompt mean: ComfyUI would run the rest and leave these outputs out in
 * silence. Undefined when there are none.
 */
export function explainNodeErrors(nodeErrors: unknown): Failure | undefined {
  const faults = readNodeErrors(nodeErrors)
  if (faults.length > 0) return explainFaults(faults)
  const nodes = Object.keys(asObject(nodeErrors) ?? {})
  return nodes.length === 0 ? undefined : invalid(`ComfyUI would leave out node ${nodes.join(', ')} of the workflow.`)
}

export function missingModel(model: string): Failure & { readonly fault: 'missing' } {
  return {
    kind: 'failed',
    code: 'missing_model',
    message: `The model ${model} is not on this machine.`,
    fault: 'missing',
  }
}

export function missingNode(classType: string): Failure & { readonly fault: 'missing' } {
  const message = `The node class ${classType} is not installed in this machine's ComfyUI.`
  return { kind: 'failed', code: 'missing_node', message, fault: 'missing' }
}

/** The same fault found before the task was taken. */
export function asDecline(failure: Failure & { readonly fault: 'missing' }, detail: string): Decline {
  return {
    reason: failure.code === 'missing_node' ? 'missing_node' : 'missing_model',
    message: failure.message,
    detail,
  }
}

/** What kind of trouble a node's exception is. */
export function judgeFailure(failure: NodeFailure): 'out_of_memory' | 'gpu_fault' | 'node' {
  const text = `${failure.exceptionType} ${failure.message}`
  if (/OutOfMemoryError$/.test(failure.exceptionType) || /\bout of memory\b/i.test(failure.message))
    return 'out_of_memory'
  if (
    /illegal memory access|device-side assert|unspecified launch failure|CUDA error|HIP error|CUDNN_STATUS/i.test(text)
  ) {
    return 'gpu_fault'
  }
  return 'node'
}

/** `Node 4 (KSampler): RuntimeError: mat1 and mat2 shapes cannot be multiplied`. */
export function describeFailure(failure: NodeFailure): string {
  const where = failure.nodeId === '' ? 'A node' : `Node ${failure.nodeId} (${failure.nodeType})`
  const type = failure.exceptionType === '' ? '' : `${failure.exceptionType}: `
  return `${where} failed: ${type}${failure.message || 'ComfyUI does not say why'}`
}

function explainFaults(faults: readonly NodeFault[]): Failure {
  for (const { type, input, value } of faults) {
    if (type === 'value_not_in_list' && input !== undefined && typeof value === 'string' && namesModel(input, value)) {
      return missingModel(value)
    }
  }
  const told = faults.slice(0, MOST_TOLD).map((fault) => `node ${fault.nodeId} (${fault.classType}): ${fault.text}`)
  const rest = faults.length > MOST_TOLD ? `; and ${faults.length - MOST_TOLD} more` : ''
  return invalid(`ComfyUI refuses the workflow: ${told.join('; ')}${rest}.`)
}

function missingNodeClass(error: NonNullable<ReturnType<typeof asObject>>): string | undefined {
  const named = asText(asObject(error['extra_info'])?.['class_type'])
  if (asText(error['type']) === 'missing_node_type') return named
  // Before there was a type for it, the class stood in the sentence only.
  return /because node (.+) does not exist/.exec(asText(error['message']) ?? '')?.[1]
}

function readNodeErrors(raw: unknown): NodeFault[] {
  return Object.entries(asObject(raw) ?? {}).flatMap(([nodeId, about]) => {
    const node = asObject(about)
    return asArray(node?.['errors']).map((item): NodeFault => {
      const error = asObject(item) ?? {}
      const info = asObject(error['extra_info'])
      return {
        nodeId,
        classType: asText(node?.['class_type']) ?? '',
        type: asText(error['type']) ?? '',
        text: sentence(error),
        input: asText(info?.['input_name']),
        value: info?.['received_value'],
      }
    })
  })
}

function sentence(error: NonNullable<ReturnType<typeof asObject>>): string {
  const [message, details] = [asText(error['message']) ?? '', asText(error['details']) ?? '']
  return [message, details].filter((part) => part !== '').join(': ')
}

function invalid(message: string): Failure {
  return { kind: 'failed', code: 'invalid_workflow', message, fault: 'client' }
}
