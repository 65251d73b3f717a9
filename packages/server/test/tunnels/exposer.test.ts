import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ApiError } from '@cyberun/api'
import { createLog } from '@cyberun/link/log'
import { expect, onTestFinished, test } from 'vitest'
import { createLocalBus } from '../../src/bus.ts'
import { acknowledgeAttempt } from '../../src/store/attempts.ts'
import { noteExposed } from '../../src/store/exposures.ts'
import { openStore } from '../../src/store/store.ts'
import { readEvents } from '../../src/store/task-events.ts'
import { EXPOSER_LIMITS, Exposer, type ExposerOptions } from '../../src/tunnels/exposer.ts'
import type { OpenTunnel } from '../../src/tunnels/open-tunnel.ts'
import { PRESENCE_LIMITS } from '../../src/tunnels/presence.ts'
import { claimOne, submitted, teamWithWorkflow } from '../store/task-world.ts'
import { startBed } from './bed.ts'

const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64)'

/** A run with a service, as dispatch and the store know it, on a clock that only the test moves. */
async function exposedRun(open?: ExposerOptions['tunnels']['open'], { isStored = true } = {}) {
  const dataDir = await mkdtemp(join(tmpdir(), 'cyberun-exposer-'))
  const log = createLog({ level: 'silent', format: 'json' })
  const store = await openStore({ dataDir, log })
  await teamWithWorkflow(store)
  const exposure = { protocol: 'http', credentialId: 'key-1', familyId: null } as const
  const taskId = await submitted(store, { exposure })
  const attempt = await claimOne(store)
  if (isStored) await acknowledgeAttempt(store, attempt)
  const bed = await startBed()
  const time = { now: 1_000_000 }
  const tunnels: OpenTunnel[] = []
  const ended: string[] = []
  const opened: unknown[] = []
  const exposed = [{ attempt, port: 4_711 }]
  const exposer = new Exposer({
    ...{ store, log, bus: createLocalBus(), now: () => time.now },
    dispatch: { exposed: () => exposed },
    tunnels: {
      open:
        open ??
        (async (caller, _teamId, agentId, request, _signal, task) => {
          opened.push({ caller, agentId, port: request.target_port, task: task?.taskId })
          if (task) await noteExposed(store, task)
          tunnels.push(bed.open(request.target_port, { taskId }))
          return undefined as never // nobody looks at it
        }),
      ofTasks: () => [...tunnels],
      async endOfTask(tunnel, cause) {
        tunnels.splice(tunnels.indexOf(tunnel), 1)
        ended.push(cause)
      },
    },
  })
  onTestFinished(async () => {
    await exposer.stop()
    await bed[Symbol.asyncDispose]()
    await store.close()
    await rm(dataDir, { recursive: true, force: true })
  })
  const messages = async () =>
    (await readEvents(store, taskId, 0, 100)).events.flatMap(({ event }) =>
      event.kind === 'status' && event.message !== undefined ? [event.message] : [],
    )
  /** Another one with the same session takes the place of the tunnel. */
  const revoked = () => {
    for (const [at, { facts }] of tunnels.entries()) tunnels[at] = bed.open(facts.targetPort, facts)
  }
  return { exposer, attempt, exposed, tunnels, ended, opened, time, messages, revoked, store }
}

test('it is opened once, with the right that the run was submitted with, and the task says so', async () => {
  const { exposer, opened, messages, attempt } = await exposedRun()
  await exposer.sweep()
  await expect.poll(messages).toEqual(['its service can be reached: the tunnel_url of the task leads to it'])
  await exposer.sweep()
  expect(await messages()).toHaveLength(1)
  const caller = { userId: 'ada', credentialId: 'key-1' }
  expect(opened).toEqual([{ caller, agentId: attempt.agentId, port: 4_711, task: attempt.taskId }])
})

test('a run that is seen before the store knows that it runs is looked at again', async () => {
  const { exposer, opened, attempt, store } = await exposedRun(undefined, { isStored: false })
  await exposer.sweep()
  await acknowledgeAttempt(store, attempt)
  await expect.poll(() => exposer.sweep().then(() => opened.length)).toBe(1)
})

