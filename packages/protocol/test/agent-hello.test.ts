import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AGENT_LIMITS, parseAgentHello } from '../src/agent-hello.ts'
import { INVENTORY_LIMITS, parseAgentLine, parseServerLine } from '../src/control-lines.ts'
import { FieldError } from '../src/fields.ts'
import type { JsonObject } from '../src/model.ts'

const STATS = {
  comfyui_version: null,
  pytorch_version: '2.9.0',
  os_type: 'linux',
  gpu_devices: [{ device_name: 'NVIDIA L4', device_type: 'cuda', vram_total: 24_000_000_000, vram_free: 1 }],
}
const HELLO: JsonObject = {
  agent_id: 'studio-7',
  agent_version: '0.1.0',
  labels: ['gpu', 'nvidia-l4', 'rack:3'],
  platform_arch: 'linux/amd64',
  tool: null,
  tool_version: null,
  gpu_capacity: 1,
  system_stats: STATS,
  tools: [{ type: 'demo', version: '0.2.0' }],
  running_tasks: [{ task_id: '019a0000-0000-7000-8000-000000000001', fence: 3 }],
  terminal: true,
  machine: { public_key: 'A'.repeat(43), signature: 'b'.repeat(86) },
}

describe("an agent's hello", () => {
  test('is read as it is', () => {
    expect(parseAgentHello(HELLO)).toEqual(HELLO)
  })

  test('may have fields of a later version, and repeated labels count once', () => {
    const later = { ...HELLO, quantum: true, labels: ['a', 'b', 'a'] }
    expect(parseAgentHello(later)).toEqual({ ...HELLO, labels: ['a', 'b'] })
  })

  test('may leave out what it does not have', () => {
    const { tool: _, tool_version: __, ...without } = HELLO
    expect(parseAgentHello(without)).toEqual(HELLO)
    const { tools: _tools, running_tasks: _running, terminal: _terminal, ...older } = HELLO
    expect(parseAgentHello(older)).toEqual({ ...HELLO, tools: [], running_tasks: [], terminal: false })
  })

  const garbage: readonly [field: string, value: unknown][] = [
    ['agent_id', undefined],
    ['agent_id', ''],
    ['agent_id', 7],
    ['agent_id', 'a b'],
    ['agent_id', 'a/../b'],
    ['agent_id', '-a'],
    ['agent_id', 'a-'],
    ['agent_id', 'ä'],
    ['agent_id', 'a'.repeat(AGENT_LIMITS.idCharacters + 1)],
    ['agent_version', null],
    ['agent_version', '\u001b[31m'],
    ['agent_version', 'v'.repeat(AGENT_LIMITS.versionCharacters + 1)],
    ['agent_version', '\ud800'],
    ['labels', undefined],
    ['labels', 'gpu'],
    ['labels', [null]],
    ['labels', ['']],
    ['labels', ['two words']],
    ['labels', ['x'.repeat(AGENT_LIMITS.labelCharacters + 1)]],
    ['labels', Array.from({ length: AGENT_LIMITS.labels + 1 }, (_, index) => `l${index}`)],
    ['platform_arch', 'linux\namd64'],
    ['tool', 3],
    ['tool_version', {}],
    ['gpu_capacity', -1],
    ['gpu_capacity', 1.5],
    ['gpu_capacity', '1'],
    ['gpu_capacity', Number.POSITIVE_INFINITY],
    ['gpu_capacity', AGENT_LIMITS.gpuCapacity + 1],
    ['system_stats', undefined],
    ['system_stats', []],
    ['system_stats', { ...STATS, os_type: undefined }],
    ['system_stats', { ...STATS, gpu_devices: {} }],
    ['system_stats', { ...STATS, gpu_devices: [null] }],
    ['system_stats', { ...STATS, gpu_devices: Array.from({ length: 65 }, () => STATS.gpu_devices[0]) }],
    ['system_stats', { ...STATS, gpu_devices: [{ ...STATS.gpu_devices[0], vram_total: -1 }] }],
    ['system_stats', { ...STATS, gpu_devices: [{ ...STATS.gpu_devices[0], vram_free: 2 ** 53 }] }],
    ['system_stats', { ...STATS, gpu_devices: [{ ...STATS.gpu_devices[0], device_name: 'x'.repeat(129) }] }],
    ['tools', 'demo'],
    ['tools', [{ type: 'teleport', version: '1' }]],
    ['tools', [{ type: 'demo' }]],
    ['tools', Array.from({ length: AGENT_LIMITS.tools + 1 }, () => ({ type: 'demo', version: '1' }))],
    ['running_tasks', [{ task_id: 'a b', fence: 1 }]],
    ['running_tasks', [{ task_id: 'a', fence: 0 }]],
    ['running_tasks', ['a']],
    ['machine', undefined],
    ['machine', 'key'],
    ['machine', { public_key: 'A'.repeat(42), signature: 'b'.repeat(86) }],
    ['machine', { public_key: 'A'.repeat(43), signature: `${'b'.repeat(85)}+` }],
  ]
  test.each(garbage)('with a wrong %s (%j) is refused, naming it', (field, value) => {
    const parse = () => parseAgentHello({ ...HELLO, [field]: value })
    expect(parse).toThrow(FieldError)
    expect(parse).toThrow(new RegExp(`^${field}[.[\\]\\w]* must be `))
  })

  test('of anything at all is a hello or a FieldError', () => {
    const field = fc.constantFrom(...Object.keys(HELLO))
    fc.assert(
      fc.property(field, fc.jsonValue({ maxDepth: 4 }), (name, value) => {
        try {
          parseAgentHello({ ...HELLO, [name]: value } as JsonObject)
        } catch (error) {
          expect(error).toBeInstanceOf(FieldError)
        }
      }),
    )
  })
})

