import { createLog } from '@cyberun/link/log'
import { INVENTORY_LIMITS, parseAgentLine } from '@cyberun/protocol'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { inventoryLines } from '../../src/tasks/inventory.ts'
import { type ToolWatch, watchTools } from '../../src/tasks/tool-watch.ts'
import { createDemoTool } from '../../src/tools/demo/demo.ts'
import type { Tool, ToolHealth, ToolOffer } from '../../src/tools/tool.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const LIMITS = { healthMs: 5_000, detectAgainMs: 300_000 }
const never = <T>(): Promise<T> => new Promise(() => {})

interface Scene {
  readonly watch: ToolWatch
  readonly tool: Tool
  health: () => Promise<ToolHealth>
  offer: () => Promise<ToolOffer | undefined>
  detected: number
  changes: number
  /** Lets the next look at the tools happen. */
  look(ms?: number): Promise<void>
}

async function scene(
  begin: Partial<Pick<Scene, 'health' | 'offer'>> = {},
  healthMs: number = LIMITS.healthMs,
): Promise<Scene> {
  const made = {
    health: begin.health ?? (() => Promise.resolve({ state: 'ready' as const })),
    offer: begin.offer ?? (() => Promise.resolve({ version: '1.0', labels: ['fast'], models: ['a.safetensors'] })),
    detected: 0,
    changes: 0,
    look: async (ms = LIMITS.healthMs): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms)),
  }
  const tool: Tool = {
    type: 'comfyui',
    detect() {
      made.detected += 1
      return made.offer()
    },
    health: () => made.health(),
    check: () => Promise.resolve(undefined),
    run: () => never(),
  }
  const log = createLog({ level: 'silent', format: 'json' })
  const stop = new AbortController()
  onTestFinished(() => stop.abort())
  const watching = watchTools(
    [tool],
    { ...LIMITS, healthMs },
    log,
    () => Date.now(),
    () => void made.changes++,
    stop.signal,
  )
  if (vi.isFakeTimers()) await vi.advanceTimersByTimeAsync(10_000)
  return Object.assign(made, { tool, watch: await watching })
}

describe('the tools of a machine', () => {
  test('are known before the first link, with labels, version and inventory', async () => {
    const { watch } = await scene()
    expect(watch.offers()).toEqual([{ type: 'comfyui', version: '1.0' }])
    expect(watch.labels()).toEqual(['comfyui', 'fast'])
    expect(watch.health()).toEqual([{ type: 'comfyui', version: '1.0', state: 'ready' }])
    expect(watch.comfyuiVersion()).toBe('1.0')
    expect(watch.inventory()).toEqual({ models: ['a.safetensors'], node_classes: [] })
    expect(watch.unhealthy('comfyui')).toBeUndefined()
    expect(watch.unhealthy('demo')).toMatch(/not there/)
  })

  test('are told when they fall ill and when they are well, and asked anew what they offer then', async () => {
    const it = await scene()
    const before = { changes: it.changes, detected: it.detected }
    it.health = () => Promise.resolve({ state: 'unhealthy', reason: 'the queue\ndoes not move' })
    await it.look()
    expect(it.watch.health()).toMatchObject([{ state: 'unhealthy', reason: 'the queue does not move' }])
    expect(it.watch.unhealthy('comfyui')).toMatch(/is unhealthy: the queue/)
    it.health = () => Promise.resolve({ state: 'ready' })
    it.offer = () => Promise.resolve({ version: '2.0', labels: [], models: ['b.safetensors'] })
    await it.look()
    expect(it.watch.inventory()?.models).toEqual(['b.safetensors'])
    expect([it.changes - before.changes, it.detected - before.detected]).toEqual([2, 1])
    await it.look()
    expect(it.changes - before.changes).toBe(2)
  })

  test('count as ill when one throws', async () => {
    const it = await scene()
    it.health = () => Promise.reject(new Error('connection refused'))
    await it.look()
    expect(it.watch.unhealthy('comfyui')).toMatch(/connection refused/)
  })

  test('count as ill when one does not answer', async () => {
    vi.useRealTimers()
    const it = await scene({}, 20)
    it.health = () => never()
    await expect.poll(() => it.watch.unhealthy('comfyui')).toMatch(/does not answer/)
  })

  test('are told of in words that the server reads, wherever they are cut', async () => {
    const it = await scene({
      health: () => Promise.resolve({ state: 'unhealthy', reason: `${'x'.repeat(499)}🔥 more` }),
    })
    const stats = { comfyui_version: null, pytorch_version: null, os_type: 'linux', gpu_devices: [] }
    const line = { type: 'heartbeat', sequence: 1, system_stats: stats, tools: it.watch.health() }
    expect(parseAgentLine(JSON.stringify(line))).toMatchObject({ tools: [{ state: 'unhealthy' }] })
  })

  test('that are not there at first are offered as soon as they are', async () => {
    const it = await scene({ offer: () => Promise.resolve(undefined) })
    expect(it.watch.offers()).toEqual([])
    it.offer = () => Promise.resolve({ version: '1.0', labels: [] })
    await it.look()
    expect(it.watch.offers()).toHaveLength(1)
  })
})

test('a watch that is told to stop before it has begun leaves no timer, so that the process can end', async () => {
  const log = createLog({ level: 'silent', format: 'json' })
  await watchTools(
    [createDemoTool()],
    LIMITS,
    log,
    () => Date.now(),
    () => {},
    AbortSignal.abort(),
  )
  expect(vi.getTimerCount()).toBe(0)
})

describe('an inventory', () => {
  test('is told in lines that the wire takes, whole', () => {
    const models = Array.from({ length: 2_000 }, (_, index) => `folder/モデル-${index}.safetensors`)
    const classes = Array.from({ length: 1_000 }, (_, index) => `Node${index}`)
    const lines = inventoryLines({ models: [...models, 'bad\nname', '', 'x'.repeat(600)], node_classes: classes }) ?? []
    expect(lines.length).toBeGreaterThan(1)
    for (const line of lines) {
      expect(Buffer.byteLength(JSON.stringify(line))).toBeLessThan(64 * 1024)
      expect(parseAgentLine(JSON.stringify(line))).toEqual(line)
    }
    expect(lines.flatMap((line) => line.models)).toEqual(models)
    expect(lines.flatMap((line) => line.node_classes)).toEqual(classes)
    expect(lines.map(({ part }) => part)).toEqual(lines.map((_, index) => index + 1))
  })

  test('that is empty is one line, and one beyond the bounds is not told', () => {
    expect(inventoryLines({ models: [], node_classes: [] })).toEqual([
      { type: 'inventory', part: 1, parts: 1, models: [], node_classes: [] },
    ])
    const many = Array.from({ length: INVENTORY_LIMITS.names }, (_, index) => `${index}-${'x'.repeat(60)}`)
    expect(inventoryLines({ models: many, node_classes: [] })).toBeUndefined()
  })
})
