const ESC = 0x1b
const BEL = 0x07
const CAN = 0x18
const SUB = 0x1a
const DEL = 0x7f
const BACKSLASH = 0x5c
/** `ESC` and one of these begins a string: DCS, SOS, OSC, PM, APC, and the title of screen and tmux. */
const STRINGS = new Set([0x50, 0x58, 0x5d, 0x5e, 0x5f, 0x6b])
/** The first byte of all C1 controls, U+0080 to U+009F, in UTF-8; terminals take them for `ESC` and a letter. */
const C1_LEAD = 0xc2
/** Their second bytes where they begin a string, and of the one that ends it. */
const C1_STRINGS = new Set([0x90, 0x98, 0x9d, 0x9e, 0x9f])
const C1_END = 0x9c

/**
 * What a shell's output may say to the terminal of whoever looks at it: everything but strings for the operating system, with
 * which a hostile program would reach the clipboard and the title, or have reports typed. State goes on over pieces.
 *
 * An ESC, or the first byte of a C1 control, is told only with the byte that it is about: a terminal that is left with it
 * would put it together with what follows a string that was dropped.
 */
export class OutputFilter {
  #inString = false
  /** What has come and is held back until the next byte tells what it means. */
  #held: typeof ESC | typeof C1_LEAD | undefined

  #kept = new Uint8Array(0)
  #length = 0

  filter(bytes: Uint8Array): Uint8Array {
    // All of the piece, and what was held back before it.
    this.#kept = new Uint8Array(bytes.length + 1)
    this.#length = 0
    for (const byte of bytes) {
      if (this.#held === ESC) this.#afterEscape(byte)
      else if (this.#held === C1_LEAD) this.#afterLead(byte)
      else this.#plain(byte)
    }
    return this.#kept.subarray(0, this.#length)
  }

  #keep(byte: number): void {
    this.#kept[this.#length] = byte
    this.#length += 1
  }

  #plain(byte: number): void {
    if (byte === ESC || byte === C1_LEAD) this.#held = byte
    else if (!this.#inString) this.#keep(byte)
    else if (byte === BEL || byte === CAN || byte === SUB) this.#inString = false
  }

  #afterEscape(byte: number): void {
    if (byte === ESC) return
    const endsString = this.#inString && byte === BACKSLASH
    // ESC ends a string whatever follows it; the backslash is the usual one.
    this.#inString = STRINGS.has(byte)
    // A terminal obeys other controls at once and goes on with its ESC, unless they cancel it.
    const goesOn = (byte < 0x20 || byte === DEL) && byte !== CAN && byte !== SUB
    if (goesOn) {
      this.#keep(byte)
      return
    }
    this.#held = undefined
    if (endsString || this.#inString) return
    if (byte >= 0x20 && byte < DEL) {
      this.#keep(ESC)
      this.#keep(byte)
    } else this.#plain(byte)
  }

  #afterLead(byte: number): void {
    this.#held = undefined
    if (C1_STRINGS.has(byte)) this.#inString = true
    else if (byte === C1_END) this.#inString = false
    else {
      const isBroken = byte === ESC || byte === C1_LEAD
      if (!this.#inString && !isBroken) this.#keep(C1_LEAD)
      this.#plain(byte)
    }
  }
}
