import { expect, test } from 'vitest'
import type { AgentJob } from '../src/up/agent-thread.ts'
import { startLocalAgent } from '../src/up/local-agent.ts'

/** It has no key, so its thread gives up; that is told later than it is asked for. */
const job: AgentJob = {
  settings: { gateway_url: 'ws://edge.cyberun.invalid' },
  log: { level: 'silent', format: 'json' },
  refusedPorts: [],
}

test('who was stopped before the agent is linked does not wait for that', async () => {
  const agent = startLocalAgent(job, () => {})
  expect(await agent.settled(AbortSignal.abort())).toBe('connecting')
  await agent.stop()
})
