import type { Link } from '@cyberun/link'
import type { CloseReason, Welcome } from '@cyberun/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AGENTS_LIMITS } from '../../src/agents/limits.ts'
import { AgentRegistry } from '../../src/agents/registry.ts'
import type { AgentConnection } from '../../src/agents/types.ts'
import { AgentUnreachableError, createRouting, PARKING_MS } from '../../src/routing/routing.ts'

const LIMITS = { ...AGENTS_LIMITS, resumeWindowMs: 10_000, waitersPerAgent: 2, waiters: 3 }
const GREETING: Welcome = { software: '', capabilities: [], initialWindow: 0, fields: {} }
const NEVER: Promise<CloseReason> = new Promise(() => {})

/** A link that carries nothing: the registry only hands it on. */
function fakeLink(): Link {
  return {
    welcome: GREETING,
    roundTripMs: 1.23456,
    stats: { bytesIn: 0, bytesOut: 0, streams: 0, queuedBytes: 0 },
    closed: NEVER,
    goingAway: NEVER,
    open: () => {
      throw new Error('carries nothing')
    },
    goAway() {},
    close() {},
  }
}

function connection(
  agentId: string,
  generation: number,
  options: { team?: string; machine?: string } = {},
): AgentConnection {
  const stats = { comfyui_version: '0.3.64', pytorch_version: null, os_type: 'linux', gpu_devices: [] }
  return {
    teamId: options.team ?? 'team-1',
    credentialId: 'credential-1',
    machineKey: options.machine ?? 'machine-1',
    generation,
    dialledAt: 0,
    link: fakeLink(),
    isDraining: false,
    record: {
      hello: {
        agent_id: agentId,
        agent_version: '0.1.0',
        labels: ['gpu'],
        platform_arch: 'linux/amd64',
        tool: null,
        tool_version: null,
        gpu_capacity: 1,
        tools: [],
        running_tasks: [],
        terminal: false,
      },
      connectedAt: 0,
      tasksCompleted: 3,
      lastHeartbeatAt: 5_000,
      systemStats: stats,
      tools: [],
      freeSlots: undefined,
      inventory: undefined,
    },
  }
}

const signal = (): AbortSignal => new AbortController().signal

let registry: AgentRegistry
beforeEach(() => {
  vi.useFakeTimers()
  registry = new AgentRegistry('gw-1', LIMITS, () => Date.now())
  vi.advanceTimersByTime(LIMITS.resumeWindowMs)
})
afterEach(() => void vi.useRealTimers())

describe('who is listed', () => {
  test('agents of their own team, by name, as clients see them', () => {
    registry.attach(connection('b', 1))
    registry.attach(connection('a', 1))
    registry.attach(connection('c', 1, { team: 'team-2' }))
    expect(registry.list('team-1').map(({ agent_id }) => agent_id)).toEqual(['a', 'b'])
    expect(registry.get('team-1', 'c')).toBeUndefined()
    expect(registry.get('team-2', 'c')).toMatchObject({
      agent_id: 'c',
      agent_status: 'idle',
      agent_labels: ['gpu'],
      comfyui_version: '0.3.64',
      connected_at: '1970-01-01T00:00:00.000Z',
      last_heartbeat: '1970-01-01T00:00:05.000Z',
      tasks_completed: 3,
      gateway_id: 'gw-1',
      round_trip_ms: 1.23,
    })
  })

  test('a lost agent stays for the resume window, without a round trip', () => {
    const lost = connection('a', 1)
    registry.attach(lost)
    registry.detach(lost, false)
    expect(registry.presence('team-1', 'a')).toBe('between')
    expect(registry.linkOf('team-1', 'a')).toBeUndefined()
    expect(registry.get('team-1', 'a')?.round_trip_ms).toBeNull()
    vi.advanceTimersByTime(LIMITS.resumeWindowMs - 1)
    expect(registry.between).toBe(1)
    vi.advanceTimersByTime(1)
    expect(registry.presence('team-1', 'a')).toBe('absent')
    expect(registry.list('team-1')).toEqual([])
  })

  test('a stopped agent goes at once', () => {
    const stopped = connection('a', 1)
    registry.attach(stopped)
    registry.detach(stopped, true)
    expect(registry.presence('team-1', 'a')).toBe('absent')
  })

  test('the newer link stands, and the end of the older one changes nothing', () => {
    const old = connection('a', 1)
    const next = connection('a', 2)
    registry.attach(old)
    expect(registry.attach(next)).toEqual({ kind: 'attached', former: old })
    registry.detach(old, true)
    expect(registry.linkOf('team-1', 'a')).toBe(next.link)
    vi.advanceTimersByTime(LIMITS.resumeWindowMs)
    expect(registry.presence('team-1', 'a')).toBe('linked')
  })

  test('a link that was outrun by a newer one, or meets another machine, is not listed', () => {
    registry.attach(connection('a', 2))
    expect(registry.attach(connection('a', 1))).toEqual({ kind: 'outrun' })
    expect(registry.attach(connection('a', 3, { machine: 'machine-2' }))).toEqual({ kind: 'taken' })
    expect(registry.machineOf('team-1', 'a')).toBe('machine-1')
  })

  test('status is tunnel while any session is held, and giving back twice is harmless', () => {
    const releaseFirst = registry.holdTunnel('team-1', 'a', 'session-1')
    const releaseSecond = registry.holdTunnel('team-1', 'a', 'session-2')
    registry.attach(connection('a', 1))
    const status = () => registry.get('team-1', 'a')?.agent_status
    expect(status()).toBe('tunnel')
    releaseFirst()
    releaseFirst()
    expect(status()).toBe('tunnel')
    releaseSecond()
    expect(status()).toBe('idle')
    registry.holdTunnel('team-1', 'a', 'session-3')
    releaseSecond()
    expect(status()).toBe('tunnel')
  })
})

