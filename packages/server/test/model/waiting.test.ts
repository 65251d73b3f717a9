import { DECLINE_REASONS, TASK_FAULTS } from '@cyberun/protocol'
import { describe, expect, test } from 'vitest'
import type { Requirements } from '../../src/model/requirements.ts'
import { AFTER_DECLINE, afterFault } from '../../src/model/retry.ts'
import { type AgentSituation, waitingReason } from '../../src/model/waiting-reason.ts'

const needs = (changes: Partial<Requirements> = {}): Requirements => ({
  ...{ tool: 'comfyui', labels: [], models: [], nodes: [], minVramGb: null, preferredGpu: null },
  ...changes,
})
const agent = (agentId: string, changes: Partial<AgentSituation> = {}): AgentSituation => ({
  ...{ agentId, labels: new Set(['gpu']), tools: new Set(['comfyui'] as const), models: 'any', nodeClasses: 'any' },
  ...{ vramGb: 24, gpuName: null, state: 'busy' },
  ...changes,
})
const refusals = [{ agentId: 'a', message: 'a declined it: model x is not here' }]

describe('why a task waits', () => {
  test.each([
    [{}, [], [], 'no agent is connected'],
    [{ labels: ['gpu-h100'] }, [], [agent('a')], 'no connected agent has label gpu-h100'],
    [{ minVramGb: 80 }, [], [agent('a')], 'no connected agent has 80 GB of VRAM'],
    [{ tool: 'nerfstudio' as const }, [], [agent('a'), agent('b')], 'no connected agent has tool nerfstudio'],
    [
      { models: ['x', 'y', 'z', 'w'] },
      [],
      [agent('a', { models: new Set() })],
      'no connected agent has model x, model y, model z and 1 more',
    ],
    [
      { labels: ['l'], models: ['x'] },
      [],
      [agent('a', { models: new Set() }), agent('b', { labels: new Set(['l']), models: new Set(['y']) }), agent('c')],
      'no connected agent has everything it needs; the closest lacks model x',
    ],
    [{}, [], [agent('a')], 'the only agent that fits is busy'],
    [{}, [], [agent('a', { state: 'tunnel' })], 'the only agent that fits is in use through a tunnel'],
    [{}, [], [agent('a'), agent('b')], 'all 2 agents that fit are busy'],
    [{}, [], [agent('a'), agent('b', { state: 'unhealthy' })], 'of 2 agents that fit 1 is busy, 1 is unhealthy'],
    [{}, [], [agent('a', { state: 'free' })], 'an agent is free: it is about to start'],
    [{}, refusals, [agent('a')], 'every agent that fits declined it: a: a declined it: model x is not here'],
    [{}, refusals, [agent('a'), agent('b')], 'the only agent that fits is busy'],
  ])('%j, %j: %#', (changes, declined, agents, reason) => {
    expect(waitingReason({ requirements: needs(changes), refusals: declined }, agents)).toBe(reason)
  })
})

describe('what becomes of a task', () => {
  test("a client's mistake is never retried, what is missing is looked for elsewhere, the rest while retries last", () => {
    const left = TASK_FAULTS.map((fault) => [fault, afterFault(fault, { retryCount: 0, maxRetries: 1 })])
    expect(Object.fromEntries(left)).toEqual({
      tool: 'retry',
      client: 'fail',
      infrastructure: 'retry',
      missing: 'refuse',
    })
    const none = TASK_FAULTS.map((fault) => [fault, afterFault(fault, { retryCount: 1, maxRetries: 1 })])
    expect(Object.fromEntries(none)).toEqual({
      tool: 'fail',
      client: 'fail',
      infrastructure: 'fail',
      missing: 'refuse',
    })
  })

  test('every reason to decline has its answer', () => {
    expect(Object.keys(AFTER_DECLINE).toSorted()).toEqual([...DECLINE_REASONS].toSorted())
  })
})
