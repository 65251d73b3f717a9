import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { folder } from './support/folder.ts'
import { run } from './support/run.ts'

/** A folder with settings under two names. */
function settingsFolder(): string {
  const cwd = folder()
  for (const name of ['cyberun-agent.yaml', 'other.yaml']) writeFileSync(join(cwd, name), '')
  return cwd
}

test.each([
  [['agent', 'install', '--output', '-', '--config', 'other.yaml']],
  [['agent', 'install', '--output', '-', '-c', 'other.yaml']],
  [['agent', '--config', 'other.yaml', 'install', '--output', '-']],
])('the unit names the settings that --config names: %j', async (args) => {
  const cwd = settingsFolder()
  expect((await run(args, { cwd })).stdout).toContain(`--config ${join(cwd, 'other.yaml')}`)
})

test('with --json the unit is JSON on one line', async () => {
  const { code, stdout } = await run(['agent', 'install', '--output', '-', '--json'], { cwd: settingsFolder() })
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toEqual({ unit: expect.stringContaining('ExecStart=') })
})
