/**
 * A list of header fields as it stood on the wire: names and values in turn, every duplicate, in order, in the case
 * the sender used, one character a byte (latin1).
 * Never an object: joining hides what a refusal must see.
 */
export type Fields = string[]

const LF = 10
const CR = 13
const SPACE = 32
const COLON = 58
const TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const TOKEN_CODES = Uint8Array.from({ length: 256 }, (_, code) =>
  TOKEN_CHARACTERS.includes(String.fromCharCode(code)) ? 1 : 0,
)

/** Whether this character may stand in a name (RFC 9110, section 5.6.2). */
export function isTokenCode(code: number): boolean {
  return TOKEN_CODES[code] === 1
}

/** Every value of the field called `lowerName`, in order. */
export function valuesOf(fields: Fields, lowerName: string): string[] {
  const values: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    if (nameIs(fields[i], lowerName)) values.push(fields[i + 1] ?? '')
  }
  return values
}

/** The first value of the field called `lowerName`. */
export function firstOf(fields: Fields, lowerName: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) {
    if (nameIs(fields[i], lowerName)) return fields[i + 1]
  }
  return undefined
}

function nameIs(name: string | undefined, lowerName: string): boolean {
  return name !== undefined && name.length === lowerName.length && name.toLowerCase() === lowerName
}

/** The members of a comma-separated list field, trimmed, empty ones dropped, over all its lines. */
export function listOf(fields: Fields, lowerName: string): string[] {
  const values = valuesOf(fields, lowerName)
  // By far the most messages have none, or one without a comma.
  if (values.length === 0 || (values.length === 1 && isMember(values[0] ?? ''))) return values
  return values
    .flatMap((value) => value.split(','))
    .map((member) => member.trim())
    .filter((member) => member !== '')
}

/** Whether a list of this one value is the value itself. */
function isMember(value: string): boolean {
  return value !== '' && !value.includes(',') && value.trim() === value
}

/**
 * Fields that concern one connection only (RFC 9110, section 7.6.1), and the credentials for a proxy: none crosses
 * the edge in either direction. What framing and upgrades need is added again by whoever writes the head.
 */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
])

/**
 * Tells which fields end at this hop: the fixed list, and whatever `Connection` names. A message names fields before
 * we add ours, so nobody can have ours dropped by naming them.
 */
export function endsHere(fields: Fields): (lowerName: string) => boolean {
  const named = listOf(fields, 'connection')
  // By far the most messages name only `keep-alive`, `close`, `TE` or `Upgrade`, which the fixed list holds.
  const others = named.map((name) => name.toLowerCase()).filter((name) => !HOP_BY_HOP.has(name) && name !== 'close')
  if (others.length === 0) return isHopByHop
  const all = new Set(others)
  return (lowerName) => HOP_BY_HOP.has(lowerName) || all.has(lowerName)
}

function isHopByHop(lowerName: string): boolean {
  return HOP_BY_HOP.has(lowerName)
}

/** Characters of a field's value: no control character but tab, and nothing that is no single byte. */
const VALUE_CODES = Uint8Array.from({ length: 256 }, (_, code) =>
  (code >= 0x20 && code !== 0x7f) || code === 0x09 ? 1 : 0,
)
/** Characters of whole lines that we have written ourselves. */
const LINE_CODES = new Uint8Array(256).fill(1)

/**
 * The bytes of an HTTP/1.1 message's head. Checks while writing that no name and no value can break out of its line,
 * wherever it came from; throws an `Error` otherwise, because that is our own bug. `lastLines` are field lines of ours,
 * each with its CRLF.
 */
export function formatHead(startLine: string, fields: Fields, lastLines = ''): Buffer {
  let length = startLine.length + lastLines.length + 4
  for (const part of fields) length += part.length + 2
  const bytes = Buffer.allocUnsafe(length)
  let at = endLine(bytes, put(bytes, 0, startLine, VALUE_CODES))
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? ''
    if (name === '') throw new Error('a field without a name cannot be written')
    at = put(bytes, at, name, TOKEN_CODES)
    bytes[at] = COLON
    bytes[at + 1] = SPACE
    at = endLine(bytes, put(bytes, at + 2, fields[i + 1] ?? '', VALUE_CODES))
  }
  endLine(bytes, put(bytes, at, lastLines, LINE_CODES))
  return bytes
}

/** Writes `text`, of these characters only, from `at` on, and returns where it ends. */
function put(bytes: Uint8Array, at: number, text: string, allowed: Uint8Array): number {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (allowed[code] !== 1) throw new Error(`the character ${code} cannot be written there in a head`)
    bytes[at + i] = code
  }
  return at + text.length
}

function endLine(bytes: Uint8Array, at: number): number {
  bytes[at] = CR
  bytes[at + 1] = LF
  return at + 2
}
