import type { ErrorDetail, WorkflowParameter } from '@cyberun/api'
import { type JsonObject, suggest, unreachable } from '@cyberun/protocol'

export type CheckedParameters =
  | {
      kind: 'valid'
      /** What was given, and the defaults of what was not. */
      parameters: JsonObject
      fileKeys: { parameter: string; fileKey: string }[]
    }
  /** One detail for each fault. */
  | { kind: 'invalid'; details: ErrorDetail[] }

/**
 * Holds what a run was given against what its workflow asks for. Values are taken as they are, never converted; `null`
 * is as good as nothing. A name that the workflow does not have is a fault, named with the nearest that it has.
 */
export function checkParameters(asked: readonly WorkflowParameter[], given: JsonObject): CheckedParameters {
  const details = unknownNames(asked, given)
  const parameters: [string, unknown][] = []
  const fileKeys: { parameter: string; fileKey: string }[] = []
  for (const parameter of asked) {
    const { key } = parameter
    const value = givenValue(given, key) ?? parameter.default ?? undefined
    const fault = value === undefined ? missingFault(parameter) : valueFault(parameter, value)
    if (fault !== undefined) details.push({ path: pathOf(key), message: fault })
    else if (value !== undefined) parameters.push([key, value])
    if (parameter.type === 'file' && typeof value === 'string') fileKeys.push({ parameter: key, fileKey: value })
  }
  if (details.length > 0) return { kind: 'invalid', details }
  return { kind: 'valid', parameters: Object.fromEntries(parameters), fileKeys }
}

function unknownNames(asked: readonly WorkflowParameter[], given: JsonObject): ErrorDetail[] {
  const names = asked.map(({ key }) => key)
  return Object.keys(given)
    .filter((key) => !names.includes(key))
    .map((key) => ({ path: pathOf(key), message: `is no parameter of this workflow; ${hint(key, names)}` }))
}

function hint(key: string, names: readonly string[]): string {
  if (names.length === 0) return 'it has none'
  const near = suggest(key, names)
  return near === undefined ? `it has ${names.slice(0, 20).join(', ')}` : `did you mean ${near}?`
}

function givenValue(given: JsonObject, key: string): unknown {
  return Object.hasOwn(given, key) ? given[key] : undefined
}

function missingFault({ required }: WorkflowParameter): string | undefined {
  return required ? 'is required' : undefined
}

/** What is wrong with a value, as the end of a sentence that begins with its path. */
function valueFault(parameter: WorkflowParameter, value: unknown): string | undefined {
  const { type } = parameter
  switch (type) {
    case 'string':
      return typeof value === 'string'
        ? boundsFault(parameter, [...value].length, ' characters')
        : expected('text', value)
    case 'number':
      return typeof value === 'number' ? boundsFault(parameter, value, '') : expected('a number', value)
    case 'boolean':
      return typeof value === 'boolean' ? undefined : expected('true or false', value)
    case 'select':
      return optionFault(parameter, value)
    case 'file':
      return typeof value === 'string' && value !== '' ? undefined : expected('the file_key of an upload', value)
    default:
      return unreachable(type)
  }
}

function boundsFault({ min, max }: WorkflowParameter, size: number, unit: string): string | undefined {
  const least = min ?? Number.NEGATIVE_INFINITY
  const most = max ?? Number.POSITIVE_INFINITY
  if (size < least) return `must be at least ${least}${unit}`
  return size > most ? `must be at most ${most}${unit}` : undefined
}

function optionFault({ options }: WorkflowParameter, value: unknown): string | undefined {
  if (options === null || options === undefined || options.some((option) => option === value)) return undefined
  const named = options.map(String)
  const near = typeof value === 'string' ? suggest(value, named) : undefined
  return near === undefined ? `must be one of ${named.slice(0, 20).join(', ')}` : `is no option; did you mean ${near}?`
}

function expected(what: string, value: unknown): string {
  const got = Array.isArray(value) ? 'a list' : typeof value
  return `must be ${what}, but is ${got === 'object' ? 'an object' : got}`
}

function pathOf(key: string): string {
  return `body.parameters.${key}`
}
