import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { EventReader } from '@cyberun/api/event-reader'
import { randomOf } from '@cyberun/testkit'
import { expect, onTestFinished, test } from 'vitest'
import { readEvents } from '../../src/store/task-events.ts'
import { forgetOld } from '../../src/tasks/retention.ts'
import type { Submitter } from '../../src/tasks/submission.ts'
import { controlWith, identityDouble, type TestControl } from '../control/doubles.ts'
import { onBothEngines, silent } from '../store/engines.ts'
import { HOUR, type Run, type TasksWorld, tasksWorld } from './tasks-world.ts'

/** Event streams as a client meets them: over HTTP, against a real store. */

const SEED = 20_261_121

interface Bed {
  world: TasksWorld
  control: TestControl
  submitter: Submitter
  run: Run
  /** Asks for the events of the run after a number; `after` as it is sent. */
  open(after?: string): Promise<IncomingMessage>
}

async function bed(world: TasksWorld, identity = identityDouble()): Promise<Bed> {
  const { bus, tasks } = world
  const control = await controlWith({ bus, tasks, identity })
  onTestFinished(async () => {
    await control[Symbol.asyncDispose]()
    await world[Symbol.asyncDispose]()
  })
  const submitter = await world.newSubmitter()
  const run = await world.run(submitter)
  return {
    ...{ world, control, submitter, run },
    async open(after) {
      const headers = {
        authorization: 'Bearer good',
        'x-team-id': submitter.teamId,
        ...(after !== undefined && { 'last-event-id': after }),
      }
      const request = get(`${control.url}/api/v1/r/tasks/${run.taskId}/events`, { headers })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      return response
    },
  }
}

/** What a stream carries up to its end, or until `bytes` of it came and it is cut. */
async function readUpTo(response: IncomingMessage, bytes = Number.POSITIVE_INFINITY) {
  const reader = new EventReader()
  const events = []
  let left = bytes
  for await (const chunk of response as AsyncIterable<Buffer>) {
    events.push(...reader.push(chunk.subarray(0, left)))
    left -= chunk.byteLength
    if (left <= 0) break // Leaving the loop destroys the response, as a lost connection would.
  }
  return events
}

const line = (at: number, length: number) => `${at} ${'x'.repeat(length)}`

