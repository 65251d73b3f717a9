import { readFileSync } from 'node:fs'
import { DOORS, type DoorName } from './application.ts'

/** What docs/applications.md says of a step through a door. */
export type Result = 'works' | 'fails'

/**
 * Reads the table of docs/applications.md: application, step, and a column for each door that says `yes`, or `no` with
 * the number of a note that says why.
 */
export function readResults(file: URL): { get(application: string, step: string, door: DoorName): Result } {
  const rows = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
  const [header = []] = rows
  const results = new Map<string, Result>()
  for (const [application, step, ...cells] of rows.slice(2)) {
    for (const door of DOORS) {
      const cell = cells[header.indexOf(door) - 2] ?? ''
      if (!/^(yes|no \(\d+\))$/.test(cell))
        throw new Error(`${file.pathname}: ${step}, ${door} door: what is "${cell}"?`)
      results.set(`${application}: ${step}: ${door}`, cell === 'yes' ? 'works' : 'fails')
    }
  }
  return {
    get(application, step, door) {
      const result = results.get(`${application}: ${step}: ${door}`)
      if (result === undefined) throw new Error(`${file.pathname} has no row "${application} | ${step}"`)
      return result
    },
  }
}
