import type headless from '@xterm/headless'

/** How a terminal is set up by whoever sits before it. */
export type Paper = 'dark' | 'light'

/** Grey levels where a program asks for no colour: of what is written, and of what it is written on. */
const THEMES = { dark: { ink: 204, paper: 0 }, light: { ink: 0, paper: 255 } } as const satisfies Record<Paper, object>

/** The grey levels of the colours that programs here ask for, by their numbers in the palette. */
const GREYS: Readonly<Record<number, number>> = { 0: 0, 7: 204, 8: 102, 15: 255 }

/** Which halves of its cell a block character fills, from the top. */
const BLOCKS: Readonly<Record<string, readonly [boolean, boolean]>> = {
  '█': [true, true],
  '▀': [true, false],
  '▄': [false, true],
}

/** Pixels at a side of half a cell: cells are twice as high as they are wide. */
const HALF = 6

/**
 * Draws a terminal, with what was scrolled out of sight, as a PGM (Netpbm). Only block characters have a shape; every other
 * character fills neither half of its cell. Throws for a colour whose grey it does not know.
 */
export function drawTerminal(terminal: headless.Terminal, paper: Paper): Buffer {
  const { active } = terminal.buffer
  const cell = active.getNullCell()
  const width = terminal.cols * HALF
  const header = Buffer.from(`P5 ${width} ${active.length * 2 * HALF} 255\n`)
  const rows: Buffer[] = [header]
  for (let y = 0; y < active.length; y++) {
    const line = active.getLine(y)
    const halves = [Buffer.alloc(width), Buffer.alloc(width)]
    for (let x = 0; x < terminal.cols; x++) {
      const found = line?.getCell(x, cell)
      const filled = BLOCKS[found?.getChars() ?? ''] ?? [false, false]
      const ink = found?.isFgDefault() === false ? greyOf(found.getFgColor()) : THEMES[paper].ink
      const under = found?.isBgDefault() === false ? greyOf(found.getBgColor()) : THEMES[paper].paper
      halves.forEach((half, at) => void half.fill(filled[at] ? ink : under, x * HALF, (x + 1) * HALF))
    }
    for (const half of halves) for (let i = 0; i < HALF; i++) rows.push(half)
  }
  return Buffer.concat(rows)
}

function greyOf(colour: number): number {
  const grey = GREYS[colour]
  if (grey === undefined) throw new Error(`no grey level is known for colour ${colour} of the palette`)
  return grey
}