onBothEngines('a stream of events', ({ emptyStore }) => {
  test('1,000 cuts at random bytes during writes: what a reader joins is the journal', async () => {
    const { world, run, open } = await bed(tasksWorld(await emptyStore()))
    const random = randomOf(SEED)
    let cuts = 0

    async function follow(): Promise<string[]> {
      const joined: string[] = []
      for (let last = 0; ; ) {
        const response = await open(last === 0 ? undefined : String(last))
        if (response.statusCode === 204) return joined
        for (const { id, event, data } of await readUpTo(response, Math.ceil(random() * 3_000))) {
          if (id === undefined) continue
          joined.push(`${id} ${event} ${data}`)
          last = Number(id)
        }
        cuts++
      }
    }

    const readers = Array.from({ length: 10 }, follow)
    for (let at = 0; cuts < 1_000; at++) {
      await run.log(Array.from({ length: Math.floor(random() * 4) }, () => line(at, Math.floor(random() * 400))))
      run.progress(random())
    }
    await run.complete()

    const journal: string[] = []
    for (let after = 0; ; ) {
      const { events } = await readEvents(world.store, run.taskId, after, 500)
      journal.push(...events.map(({ number, event }) => `${number} ${event.kind}`))
      after = events.at(-1)?.number ?? after
      if (events.length < 500) break
    }
    for (const joined of await Promise.all(readers)) {
      expect(
        joined.map((event) => event.split(' ', 2).join(' ')),
        `seed ${SEED}`,
      ).toEqual(journal)
    }
    expect(journal.at(-1)).toMatch(/ completed$/)
  }, 120_000)

  test('the whole story of a task, then 204 to whoever has it', async () => {
    const { run, open, submitter } = await bed(tasksWorld(await emptyStore()))
    await run.log(['hello'])
    await run.complete()
    const response = await open()
    expect(response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    const events = (await readUpTo(response)).map(({ id, event, data }) => ({ id, event, ...JSON.parse(data) }))
    const { taskId: task_id } = run
    expect(events).toMatchObject([
      { id: '1', event: 'status', task_id, status: 'pending' },
      { id: '2', event: 'status', task_id, status: 'queued' },
      { id: '3', event: 'status', task_id, status: 'running' },
      { id: '4', event: 'log', task_id, stream: 'stdout', line: 'hello' },
      { id: '5', event: 'completed', task_id, status: 'completed', output: { ok: true } },
    ])
    for (const after of ['5', '999']) expect((await open(after)).statusCode).toBe(204)
    const faulty = await open('-1')
    expect(faulty.statusCode).toBe(400)
    expect(submitter.teamId).toBeTypeOf('string')
  })

  test('events past retention are announced as a gap, and the end is told all the same', async () => {
    const { world, run, open } = await bed(tasksWorld(await emptyStore()))
    await run.complete()
    const now = () => Date.now() + 2 * HOUR
    await forgetOld({ store: world.store, log: silent, now, eventRetentionMs: HOUR })
    const events = (await readUpTo(await open())).map(({ id, event, data }) => ({ id, event, data: JSON.parse(data) }))
    expect(events).toMatchObject([
      { id: undefined, event: 'gap', data: { from: 1, to: 3 } },
      { id: '4', event: 'completed', data: { output: { ok: true } } },
    ])
  })

  test('a lost doorbell is made up for', async () => {
    const { run, open } = await bed(tasksWorld(await emptyStore()))
    const response = await open('3')
    const reading = readUpTo(response, 100)
    await run.log(['not announced'.padEnd(100)], 'lost')
    expect(await reading).toEqual([])
    response.destroy()
    const rest = await open('3')
    await run.complete()
    expect((await readUpTo(rest)).map(({ id }) => id)).toEqual(['4', '5'])
  })
})

onBothEngines('the end of a stream', ({ emptyStore }) => {
  test.each([
    ['the team is deleted', 'team.deleted'],
    ['its caller leaves the team', 'member.removed'],
    ['its caller is signed out', 'session.revoked'],
  ] as const)('it ends when %s', async (_, topic) => {
    const { world, open, submitter } = await bed(tasksWorld(await emptyStore()))
    const response = await open()
    const reading = readUpTo(response)
    const { teamId } = submitter
    const userId = '0198f000-0000-7000-8000-000000000001'
    if (topic === 'team.deleted') world.bus.publish(topic, { teamId })
    if (topic === 'member.removed') world.bus.publish(topic, { teamId, userId })
    if (topic === 'session.revoked') world.bus.publish(topic, { familyId: 'family' })
    await reading
    await expect.poll(() => world.tasks.feedCount).toBe(0)
  })

  test('it ends when the server stops, which does not wait for it', async () => {
    const { control, open } = await bed(tasksWorld(await emptyStore()))
    const reading = readUpTo(await open())
    await control.stop(new AbortController().signal)
    await reading
  })

  test('a reader that hangs up while it is let in leaves nothing behind', async () => {
    const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let asks = 0
    const identity = identityDouble({
      // The second time is with the feed open.
      roleIn: async () => {
        if (++asks === 2) {
          asked.resolve()
          await answer.promise
        }
        return 'owner'
      },
    })
    const { world, control, run, submitter } = await bed(tasksWorld(await emptyStore()), identity)
    const headers = { authorization: 'Bearer good', 'x-team-id': submitter.teamId }
    const request = get(`${control.url}/api/v1/r/tasks/${run.taskId}/events`, { headers })
    request.on('error', () => {}) // it is cut on purpose
    await asked.promise
    expect(world.tasks.feedCount).toBe(1)
    request.destroy()
    // The server has noticed by the time it has answered another call.
    await fetch(`${control.url}/healthz`)
    answer.resolve()
    await expect.poll(() => world.tasks.feedCount).toBe(0)
  })

  test('a reader that hangs up leaves nothing behind', async () => {
    const { world, open } = await bed(tasksWorld(await emptyStore()))
    const responses = await Promise.all(Array.from({ length: 20 }, () => open()))
    expect(world.tasks.feedCount).toBe(20)
    for (const response of responses) response.destroy()
    await expect.poll(() => world.tasks.feedCount).toBe(0)
  })
})
