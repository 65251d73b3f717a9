import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { isAlive } from '@cyberun/testkit'
import { until } from '@cyberun/testkit/until'
import { expect, onTestFinished, test } from 'vitest'
import { createCommandTool } from '../../src/tools/command/command.ts'
import { COMMANDS } from '../../src/tools/command/settings.ts'
import { killLeftovers, processDir } from '../../src/tools/process-tree.ts'
import type { Tool } from '../../src/tools/tool.ts'
import { testRun } from './test-run.ts'

const NEVER = new AbortController().signal

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cyberun-processes-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function shellTool(stateDir: string, script: string): Promise<Tool> {
  const commands = COMMANDS.parse([
    { name: 'it', program: '/bin/sh', args: ['-c', script.replaceAll('{', '{{').replaceAll('}', '}}')] },
  ])
  return createCommandTool(commands, {
    log: createLog({ level: 'silent', format: 'json' }),
    stateDir,
    env: { PATH: process.env['PATH'] },
    now: () => performance.now(),
  })
}

/** The numbers that a script wrote into files of its output folder. */
const pidsIn = (folder: string): number[] =>
  readdirSync(folder).map((name) => Number(readFileSync(join(folder, name), 'utf8').trim()))

/** Those of `STUBBORN`, once all three have written theirs: nothing orders them. */
async function threePids(folder: string): Promise<number[]> {
  await until(() => readdirSync(folder).length === 3 && pidsIn(folder).every((pid) => pid > 0))
  return pidsIn(folder)
}

/** Ignores every polite signal, and so do its child and a grandchild that has left the group. */
const STUBBORN = `trap '' TERM INT HUP
echo $$ > pid-1
sh -c 'trap "" TERM INT HUP; echo $$ > pid-2; while :; do sleep 1; done' &
setsid sh -c 'trap "" TERM INT HUP; echo $$ > pid-3; while :; do sleep 1; done' &
while :; do sleep 1; done`

test('a stubborn tree is gone at the last step of the ladder, also what has left its group', async () => {
  const tool = await shellTool(await temporaryFolder(), STUBBORN)
  const { run, cancel, again, kill } = await testRun({ workflow: { command: 'it' } })
  const outcome = tool.run(run, cancel.signal)
  const pids = await threePids(run.outputFolder)
  expect(pids.map(isAlive)).toEqual([true, true, true])
  cancel.abort(new Error('cancelled'))
  again.abort(new Error('cancelled'))
  expect(pids.map(isAlive)).toEqual([true, true, true])
  kill.abort(new Error('cancelled'))
  expect(await outcome).toEqual({ kind: 'cancelled' })
  await until(() => pids.every((pid) => !isAlive(pid)))
})

test('what a program leaves behind ends with it, so that nothing keeps a GPU', async () => {
  const tool = await shellTool(
    await temporaryFolder(),
    `setsid sh -c 'echo $$ > pid; sleep 1000' & while [ ! -s pid ]; do sleep 0.01; done`,
  )
  const { run } = await testRun({ workflow: { command: 'it' } })
  expect(await tool.run(run, NEVER)).toMatchObject({ kind: 'completed' })
  const [pid = 0] = pidsIn(run.outputFolder)
  expect(pid).toBeGreaterThan(1)
  await until(() => !isAlive(pid))
})

test('what an agent that was killed left running is ended by the next one', async () => {
  const stateDir = await temporaryFolder()
  const output = await temporaryFolder()
  const agent = startTreeHolder(stateDir, output)
  const pids = await threePids(output)
  agent.kill('SIGKILL')
  await once(agent, 'exit')
  expect(pids.map(isAlive)).toEqual([true, true, true])
  expect(await killLeftovers(processDir(stateDir))).toBe(1)
  await until(() => pids.every((pid) => !isAlive(pid)))
  expect(await killLeftovers(processDir(stateDir))).toBe(0)
})

/** A process that runs `STUBBORN` as the agent would. */
function startTreeHolder(stateDir: string, output: string): ChildProcess {
  const source = `import { processDir, spawnTree } from ${JSON.stringify(import.meta.resolve('../../src/tools/process-tree.ts'))}
    const env = { PATH: process.env.PATH }
    spawnTree({ program: '/bin/sh', args: ['-c', process.argv[1]], cwd: process.argv[2], env, recordDir: processDir(process.argv[3]) })`
  return spawn(process.execPath, ['--input-type=module', '-e', source, '--', STUBBORN, output, stateDir], {
    stdio: 'inherit',
  })
}

test('a program that prints without end neither fills the memory nor keeps the agent busy', async () => {
  const tool = await shellTool(await temporaryFolder(), 'yes "a line of some length that is printed for ever and ever"')
  const { run, cancel, lines } = await testRun({ workflow: { command: 'it' } })
  const outcome = tool.run(run, cancel.signal)
  await until(() => lines.length > 10_000)
  lines.length = 0
  const before = process.memoryUsage.rss()
  let turns = 0
  const beating = setInterval(() => turns++, 10)
  let seen = 0
  await until(() => {
    seen += lines.splice(0).length
    return seen > 1_000_000
  })
  clearInterval(beating)
  expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024)
  // The event loop had its turns all the while.
  expect(turns).toBeGreaterThan(20)
  cancel.abort(new Error('enough'))
  expect(await outcome).toEqual({ kind: 'cancelled' })
})
