const ESC = 0x1b
const BEL = 0x07
const CAN = 0x18
const SUB = 0x1a
/** `ESC` and one of these begins a string: DCS, SOS, OSC, PM, APC. */
const STRINGS = new Set([0x50, 0x58, 0x5d, 0x5e, 0x5f])
const BACKSLASH = 0x5c

/**
 * What a shell's output may say to the terminal of whoever looks at it: everything but strings for the operating system, with
 * which a hostile program would reach the clipboard and the title, or have reports typed. State goes on over pieces.
 */
export class OutputFilter {
  /** `esc`: an ESC has come, and is held back. `string`: within what is dropped. */
  #state: 'text' | 'esc' | 'string' | 'string-esc' = 'text'

  filter(bytes: Uint8Array): Uint8Array {
    const kept = new Uint8Array(bytes.length + 1)
    let length = 0
    for (const byte of bytes) {
      switch (this.#state) {
        case 'text':
          if (byte === ESC) this.#state = 'esc'
          else kept[length++] = byte
          break
        case 'esc':
          if (STRINGS.has(byte)) this.#state = 'string'
          else {
            kept[length++] = ESC
            if (byte !== ESC) {
              kept[length++] = byte
              this.#state = 'text'
            }
          }
          break
        case 'string':
          if (byte === BEL || byte === CAN || byte === SUB) this.#state = 'text'
          else if (byte === ESC) this.#state = 'string-esc'
          break
        case 'string-esc':
          // ESC ends a string whatever follows it; the backslash is the usual one.
          if (byte === BACKSLASH) this.#state = 'text'
          else if (STRINGS.has(byte)) this.#state = 'string'
          else if (byte !== ESC) {
            kept[length++] = ESC
            kept[length++] = byte
            this.#state = 'text'
          }
          break
      }
    }
    return kept.subarray(0, length)
  }
}
