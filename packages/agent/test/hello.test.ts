import { formatKey, type JsonObject, parseAgentHello } from '@cyberun/protocol'
import { expect, test } from 'vitest'
import { parseAgentConfig } from '../src/config.ts'
import { agentHello } from '../src/hello.ts'
import { temporaryMachineKey } from '../src/machine-key.ts'

const STATS = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
const SETTINGS = { gateway_url: 'ws://127.0.0.1:1', agent_key: formatKey('ak', new Uint8Array(32)) }

/** The labels that a server reads in the hello of an agent. */
function labelsOf(labels: string[], toolLabels: string[]): readonly string[] {
  const facts = { agentId: 'a', labels, toolLabels, systemStats: STATS }
  const { fields } = agentHello(temporaryMachineKey(), facts, 'c'.repeat(43))
  return parseAgentHello(fields as JsonObject).labels
}

test('a machine has the labels of its owner, however many its tools bring', () => {
  const commands = Array.from({ length: 70 }, (_, at) => `command:c${at}`)
  const labels = labelsOf(['rack-3', 'command:c0'], commands)
  expect(labels).toHaveLength(64)
  expect(labels.slice(0, 3)).toEqual(['rack-3', 'command:c0', 'command:c1'])
})

test('the longest name of a command that settings take is a label that servers take', () => {
  const name = 'c'.repeat(56)
  expect(labelsOf([], [`command:${name}`])).toEqual([`command:${name}`])
})

test('more commands than a machine has labels are warned of', () => {
  const commands = Array.from({ length: 65 }, (_, at) => ({ name: `c${at}`, program: '/bin/true' }))
  const warningsFor = (count: number) =>
    parseAgentConfig({ ...SETTINGS, commands: commands.slice(0, count) }, {}).warnings.filter((text) =>
      /labels/.test(text),
    )
  expect(warningsFor(64)).toEqual([])
  expect(warningsFor(65)).toEqual([expect.stringContaining('65 labels')])
})
