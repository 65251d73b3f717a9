import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { formatKey, KEY_RANDOM_BYTES } from '@cyberun/protocol'
import { expect, onTestFinished, test } from 'vitest'
import { parseAgentConfig } from '../../src/config.ts'
import { startTasks } from '../../src/tasks/tasks.ts'
import { scriptedServer } from './scripted-server.ts'

test('what the hello of a link did not say yet is said on another link', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'cyberun-tasks-'))
  const over = new AbortController()
  const agent_key = formatKey('ak', Buffer.alloc(KEY_RANDOM_BYTES))
  const config = parseAgentConfig({ gateway_url: 'ws://127.0.0.1', agent_key, state_dir: stateDir, demo: true }, {})
  const log = createLog({ level: 'silent', format: 'json' })
  const tasks = await startTasks(config, {
    ...{ log, env: {}, now: () => performance.now(), signal: over.signal },
    tunnelPorts: () => 'all',
  })
  onTestFinished(async () => {
    over.abort()
    await tasks.stop()
    await rm(stateDir, { recursive: true, force: true })
  })
  const server = await scriptedServer((stream) => tasks.onStream(stream))
  // Its hello was written while the tool was not there.
  const early = await server.link()
  tasks.useLink(early, [])
  expect(await early.closed).toMatchObject({ code: 'done' })
  const link = await server.link()
  tasks.useLink(link, tasks.labels())
  expect(await Promise.race([link.closed, Promise.resolve('open')])).toBe('open')
})