test('a store that fails while a run is looked at does not cost the run its tunnel', async () => {
  const run = await exposedRun(async () => {
    tries += 1
    throw new Error('the database is away')
  })
  let tries = 0
  await expect.poll(() => run.exposer.sweep().then(() => tries)).toBeGreaterThan(1)
})

test('an attempt that had its tunnel before this server started gets no other', async () => {
  const { exposer, opened, attempt, store, messages } = await exposedRun()
  await noteExposed(store, attempt)
  await exposer.sweep()
  // The store answers reads in their order, so it has said by then what the sweep asked of the attempt.
  await messages()
  expect(opened).toEqual([])
})

test('it is closed when its last tab has been gone for a minute, and not before; programs are no tabs', async () => {
  const { exposer, tunnels, ended, time, opened, messages } = await exposedRun()
  await exposer.sweep()
  await expect.poll(() => tunnels.length).toBe(1)
  const [tunnel] = tunnels
  const visit = { address: '127.0.0.1', userAgent: 'curl/8' }
  tunnel?.begin(visit, time.now)
  tunnel?.end(visit, time.now)
  time.now += 10 * PRESENCE_LIMITS.awayMs
  await exposer.sweep()
  expect(ended).toEqual([])
  const tab = { address: '127.0.0.1', userAgent: BROWSER }
  tunnel?.begin(tab, time.now)
  time.now += 10 * PRESENCE_LIMITS.awayMs
  await exposer.sweep()
  expect(ended).toEqual([])
  tunnel?.end(tab, time.now)
  time.now += PRESENCE_LIMITS.awayMs - 1
  await exposer.sweep()
  expect(ended).toEqual([])
  time.now += 1
  await exposer.sweep()
  expect(ended).toEqual(['tabs_closed'])
  await exposer.sweep()
  await messages()
  expect(opened).toHaveLength(1)
})

test('a tunnel that came while it looked is looked at before who asked is told', async () => {
  const { exposer, tunnels, ended, time } = await exposedRun()
  await exposer.sweep()
  await expect.poll(() => tunnels.length).toBe(1)
  const tab = { address: '127.0.0.1', userAgent: BROWSER }
  tunnels[0]?.begin(tab, time.now)
  await exposer.sweep()
  tunnels[0]?.end(tab, time.now)
  const latecomers = tunnels.splice(0)
  const looking = exposer.sweep()
  tunnels.push(...latecomers)
  time.now += PRESENCE_LIMITS.awayMs
  await exposer.sweep()
  expect(ended).toEqual(['tabs_closed'])
  await looking
})

test('one that is revoked with a tab on it stays open: its new address has not been used yet', async () => {
  const { exposer, tunnels, ended, time, revoked } = await exposedRun()
  await exposer.sweep()
  await expect.poll(() => tunnels.length).toBe(1)
  tunnels[0]?.begin({ address: '127.0.0.1', userAgent: BROWSER }, time.now)
  await exposer.sweep()
  revoked()
  await exposer.sweep()
  expect(ended).toEqual([])
  tunnels[0]?.begin({ address: '127.0.0.1', userAgent: BROWSER }, time.now)
  await exposer.sweep()
  expect(ended).toEqual([])
})

test('a service that never listens is waited for, and then the task says so', async () => {
  let tries = 0
  const run = await exposedRun(async () => {
    tries += 1
    if (tries === 2) run.time.now += EXPOSER_LIMITS.waitMs
    throw new ApiError('target_refused', 'Nothing listens.')
  })
  await run.exposer.sweep()
  await expect
    .poll(run.messages)
    .toEqual([`its service has no tunnel: nothing listened on port 4711 of ${run.attempt.agentId} within 10 minutes`])
  expect(tries).toBe(2)
})

test('a port that the owner has not allowed is told at once', async () => {
  const run = await exposedRun(async () => {
    throw new ApiError('port_not_allowed', 'The owner does not allow it.')
  })
  await run.exposer.sweep()
  await expect.poll(run.messages).toEqual(['its service has no tunnel: The owner does not allow it.'])
})
