import { type Fields, isTokenCode } from './fields.ts'
import { SectionBytes } from './section-bytes.ts'

/** What requests and answers have in common on the wire (RFC 9112, sections 2.1, 5): lines, sections of lines, fields. */

/** A message breaks RFC 9112 or a bound. `message` is what was found, as an object: "a folded header field". */
export class SyntaxFault extends Error {
  override readonly name = 'SyntaxFault'
  /** It may be right, but is more than we hold. */
  readonly isTooLong: boolean

  constructor(found: string, isTooLong = false) {
    super(found)
    this.isTooLong = isTooLong
  }
}

const LF = 10
const CR = 13
const COLON = 58
/** All control characters but tab, CR and LF, which the scan for lines judges. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
const CONTROL = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/

/** Gathers lines up to and including an empty one: a head, or the trailers of a chunked body. */
export class SectionReader {
  readonly #limitBytes: number
  readonly #held = new SectionBytes()
  /** The section that `read` completed, without the CRLF of its empty line: each line still has its own. */
  text = ''

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** Bytes of an unfinished section. */
  get heldBytes(): number {
    return this.#held.length
  }

  /** What is held up to and without the first line's LF, or all of it. */
  get firstLine(): string {
    return this.#held.textUntil(LF)
  }

  /** Returns where the section ends in `bytes`; undefined when it goes on after them, and they are held. */
  read(bytes: Uint8Array, at: number): number | undefined {
    for (let lf = at; lf < bytes.length; lf++) {
      if (bytes[lf] !== LF) continue
      if (this.#byteBefore(bytes, at, lf, 1) !== CR) throw new SyntaxFault('a line that ends in a bare LF')
      this.#checkLength(lf - at)
      const beforeCr = this.#byteBefore(bytes, at, lf, 2)
      if (beforeCr === LF || beforeCr === undefined) {
        this.text = this.#takeText(bytes, at, lf + 1)
        return lf + 1
      }
    }
    this.#checkLength(bytes.length - at)
    this.#held.append(bytes, at, bytes.length)
    return undefined
  }

  /** A slice of a string is slower to read than a string: the usual section becomes text without its last two bytes. */
  #takeText(bytes: Uint8Array, at: number, end: number): string {
    return end - at >= 2 ? this.#held.take(bytes, at, end - 2) : this.#held.take(bytes, at, end).slice(0, -2)
  }

  /** The byte `back` places before `index`, in what came with this read from `at` on or in what is held before it. */
  #byteBefore(bytes: Uint8Array, at: number, index: number, back: number): number | undefined {
    const place = index - back
    return place >= at ? bytes[place] : this.#held.last(at - place)
  }

  #checkLength(more: number): void {
    if (this.#held.length + more > this.#limitBytes) throw new SyntaxFault('a head longer than we take', true)
  }
}

/**
 * The field lines in `text`, whose lines all end with CRLF, after the line that ends at `lineEnd`. This runs for every
 * message: each character is looked at once, and no regular expression is asked.
 */
export function parseFields(text: string, lineEnd: number, maxFields: number): Fields {
  const fields: Fields = []
  for (let at = lineAfter(text, lineEnd); at < text.length; ) {
    let colon = at
    while (isTokenCode(text.charCodeAt(colon))) colon++
    if (colon === at || text.charCodeAt(colon) !== COLON) throw nameFault(text, at, colon)
    const from = skipBlanks(text, colon + 1)
    const end = valueEnd(text, from)
    fields.push(text.slice(at, colon), text.slice(from, skipBlanksBack(text, from, end)))
    if (fields.length > 2 * maxFields) throw new SyntaxFault('more header fields than we take', true)
    at = lineAfter(text, end)
  }
  return fields
}

function nameFault(text: string, at: number, faultAt: number): SyntaxFault {
  if (isControl(text.charCodeAt(faultAt))) return new SyntaxFault('a control character in its head')
  return new SyntaxFault(isBlank(text.charCodeAt(at)) ? 'a folded header field' : 'a malformed header field')
}

/** The first CR from `from` on. */
function valueEnd(text: string, from: number): number {
  let at = from
  for (let code = text.charCodeAt(at); code !== CR; code = text.charCodeAt(++at)) {
    if (isControl(code)) throw new SyntaxFault('a control character in its head')
  }
  return at
}

/** Where the line after the one that ends at `lineEnd` begins. A CR that ends none is refused. */
function lineAfter(text: string, lineEnd: number): number {
  if (text.charCodeAt(lineEnd + 1) !== LF) throw new SyntaxFault('a CR that ends no line')
  return lineEnd + 2
}

/** All control characters but tab, CR and LF, which the scan for lines judges; and what is no character at all. */
function isControl(code: number): boolean {
  return !(code >= 0x20 || code === 0x09 || code === CR || code === LF) || code === 0x7f
}

function skipBlanks(text: string, from: number): number {
  let at = from
  while (isBlank(text.charCodeAt(at))) at++
  return at
}

function skipBlanksBack(text: string, from: number, end: number): number {
  let at = end
  while (at > from && isBlank(text.charCodeAt(at - 1))) at--
  return at
}

/** Space or tab; no other character is white space around a value (RFC 9110, section 5.6.3). */
function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** The `size;extensions` line of a chunk, CRLF included, and the size it names (RFC 9112, section 7.1). */
export function parseChunkLine(line: string): number {
  const [, digits] = (line.endsWith('\r\n') && !CONTROL.test(line) && CHUNK_LINE.exec(line.slice(0, -2))) || []
  if (digits === undefined) throw new SyntaxFault('a malformed chunk size')
  return Number.parseInt(digits, 16)
}

/** A size line: hexadecimal digits, then extensions we skip. 13 digits stay below 2^53. */
const CHUNK_LINE = /^([0-9A-Fa-f]{1,13})(?:[ \t]*;.*)?$/
