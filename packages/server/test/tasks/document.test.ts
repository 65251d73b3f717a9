import { readFileSync } from 'node:fs'
import { HTTP_STATUS, type RouteSpec, routes } from '@cyberun/api'
import { expect, test } from 'vitest'
import { DISPATCH_LIMITS } from '../../src/dispatch/limits.ts'
import { printTransitions } from '../../src/model/task-state.ts'

const read = (name: string) => readFileSync(new URL(`../../../../docs/${name}`, import.meta.url), 'utf8')
const page = read('tasks.md')
const EVENTS: RouteSpec = routes['GET /r/tasks/{id}/events']

test('docs/tasks.md shows the table of states that is in force', () => {
  expect(page).toContain(printTransitions())
})

test('docs/tasks.md shows the example that is tested', () => {
  expect(page).toContain(`\`\`\`sh\n${read('examples/quickstart.sh')}\`\`\``)
})

test('docs/tasks.md names every event with its fields, and which are stored', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (yes|) ?\| ([^|]*) \|$/gm)]
  const named = rows.map(([, name, , fields = '']) => [
    name,
    [...fields.matchAll(/`(\w+)`/g)].map(([, field]) => field),
  ])
  const served = Object.entries(EVENTS.eventStream ?? {}).map(([name, schema]) => [
    name,
    Object.keys((schema as unknown as { shape: object }).shape),
  ])
  const sorted = (list: unknown[]) => list.map((row) => JSON.stringify(row)).sort()
  const plain = (list: unknown[][]) => list.map(([name, fields]) => [name, (fields as string[]).toSorted()])
  expect(sorted(plain(named))).toEqual(sorted(plain(served)))
  const live = rows.filter(([, , stored]) => stored === '').map(([, name]) => name)
  expect(live).toEqual(['progress', 'preview', 'gap'])
})

test('docs/tasks.md gives errors the statuses they have', () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\d{3}) \|/gm)].map(([, code = '', status]) => [code, Number(status)])
  expect(rows.length).toBeGreaterThan(5)
  for (const [code, status] of rows) expect(HTTP_STATUS).toHaveProperty(String(code), status)
})

test('docs/tasks.md states the bounds and defaults that are in force', () => {
  const text = page.replace(/\s+/g, ' ')
  const { maxBodyBytes: workflowBytes, body } = routes['POST /workflows/import']
  const runBytes = routes['POST /r/workflows/slug/{slug}/run'].maxBodyBytes
  const mebi = (bytes: number) => `${bytes / 1024 / 1024} MiB`
  expect(text).toContain(`A graph may have ${mebi(workflowBytes)}, the body of a run ${mebi(runBytes)}.`)
  const { max_retries, resume_window } = body.parse({ workflow_slug: 'ab', workflow_json: {} })
  expect(text).toContain(`\`max_retries\` (${max_retries})`)
  expect(text).toContain(`\`resume_window\` (${resume_window} s, from 10 s up)`)
  const { ackMs, logLines, logCharacters } = DISPATCH_LIMITS
  expect(text).toContain(`has to acknowledge within ${ackMs / 1000} s`)
  expect(text).toContain(`A log has ${logLines.toLocaleString('en')} lines or ${mebi(logCharacters)} at most`)
})
