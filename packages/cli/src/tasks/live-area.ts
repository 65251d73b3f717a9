import type { Output } from '../context.ts'
import { type PictureProtocol, pictureText } from './picture.ts'

const PICTURE_ROWS = 14
const BAR_CELLS = 30

/**
 * The last lines of a terminal, drawn anew with each change: a picture, when there is one and the terminal shows it, and
 * a line below. What is printed stays above it.
 */
export class LiveArea {
  readonly #output: Output
  readonly #protocol: PictureProtocol | undefined
  #picture: string | undefined
  #line = ''
  /** Rows from the area's first line to the one the cursor is in; undefined when nothing is drawn. */
  #rowsAbove: number | undefined

  constructor(output: Output, protocol: PictureProtocol | undefined) {
    this.#output = output
    this.#protocol = protocol
  }

  /** Replaces the line. It must be printable. */
  update(line: string): void {
    this.#line = line
    this.#draw()
  }

  /** Replaces the picture. False when it cannot be shown here. */
  show(contentType: string, data: string): boolean {
    const picture = this.#protocol && pictureText(this.#protocol, contentType, data, PICTURE_ROWS)
    if (picture === undefined) return false
    this.#picture = picture
    this.#draw()
    return true
  }

  /** Prints text that stays, ending with a line break. */
  print(text: string): void {
    this.#erase()
    this.#output.write(text)
    if (this.#line !== '') this.#draw()
  }

  /** Leaves the picture where it is and takes the line away. */
  end(): void {
    if (this.#rowsAbove === undefined) return
    this.#output.write(`\r\x1b[K`)
    this.#rowsAbove = undefined
    this.#line = ''
  }

  #erase(): void {
    if (this.#rowsAbove === undefined) return
    const up = this.#rowsAbove > 0 ? `\x1b[${this.#rowsAbove}A` : ''
    this.#output.write(`\r${up}\x1b[J`)
    this.#rowsAbove = undefined
  }

  #draw(): void {
    this.#erase()
    const rows = this.#picture === undefined ? 0 : PICTURE_ROWS
    // Rows are made first, because a picture at the foot of a terminal would not scroll it.
    const picture =
      this.#picture === undefined ? '' : `${'\n'.repeat(rows)}\x1b[${rows}A${this.#picture}\x1b[${rows}B\r`
    this.#output.write(`${picture}${cut(this.#line, (this.#output.columns || 80) - 1)}`)
    this.#rowsAbove = rows
  }
}

/** `[######          ]  40 %`. */
export function bar(share: number): string {
  const bounded = Math.min(1, Math.max(0, share))
  const full = Math.round(bounded * BAR_CELLS)
  return `[${'#'.repeat(full)}${' '.repeat(BAR_CELLS - full)}] ${String(Math.floor(bounded * 100)).padStart(3)} %`
}

/** A line that is wider than the terminal would take two rows and could not be taken back. */
function cut(line: string, columns: number): string {
  const characters = [...line]
  return characters.length <= columns ? line : `${characters.slice(0, Math.max(0, columns - 1)).join('')}…`
}
