import type { Output } from '../context.ts'

/** The last lines of a terminal, drawn anew with each change; what was printed before stays above them. */
export class LiveLines {
  readonly #output: Output
  #shown = 0

  constructor(output: Output) {
    this.#output = output
  }

  /** Replaces the lines. They must be printable. One that is too long is cut: a second row could not be taken back. */
  show(lines: readonly string[]): void {
    const columns = (this.#output.columns || 80) - 1
    const cut = lines.map((line) => {
      const characters = [...line]
      return characters.length <= columns ? line : `${characters.slice(0, columns - 1).join('')}…`
    })
    this.#output.write(`${this.#eraser()}${cut.join('\n')}\n`)
    this.#shown = cut.length
  }

  /** Takes them away. */
  clear(): void {
    this.#output.write(this.#eraser())
    this.#shown = 0
  }

  #eraser(): string {
    return this.#shown === 0 ? '' : `\x1b[${this.#shown}A\r\x1b[J`
  }
}
