import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type BulkPlan, bulkSection } from './bulk.ts'
import { type Contenders, startContenders } from './contenders.ts'
import { type DispatchPlan, dispatchSection } from './dispatch.ts'
import { echoSection } from './echo.ts'
import { pollBeforeHalting } from './halting.ts'
import { inspectorSection } from './inspector.ts'
import { isolationSection } from './isolation.ts'
import { memorySection } from './memory.ts'
import { reached, renderPage, renderSection, type Section } from './report.ts'
import { type RequestWindow, requestSection } from './requests.ts'
import { runUnpaced } from './unpaced.ts'

const USAGE = `npm run bench -- [--only bulk,requests,inspector,echo,isolation,memory,dispatch] [--rounds N] [--quick]

Measures bulk transfer, small requests, echo, isolation and memory of the tunnel beside a direct connection, two chained
HAProxies and ssh -R; and how quickly runs reach agents and events reach watchers. A full run writes docs/performance.md.
Exit code: 0 when every target is reached, 1 otherwise.
  --only    comma-separated parts of the table; nothing is written
  --rounds  how often the contenders alternate, 9 times unless said and 15 in bulk; the table has the medians
  --quick   2 rounds, short windows, fewer agents; nothing is written`

/** What one run measures, and how long. */
interface Plan {
  rounds: number
  bulk: BulkPlan
  requests: RequestWindow
  memory: { agents: number; tunnels: number }
  dispatch: DispatchPlan
}

interface Run {
  plan: Plan
  /** For whatever the contenders keep on disk; removed at the end. */
  directory: string
}

const FULL: Plan = {
  rounds: 9,
  bulk: { rounds: 15, firstWarmUpMs: 3_000, warmUpMs: 300, windowMs: 700 },
  requests: { firstWarmUpSeconds: 8, warmUpSeconds: 1, seconds: 2 },
  memory: { agents: 5000, tunnels: 2000 },
  dispatch: { seconds: 20, tasks: 10_000, watchers: 1_000, lines: 20 },
}
const QUICK: Plan = {
  rounds: 2,
  bulk: { rounds: 2, firstWarmUpMs: 1_000, warmUpMs: 200, windowMs: 400 },
  requests: { firstWarmUpSeconds: 4, warmUpSeconds: 1, seconds: 1 },
  memory: { agents: 500, tunnels: 200 },
  dispatch: { seconds: 5, tasks: 2_000, watchers: 200, lines: 10 },
}

const PARTS = {
  bulk: (run) => withContenders(run, (contenders) => bulkSection(contenders, run.plan.bulk)),
  requests: (run) => withContenders(run, (contenders) => requestSection(contenders, run.plan)),
  inspector: (run) => inspectorSection(join(run.directory, 'inspector'), run.plan),
  echo: (run) => echoSection(join(run.directory, 'echo'), run.plan),
  isolation: (run) => isolationSection(join(run.directory, 'isolation'), run.plan),
  memory: (run) => memorySection(run.directory, run.plan),
  dispatch: (run) => dispatchSection(join(run.directory, 'dispatch'), run.plan),
} as const satisfies Record<string, (run: Run) => Promise<Section>>
type Part = keyof typeof PARTS

const PAGE = new URL('../../docs/performance.md', import.meta.url)

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const plan = { ...(values.quick ? QUICK : FULL) }
  if (values.rounds !== undefined) {
    plan.rounds = wholeNumber('--rounds', values.rounds)
    plan.bulk = { ...plan.bulk, rounds: plan.rounds }
  }
  const parts = chosenParts(values.only)
  const exitCode = runUnpaced()
  if (exitCode !== undefined) {
    process.exitCode = exitCode
    return
  }
  pollBeforeHalting()

  const start = { date: new Date(), loadAverage: loadavg()[0] ?? 0 }
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-bench-'))
  try {
    const sections = await measure(parts, { plan, directory })
    if (values.only === undefined && !values.quick) writeFileSync(PAGE, renderPage(sections, start))
    if (!sections.flatMap((section) => section.rows).every(reached)) process.exitCode = 1
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function measure(parts: Part[], run: Run): Promise<Section[]> {
  const sections: Section[] = []
  for (const part of parts) {
    const section = await PARTS[part](run)
    console.log(renderSection(section))
    sections.push(section)
  }
  return sections
}

/** Each part starts afresh, so that none measures what another left behind. */
async function withContenders(run: Run, measureThem: (contenders: Contenders) => Promise<Section>): Promise<Section> {
  await using contenders = await startContenders(mkdtempSync(join(run.directory, 'part-')))
  return await measureThem(contenders)
}

function chosenParts(only: string | undefined): Part[] {
  const all = Object.keys(PARTS) as Part[]
  if (only === undefined) return all
  return only.split(',').map((name) => {
    const part = all.find((known) => known === name.trim())
    if (part === undefined) throw new Error(`--only: there is no part ${name}; the parts are ${all.join(', ')}`)
    return part
  })
}

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new Error(`${name}: expected a number from 1 to 999, got ${text}`)
  return Number(text)
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 2
})
