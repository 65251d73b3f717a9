import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lacksPrograms, runCampaign } from '@cyberun/testkit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const TASKS = 3_000
const FAULTS = 150
const SEED = Number(process.env['CYBERUN_TEST_SEED'] ?? 1)

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-campaign-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

/** What was done, and that it was enough to mean something. */
async function campaign(engine: 'sqlite' | 'postgres') {
  const report = await runCampaign({
    ...{ engine, seed: SEED, tasks: TASKS, faults: FAULTS, pauseMs: 650 },
    directory: join(directory, engine),
    say: () => {},
  })
  expect(report.violations, `run again with CYBERUN_TEST_SEED=${SEED}`).toEqual([])
  expect(report.accepted).toBe(TASKS)
  expect(report.faultsDone).toBeGreaterThanOrEqual(FAULTS)
  expect(report.faults.kill_server, 'servers were killed').toBeGreaterThan(0)
  expect(report.faults.kill_agent, 'agents were killed').toBeGreaterThan(0)
  expect(report.faults.black_hole, 'links led nowhere').toBeGreaterThan(0)
  expect(report.faults.kill_agent_in_black_hole, 'agents were killed before they were heard').toBeGreaterThan(0)
  expect(report.assignedAgain, 'attempts were lost').toBeGreaterThan(0)
  expect(report.stale.written, 'stale attempts reported').toBeGreaterThan(0)
  expect(report.stale.refused).toBe(report.stale.written)
  return report
}

describe('3,000 tasks under 150 faults: none is lost, none ends twice, no end is taken back', () => {
  test('on SQLite', { timeout: 600_000 }, async () => {
    await campaign('sqlite')
  })

  test.skipIf(lacksPrograms('postgres'))('on PostgreSQL', { timeout: 600_000 }, async () => {
    const report = await campaign('postgres')
    expect(report.faults.kill_database, 'the database was killed').toBeGreaterThan(0)
  })
})
