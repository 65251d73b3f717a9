import { TERMINAL_LIMITS } from '@cyberun/protocol'

/** DEC private modes that change how later output looks or how typing is sent (xterm's control sequences, "DECSET"). */
const MODES = new Set([
  1, 5, 6, 7, 9, 12, 25, 45, 47, 66, 1000, 1002, 1003, 1005, 1006, 1015, 1016, 1047, 1048, 1049, 2004,
])
const ALTERNATE_SCREENS = [47, 1047, 1049]
/** Longer parameters than these are no sequence that anybody means. */
const MOST_PARAMETERS = 64
const MOST_COLOURS = 32

const ESC = 0x1b
const CAN = 0x18
const SUB = 0x1a
const BEL = 0x07

type ParserState =
  | { kind: 'text' }
  | { kind: 'escape'; intermediates: string }
  | { kind: 'control'; parameters: string }
  /** OSC, DCS and the like: until BEL or ST. */
  | { kind: 'string'; escaped: boolean }

const TEXT: ParserState = { kind: 'text' }

/**
 * What output has set in a terminal that reads it: modes, colours, character set, scroll region. With it a terminal that
 * begins in the middle shows the rest as one that saw all of it. It follows the states of ECMA-48 and nothing of the text.
 */
export class TerminalModes {
  #state: ParserState = TEXT
  readonly #modes = new Map<number, boolean>()
  #colours: string[] = []
  #charset = ''
  #region = ''
  #keypad = ''

  copy(): TerminalModes {
    const copy = new TerminalModes()
    copy.#state = { ...this.#state }
    for (const [mode, isSet] of this.#modes) copy.#modes.set(mode, isSet)
    copy.#colours = [...this.#colours]
    copy.#charset = this.#charset
    copy.#region = this.#region
    copy.#keypad = this.#keypad
    return copy
  }

  /** No sequence is under way: what comes next is text, or begins a sequence. */
  get isBetween(): boolean {
    return this.#state.kind === 'text'
  }

  /** A full-screen program has drawn: what it drew before is not in later output. */
  get isAlternateScreen(): boolean {
    return ALTERNATE_SCREENS.some((mode) => this.#modes.get(mode) === true)
  }

  /** Sequences that set all this in a terminal that has just been reset. */
  get prefix(): string {
    const modes = [...this.#modes].map(([mode, isSet]) => `\x1b[?${mode}${isSet ? 'h' : 'l'}`)
    const colours = this.#colours.map((parameters) => `\x1b[${parameters}m`)
    const prefix = [...modes, this.#region, this.#charset, this.#keypad, ...colours].join('')
    return prefix.length <= TERMINAL_LIMITS.prefixCharacters ? prefix : ''
  }

  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) {
      if (this.#state.kind === 'text') {
        // Nearly all of any output: nothing to look at until the next sequence.
        at = bytes.indexOf(ESC, at)
        if (at === -1) return
        this.#state = { kind: 'escape', intermediates: '' }
      } else this.#step(bytes[at] ?? 0)
    }
  }

  #step(byte: number): void {
    const state = this.#state
    if (byte === CAN || byte === SUB) this.#state = TEXT
    else if (state.kind === 'string') this.#inString(state, byte)
    else if (byte === ESC) this.#state = { kind: 'escape', intermediates: '' }
    else if (state.kind === 'escape') this.#inEscape(state, byte)
    else if (state.kind === 'control') this.#inControl(state, byte)
  }

  #inString(state: ParserState & { kind: 'string' }, byte: number): void {
    if (byte === BEL) this.#state = TEXT
    else if (state.escaped) {
      // ESC ends a string whatever follows it; the backslash is the usual one.
      this.#state = { kind: 'escape', intermediates: '' }
      this.#step(byte)
    } else if (byte === ESC) state.escaped = true
  }

  #inEscape(state: ParserState & { kind: 'escape' }, byte: number): void {
    const final = String.fromCharCode(byte)
    if (byte >= 0x20 && byte <= 0x2f) {
      state.intermediates = (state.intermediates + final).slice(0, 4)
      return
    }
    if (byte < 0x20) return // performed in the middle of a sequence, which goes on
    this.#state = TEXT
    if (state.intermediates === '(') this.#charset = final === 'B' ? '' : `\x1b(${final}`
    if (state.intermediates !== '') return
    if (final === '[') this.#state = { kind: 'control', parameters: '' }
    else if (']PX^_'.includes(final)) this.#state = { kind: 'string', escaped: false }
    else if (final === '=' || final === '>') this.#keypad = `\x1b${final}`
    else if (final === 'c') this.#reset()
  }

  #inControl(state: ParserState & { kind: 'control' }, byte: number): void {
    const character = String.fromCharCode(byte)
    if (byte < 0x20) return
    if (byte < 0x40) {
      if (state.parameters.length < MOST_PARAMETERS) state.parameters += character
      return
    }
    this.#state = TEXT
    this.#control(state.parameters, character)
  }

  #control(parameters: string, final: string): void {
    if (/^[\d;:]*$/.test(parameters)) {
      if (final === 'm') this.#colour(parameters)
      else if (final === 'r') this.#region = `\x1b[${parameters}r`
    } else if (parameters === '!' && final === 'p') this.#reset()
    else if ((final === 'h' || final === 'l') && parameters.startsWith('?')) {
      for (const number of parameters.slice(1).split(';').map(Number)) {
        if (MODES.has(number)) this.#modes.set(number, final === 'h')
      }
    }
  }

  #colour(parameters: string): void {
    if (/^0*(;|$)/.test(parameters)) this.#colours = []
    if (/^0*$/.test(parameters)) return
    this.#colours.push(parameters)
    if (this.#colours.length > MOST_COLOURS) this.#colours.shift()
  }

  #reset(): void {
    this.#modes.clear()
    this.#colours = []
    this.#charset = ''
    this.#region = ''
    this.#keypad = ''
  }
}
