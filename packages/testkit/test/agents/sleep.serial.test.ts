import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startAgentProcess } from '../../src/processes.ts'
import { until } from '../../src/until.ts'
import { agentsWorld, temporaryDirectory } from './agents-world.ts'

/** SIGSTOP is to a process what sleep is to a machine: time passes, nothing runs, and the network goes on without it. */
test('an agent whose machine slept is missed, and back within 2 s of waking up', async () => {
  const world = await agentsWorld()
  const { rawKey } = await world.newKey()
  const dir = await temporaryDirectory()
  await using agent = startAgentProcess(join(dir, 'agent.log'))
  const { gatewayUrl } = world
  await agent.call('start', { gatewayUrl, agentKey: rawKey, agentId: 'sleeper', stateDir: dir, logLevel: 'debug' })
  const { teamId } = world.owner
  await until(() => world.agents.linkOf(teamId, 'sleeper') !== undefined)
  const before = world.agents.linkOf(teamId, 'sleeper')

  process.kill(agent.pid, 'SIGSTOP')
  const asleepAt = performance.now()
  await until(() => world.agents.presence(teamId, 'sleeper') === 'between')
  // 4.5 s without a word, and as long as a busy test machine is late.
  expect(performance.now() - asleepAt).toBeLessThan(7_000)

  process.kill(agent.pid, 'SIGCONT')
  const awakeAt = performance.now()
  await until(() => world.agents.linkOf(teamId, 'sleeper') !== undefined)
  expect(performance.now() - awakeAt).toBeLessThan(2_000)
  expect(world.agents.linkOf(teamId, 'sleeper')).not.toBe(before)
})