describe('lines of the control stream', () => {
  test('heartbeats and their answers', () => {
    const beat = { type: 'heartbeat', sequence: 7, system_stats: STATS }
    expect(parseAgentLine(JSON.stringify(beat))).toEqual(beat)
    expect(parseServerLine('{"type":"heartbeat_ok","sequence":7}')).toEqual({ type: 'heartbeat_ok', sequence: 7 })
  })

  test('heartbeats may say how the tools do, and how much more would be taken', () => {
    const tools = [
      { type: 'demo', version: '1', state: 'ready' },
      { type: 'comfyui', version: '0.3.64', state: 'unhealthy', reason: 'the queue does not move' },
    ]
    const beat = { type: 'heartbeat', sequence: 7, system_stats: STATS, tools, free_slots: 1 }
    expect(parseAgentLine(JSON.stringify(beat))).toEqual(beat)
  })

  test('inventories', () => {
    const part = { type: 'inventory', part: 2, parts: 3, models: ['sd/xl.safetensors'], node_classes: ['KSampler'] }
    expect(parseAgentLine(JSON.stringify(part))).toEqual(part)
  })

  test.each([
    { part: 4 },
    { part: 0 },
    { parts: INVENTORY_LIMITS.parts + 1 },
    { models: 'all' },
    { models: ['a\u0000b'] },
    { node_classes: [1] },
  ])('an inventory with %j is refused', (wrong) => {
    const part = { type: 'inventory', part: 1, parts: 3, models: [], node_classes: [], ...wrong }
    expect(() => parseAgentLine(JSON.stringify(part))).toThrow(FieldError)
  })

  test.each([{ free_slots: -1 }, { tools: {} }, { tools: [{ type: 'demo', version: '1', state: 'asleep' }] }])(
    'a heartbeat with %j is refused',
    (wrong) => {
      const beat = { type: 'heartbeat', sequence: 7, system_stats: STATS, ...wrong }
      expect(() => parseAgentLine(JSON.stringify(beat))).toThrow(FieldError)
    },
  )

  test('types of a later version are skipped', () => {
    expect(parseAgentLine('{"type":"weather"}')).toBeUndefined()
    expect(parseServerLine('{"type":"weather"}')).toBeUndefined()
  })

  test.each(['', 'x', '[]', '"heartbeat"', 'null', '{"type":"heartbeat"}', '{"type":"heartbeat","sequence":-1}'])(
    'the line %j is refused',
    (line) => {
      expect(() => parseAgentLine(line)).toThrow(FieldError)
    },
  )
})
