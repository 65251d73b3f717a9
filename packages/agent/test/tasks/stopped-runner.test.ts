import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeLine } from '@cyberun/link'
import { createLog } from '@cyberun/link/log'
import type { LinkStream, StreamEvents } from '@cyberun/protocol'
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { RUN_LIMITS } from '../../src/tasks/limits.ts'
import { createRunner } from '../../src/tasks/runner.ts'
import { handTool } from './runner-world.ts'
import { ASSIGN } from './scripted-server.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] }))
afterEach(() => void vi.useRealTimers())

/** The agent's end of a task stream whose server only assigns. */
function assigningStream(): LinkStream & { assign(): void } {
  let events: StreamEvents | undefined
  return {
    id: 2,
    init: { target: { kind: 'task' }, priority: 'control' },
    accepted: Promise.resolve(),
    queuedBytes: 0,
    listen(given) {
      events = given
    },
    accept() {},
    write: () => true,
    pass: () => true,
    end() {},
    reset() {},
    assign: () => events?.onData({ bytes: encodeLine(ASSIGN), headroom: 0, hold: () => () => {} }),
  }
}

test('a run that is left for the next process leaves no timer, so that this one can end', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'cyberun-runner-'))
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }))
  const tool = handTool({ canResume: true })
  const runner = await createRunner({
    tools: new Map([['demo', tool]]),
    slots: 1,
    stateDir,
    limits: RUN_LIMITS,
    tunnelPorts: () => 'all',
    log: createLog({ level: 'silent', format: 'json' }),
    unhealthy: () => undefined,
    now: () => performance.now(),
    wallMs: () => Date.now(),
    onChange() {},
  })
  const stream = assigningStream()
  runner.onStream(stream)
  stream.assign()
  while (tool.runs.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect(vi.getTimerCount(), 'its lease').toBe(1)
  await runner.stop()
  expect(vi.getTimerCount()).toBe(0)
})
