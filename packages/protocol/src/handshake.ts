import { SessionFault } from './faults.ts'
import type { Hello, JsonObject, OpenInit, Priority, StreamTarget, Welcome } from './model.ts'
import { PRIORITY } from './model.ts'
import { utf8Decode, utf8Encode } from './utf8.ts'

const MAX_SOFTWARE_CHARACTERS = 200
const MAX_CAPABILITIES = 64
const MAX_CAPABILITY_CHARACTERS = 64
const MAX_WINDOW = 0x7fffffff

/** The payload of hello and of welcome: one JSON object, whose unknown members are skipped. */
export function encodeGreeting(greeting: Hello | Welcome): Uint8Array {
  return utf8Encode(
    JSON.stringify({
      software: greeting.software,
      capabilities: greeting.capabilities,
      initial_window: greeting.initialWindow,
      fields: greeting.fields,
    }),
  )
}

/** Reads a hello or a welcome; throws `SessionFault('handshake_invalid')` that names the member it did not like. */
export function decodeGreeting(payload: Uint8Array): Hello & Welcome {
  const greeting = parseObject(payload)
  if (!greeting) throw invalid('it is not a JSON object')
  const { software, capabilities, initial_window: initialWindow, fields } = greeting
  if (typeof software !== 'string' || software.length > MAX_SOFTWARE_CHARACTERS) throw invalid('software')
  if (!isCapabilityList(capabilities)) throw invalid('capabilities')
  if (!isWindow(initialWindow)) throw invalid('initial_window')
  if (!isObject(fields)) throw invalid('fields')
  return { software, capabilities, initialWindow, fields }
}

/** What an open frame asks for; `undefined` when its kind is one that this version does not know. */
export function decodeTarget(payload: Uint8Array): StreamTarget | undefined {
  const target = parseObject(payload)
  if (!target || typeof target['kind'] !== 'string') throw new SessionFault('frame_malformed', 'open without a kind')
  switch (target['kind']) {
    case 'tcp': {
      const port = target['port']
      if (!isInteger(port, 1, 65_535)) throw new SessionFault('frame_malformed', 'open of tcp without a port')
      return { kind: 'tcp', port }
    }
    case 'control':
    case 'echo':
    case 'task':
    case 'artifact':
    case 'input':
    case 'terminal':
      return { kind: target['kind'] }
    default:
      return undefined
  }
}

export function encodeTarget(target: OpenInit['target']): Uint8Array {
  return utf8Encode(JSON.stringify(target))
}

/** The priority with this number on the wire; one that a later version may bring counts as bulk. */
export function priorityOf(number: number): Priority {
  const found = PRIORITIES[number]
  return found ?? 'bulk'
}

const PRIORITIES: readonly Priority[] = (Object.keys(PRIORITY) as Priority[]).sort((a, b) => PRIORITY[a] - PRIORITY[b])

function invalid(what: string): SessionFault {
  return new SessionFault('handshake_invalid', `the greeting is not valid: ${what}`)
}

function parseObject(payload: Uint8Array): JsonObject | undefined {
  const text = utf8Decode(payload)
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    // JSON.parse throws for exactly one reason.
    return undefined
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isInteger(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most
}

function isWindow(value: unknown): value is number {
  return isInteger(value, 0, MAX_WINDOW)
}

function isCapabilityList(value: unknown): value is string[] {
  return (
    Array.isArray(value) &&
    value.length <= MAX_CAPABILITIES &&
    value.every((name) => typeof name === 'string' && name.length <= MAX_CAPABILITY_CHARACTERS)
  )
}
