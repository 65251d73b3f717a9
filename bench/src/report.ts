import { cpus, release, totalmem } from 'node:os'
import { haltPollNs } from './halting.ts'
import { congestionControl } from './unpaced.ts'

/** One line of the table: what was measured and, when it is a gate, what it has to reach. */
export interface Row {
  measure: string
  value: number
  unit: string
  target?: Target
}

export type Target = { atLeast: number } | { atMost: number }

/** One table of the report, with a sentence on how its numbers came about. */
export interface Section {
  title: string
  method: string
  rows: Row[]
}

export function reached(row: Row): boolean {
  if (row.target === undefined) return true
  return 'atLeast' in row.target ? row.value >= row.target.atLeast : row.value <= row.target.atMost
}

/** The table as Markdown, aligned so that it reads as well on a terminal. */
export function renderSection(section: Section): string {
  const cells = section.rows.map((row) => [row.measure, number(row.value), row.unit, target(row), verdict(row)])
  const table = [['measure', 'value', 'unit', 'target', ''], ...cells]
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(3, ...table.map((line) => line[column]?.length ?? 0)))
  const line = (texts: string[]) =>
    `| ${texts.map((text, at) => (at === 1 ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0))).join(' | ')} |`
  const rule = `| ${widths.map((width, at) => (at === 1 ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width))).join(' | ')} |`
  const [head = [], ...rest] = table.map(line)
  return [`## ${section.title}`, '', section.method, '', head, rule, ...rest, ''].join('\n')
}

/** When a run began, and how busy the machine was with other things. */
export interface RunStart {
  date: Date
  loadAverage: number
}

/** The whole page, as `docs/performance.md` holds it. */
export function renderPage(sections: readonly Section[], start: RunStart): string {
  const rows = sections.flatMap((section) => section.rows).filter((row) => row.target !== undefined)
  const missed = rows.filter((row) => !reached(row)).length
  return [
    '# Performance',
    '',
    'Written by `npm run bench`: the table of its last full run. Ratios are made within one run, in which the',
    'contenders alternate; a number counts only beside the others of its run.',
    '',
    `- ${start.date.toISOString().slice(0, 16).replace('T', ' ')} UTC, load average before the run ${start.loadAverage.toFixed(1)}`,
    `- ${machine()}`,
    `- ${rows.length - missed} of ${rows.length} targets reached`,
    '',
    ...sections.map(renderSection),
  ].join('\n')
}

function machine(): string {
  const memory = Math.round(totalmem() / 1024 ** 3)
  const pollNs = haltPollNs()
  return [
    `${cpus().length} × ${cpus()[0]?.model.trim()}, ${memory} GiB, Linux ${release()}, Node ${process.version}`,
    `loopback under ${congestionControl()}`,
    ...(pollNs === undefined ? [] : [`idle cores poll ${pollNs / 1000} µs before they halt`]),
  ].join(', ')
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(2)
}

function target(row: Row): string {
  if (row.target === undefined) return ''
  return 'atLeast' in row.target ? `≥ ${row.target.atLeast}` : `≤ ${row.target.atMost}`
}

function verdict(row: Row): string {
  if (row.target === undefined) return ''
  return reached(row) ? 'ok' : 'missed'
}
