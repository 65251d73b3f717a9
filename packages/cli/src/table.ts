import Table from 'cli-table3'
import { printable } from './text.ts'

/** No lines, two spaces between columns: readable, and easy to cut with awk. */
const PLAIN = {
  chars: {
    ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
    ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
    ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
  },
  style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
}

/** Lays out rows under a head. Cells may come from the server: whatever a terminal would obey is written out. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = new Table({ ...PLAIN, head: [...head] })
  lines.push(...rows.map((row) => row.map((cell) => printable(cell))))
  return `${lines
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')}\n`
}
