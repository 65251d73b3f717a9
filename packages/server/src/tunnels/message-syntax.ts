import { type Fields, TOKEN } from './fields.ts'
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
    for (let lf = bytes.indexOf(LF, at); lf >= 0; lf = bytes.indexOf(LF, lf + 1)) {
      if (this.#byteBefore(bytes, at, lf, 1) !== CR) throw new SyntaxFault('a line that ends in a bare LF')
      this.#checkLength(lf - at)
      const beforeCr = this.#byteBefore(bytes, at, lf, 2)
      if (beforeCr === LF || beforeCr === undefined) {
        this.text = this.#held.take(bytes, at, lf + 1).slice(0, -2)
        return lf + 1
      }
    }
    this.#checkLength(bytes.length - at)
    this.#held.append(bytes, at, bytes.length)
    return undefined
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

/** The field lines in `text` after the line that ends at `lineEnd`. One scan: this runs for every message. */
export function parseFields(text: string, lineEnd: number, maxFields: number): Fields {
  if (CONTROL.test(text)) throw new SyntaxFault('a control character in its head')
  const fields: Fields = []
  let end = lineEnd
  for (let at = lineAfter(text, end); at < text.length; at = lineAfter(text, end)) {
    end = text.indexOf('\r', at)
    const colon = text.indexOf(':', at)
    const name = text.slice(at, Math.max(at, colon))
    if (colon > end || !TOKEN.test(name)) {
      throw new SyntaxFault(isBlank(text.charCodeAt(at)) ? 'a folded header field' : 'a malformed header field')
    }
    fields.push(name, text.slice(skipBlanks(text, colon + 1, end), skipBlanksBack(text, colon + 1, end)))
    if (fields.length > 2 * maxFields) throw new SyntaxFault('more header fields than we take', true)
  }
  return fields
}

/** Where the line after the one that ends at `lineEnd` begins. A CR that ends none is refused. */
function lineAfter(text: string, lineEnd: number): number {
  if (text.charCodeAt(lineEnd + 1) !== LF) throw new SyntaxFault('a CR that ends no line')
  return lineEnd + 2
}

function skipBlanks(text: string, from: number, end: number): number {
  let at = from
  while (at < end && isBlank(text.charCodeAt(at))) at++
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
