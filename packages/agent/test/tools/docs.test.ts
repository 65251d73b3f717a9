import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { formatKey, TOOL_TYPES } from '@cyberun/protocol'
import { describe, expect, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { parseAgentConfig } from '../../src/config.ts'
import { RUN_LIMITS } from '../../src/tasks/limits.ts'
import { createDemoTool } from '../../src/tools/demo/demo.ts'
import { NERFSTUDIO_WORKFLOW } from '../../src/tools/nerfstudio/settings.ts'
import { assignment } from './test-run.ts'

const DOCS = readFileSync(new URL('../../../../docs/tools.md', import.meta.url), 'utf8')
const MINIMAL = { gateway_url: 'wss://edge.example.org', agent_key: formatKey('ak', randomBytes(32)) }

describe('docs/tools.md', () => {
  test('shows settings that an agent takes', () => {
    const blocks = [...DOCS.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text = '']) => text)
    expect(blocks.length).toBe(2)
    for (const block of blocks) {
      const settings = parseYaml(block) as Record<string, unknown>
      expect(() => parseAgentConfig({ ...MINIMAL, ...settings }, {}), block).not.toThrow()
    }
  })

  test('names every tool, with workflows that it takes', async () => {
    const row = (tool: string) => new RegExp(`^\\| \`${tool}\` \\|.*$`, 'm').exec(DOCS)?.[0] ?? ''
    const workflows = (tool: string) =>
      [...row(tool).matchAll(/`(\{.*?\})`/g)].map(([, json = '']) => JSON.parse(json) as Record<string, unknown>)
    for (const tool of TOOL_TYPES) expect(row(tool), tool).not.toBe('')
    for (const workflow of workflows('demo')) {
      expect(await createDemoTool().check(assignment({ workflow }), new AbortController().signal)).toBeUndefined()
    }
    const [nerfstudio] = workflows('nerfstudio')
    expect(NERFSTUDIO_WORKFLOW.parse(nerfstudio)).toEqual(NERFSTUDIO_WORKFLOW.parse({}))
  })

  test('says the bounds as they are', () => {
    const { lineCharacters, taskLogLines, lastLines, againMs, killMs, stopGraceMs } = RUN_LIMITS
    const grouped = (count: number) => count.toLocaleString('en-US')
    const text = DOCS.replace(/\s+/g, ' ')
    for (const words of [
      `after ${grouped(lineCharacters)} characters`,
      `${grouped(taskLogLines)} lines or ${RUN_LIMITS.taskLogBytes / 1024 ** 2} MiB`,
      `the last ${lastLines} lines`,
      `${RUN_LIMITS.queueBytes / 1024} KiB of events wait in memory and ${RUN_LIMITS.spoolBytes / 1024 ** 2} MiB on disk`,
      `asked again after ${againMs / 1000} s, killed after ${killMs / 1000} s`,
      `runs get ${stopGraceMs / 1000} s`,
      `less than ${RUN_LIMITS.freeDiskBytes / 1024 ** 2} MiB`,
    ]) {
      expect(text).toContain(words)
    }
  })
})
