import type { WorkflowParameter } from '@cyberun/api'
import { suggest } from '@cyberun/protocol'
import { CliError } from '../errors.ts'

/** `-p key=value` and `-f key=path`, in the order they were given. */
export interface GivenValue {
  key: string
  text: string
}

/** Reads one `key=value`. Throws a `CliError` that shows the right form. */
export function readPair(option: string, text: string): GivenValue {
  const at = text.indexOf('=')
  if (at > 0) return { key: text.slice(0, at), text: text.slice(at + 1) }
  throw new CliError('usage', 'usage', `${option} ${text} has no value: give ${option} key=value`)
}

/** Throws a `CliError` for a file that no parameter takes: nothing of it should leave the machine by a slip. */
export function checkFileKeys(
  known: readonly Pick<WorkflowParameter, 'key' | 'type'>[],
  given: readonly Pick<GivenValue, 'key'>[],
): void {
  const files = known.flatMap(({ key, type }) => (type === 'file' ? [key] : []))
  for (const { key } of given) {
    if (files.includes(key)) continue
    const type = known.find((parameter) => parameter.key === key)?.type
    const nearest = suggest(key, files)
    const advice = nearest === undefined ? `it takes ${files.join(', ') || 'no files'}` : `did you mean ${nearest}?`
    const fault = type ? `is a ${type}: give it with --parameter` : `is no parameter of this workflow; ${advice}`
    throw new CliError('usage', 'invalid_request', `--file ${key} ${fault}`)
  }
}

/**
 * The values that were given as text, as the types that the workflow's parameters have. What does not fit its type and
 * what the workflow does not know stays text: the server names every fault, with the nearest real parameter.
 */
export function typedParameters(
  known: readonly Pick<WorkflowParameter, 'key' | 'type' | 'options'>[],
  given: readonly GivenValue[],
): Record<string, unknown> {
  const byKey = new Map(known.map((parameter) => [parameter.key, parameter]))
  return Object.fromEntries(given.map(({ key, text }) => [key, typed(byKey.get(key), text)]))
}

function typed(parameter: Pick<WorkflowParameter, 'type' | 'options'> | undefined, text: string): unknown {
  switch (parameter?.type) {
    case 'number':
      return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text
    case 'boolean':
      return BOOLEANS[text.toLowerCase()] ?? text
    case 'select':
      return parameter.options?.find((option) => String(option) === text) ?? text
    default:
      return text
  }
}

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  on: true,
  false: false,
  no: false,
  off: false,
}
