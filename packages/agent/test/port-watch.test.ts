import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { formatKey } from '@cyberun/protocol'
import { expect, onTestFinished, test } from 'vitest'
import { watchTunnelPorts } from '../src/port-watch.ts'
import { type PortRules, parsePortRules } from '../src/ports.ts'

const AGENT = `gateway_url: wss://edge.example.org\nagent_key: ${formatKey('ak', randomBytes(32))}\n`

/** A settings file that is watched, and what came of it. */
function watchedFile(text: string) {
  const folder = mkdtempSync(join(tmpdir(), 'cyberun-ports-'))
  const file = join(folder, 'cyberun-agent.yaml')
  writeFileSync(file, text)
  const stop = new AbortController()
  onTestFinished(() => {
    stop.abort()
    rmSync(folder, { recursive: true })
  })
  const applied: PortRules[] = []
  const lines: string[] = []
  const log = createLog({ level: 'info', format: 'json', write: (line) => void lines.push(line) })
  const watch = (current: PortRules, env = {}) =>
    watchTunnelPorts(file, env, current, (rules) => applied.push(rules), log, stop.signal)
  return { file, applied, lines, watch }
}

test('what changed between the start of the agent and the first look is applied', async () => {
  const { watch, applied } = watchedFile(`${AGENT}tunnel_ports: [22]\n`)
  watch(parsePortRules([8188]))
  await expect.poll(() => applied).toEqual([parsePortRules([22])])
})

test('a file that cannot be read is told of once and tried again, though it stays as it is', async () => {
  const { watch, applied, lines } = watchedFile(`${AGENT}tunnel_ports: [22]\n`)
  const env: Record<string, string> = { CYBERUN_AGENT_NO_SUCH_SETTING: '1' }
  watch(parsePortRules([8188]), env)
  await expect.poll(() => lines).toHaveLength(1)
  delete env['CYBERUN_AGENT_NO_SUCH_SETTING']
  await expect.poll(() => applied).toEqual([parsePortRules([22])])
  expect(lines.map((line) => JSON.parse(line).msg)).toEqual(['agent.ports_unchanged', 'agent.ports_changed'])
})

test.each([
  ['a port that is none', `${AGENT}tunnel_ports: [22x]\n`],
  ['a misspelt name', `${AGENT}tunel_ports: [22]\n`],
  ['a file that is only half written', AGENT.slice(0, 40)],
  ['a file that an editor has just emptied', ''],
])('%s widens nothing', async (_name, text) => {
  const { file, watch, applied, lines } = watchedFile(text)
  watch(parsePortRules([8188]))
  await expect.poll(() => lines.map((line) => JSON.parse(line).msg)).toEqual(['agent.ports_unchanged'])
  writeFileSync(file, `${AGENT}tunnel_ports: [22]\n`)
  await expect.poll(() => applied).toEqual([parsePortRules([22])])
})