describe('waiting for an agent', () => {
  test('between two links, the next one answers everybody', async () => {
    const lost = connection('a', 1)
    registry.attach(lost)
    registry.detach(lost, false)
    const waiting = Promise.all([
      registry.nextLink('team-1', 'a', signal()),
      registry.nextLink('team-1', 'a', signal()),
    ])
    const next = connection('a', 2)
    registry.attach(next)
    expect(await waiting).toEqual([next.link, next.link])
  })

  test('ends with the resume window, the signal, or at once for an agent nobody knows', async () => {
    const lost = connection('a', 1)
    registry.attach(lost)
    registry.detach(lost, false)
    const controller = new AbortController()
    const cancelled = registry.nextLink('team-1', 'a', controller.signal)
    controller.abort()
    expect(await cancelled).toBeUndefined()
    const forgotten = registry.nextLink('team-1', 'a', signal())
    vi.advanceTimersByTime(LIMITS.resumeWindowMs)
    expect(await forgotten).toBeUndefined()
    expect(await registry.nextLink('team-1', 'a', signal())).toBeUndefined()
  })

  test('is bounded for each agent and for all', async () => {
    for (const name of ['a', 'b']) {
      const lost = connection(name, 1)
      registry.attach(lost)
      registry.detach(lost, false)
    }
    void registry.nextLink('team-1', 'a', signal())
    void registry.nextLink('team-1', 'a', signal())
    expect(await registry.nextLink('team-1', 'a', signal())).toBeUndefined()
    void registry.nextLink('team-1', 'b', signal())
    expect(await registry.nextLink('team-1', 'b', signal())).toBeUndefined()
  })

  test('right after the start every agent may be on its way', async () => {
    const fresh = new AgentRegistry('gw-1', LIMITS, () => Date.now())
    expect(fresh.presence('team-1', 'a')).toBe('between')
    const waiting = fresh.nextLink('team-1', 'a', signal())
    const next = connection('a', 1)
    fresh.attach(next)
    expect(await waiting).toBe(next.link)
    vi.advanceTimersByTime(LIMITS.resumeWindowMs)
    expect(fresh.presence('team-1', 'b')).toBe('absent')
  })
})

describe('routing', () => {
  const init = { target: { kind: 'tcp', port: 80 }, priority: 'bulk' } as const
  const events = { onData() {}, onEnd() {}, onReset() {}, onDrain() {} }

  test('knows no path to an agent that is not here', () => {
    expect(createRouting(registry).pathTo('team-1', 'a')).toBeUndefined()
  })

  test('gives up on an agent that stays away for 5 s', async () => {
    const lost = connection('a', 1)
    registry.attach(lost)
    registry.detach(lost, false)
    const opened = createRouting(registry).pathTo('team-1', 'a')?.open(init, events, signal())
    const gaveUp = expect(opened).rejects.toThrow(AgentUnreachableError)
    await vi.advanceTimersByTimeAsync(PARKING_MS)
    await gaveUp
  })

  test('gives up when the caller does, with its reason', async () => {
    const lost = connection('a', 1)
    registry.attach(lost)
    registry.detach(lost, false)
    const controller = new AbortController()
    const opened = createRouting(registry).pathTo('team-1', 'a')?.open(init, events, controller.signal)
    controller.abort(new Error('the visitor left'))
    await expect(opened).rejects.toThrow('the visitor left')
  })
})
