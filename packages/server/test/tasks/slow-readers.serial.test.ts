import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { EventReader } from '@cyberun/api/event-reader'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/store.ts'
import { controlWith } from '../control/doubles.ts'
import { silent } from '../store/engines.ts'
import { tasksWorld } from './tasks-world.ts'

const READERS = 40
/** 16 MB of log: more than the system's own buffers take for a reader. */
const LINES = 1_000
const LINE_BYTES = 16_000
/** What a reader may cost: a piece that its socket has not taken, and the objects around it. */
const BYTES_PER_READER = 320 * 1024

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** What is in use: resident memory would say more of what was and has been let go. */
function bytesInUse(): number {
  collectGarbage()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** How often each event comes. */
async function countEvents(response: Response): Promise<Record<string, number>> {
  const reader = new EventReader()
  const counts: Record<string, number> = {}
  for await (const bytes of response.body ?? []) {
    for (const { event } of reader.push(bytes)) counts[event] = (counts[event] ?? 0) + 1
  }
  return counts
}

test('readers that take nothing cost a piece each, and nobody else waits for them', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-slow-'))
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rm(directory, { recursive: true }))
  const store = stack.adopt(await openStore({ dataDir: directory, log: silent }), (opened) => opened.close())
  const world = stack.use(tasksWorld(store))
  const control = stack.use(await controlWith({ bus: world.bus, tasks: world.tasks }))
  const submitter = await world.newSubmitter()
  const run = await world.run(submitter)
  const path = `/api/v1/r/tasks/${run.taskId}/events`
  const headers = { authorization: 'Bearer good', 'x-team-id': submitter.teamId }

  const sockets: Socket[] = []
  stack.defer(() => {
    for (const socket of sockets) socket.destroy()
  })
  const fields = Object.entries({ ...headers, host: 'localhost' }).map(([name, value]) => `${name}: ${value}\r\n`)
  for (let at = 0; at < READERS; at++) {
    const socket = connect(control.port, '127.0.0.1').pause()
    sockets.push(socket)
    await once(socket, 'connect')
    socket.write(`GET ${path} HTTP/1.1\r\n${fields.join('')}\r\n`)
  }
  await expect.poll(() => world.tasks.feedCount).toBe(READERS)

  const before = bytesInUse()
  const line = 'x'.repeat(LINE_BYTES)
  for (let at = 0; at < LINES; at += 50) await run.log(Array.from({ length: 50 }, () => line))
  await run.complete()

  const response = await fetch(`${control.url}${path}`, { headers })
  expect(await countEvents(response)).toEqual({ log: LINES, status: 3, completed: 1 })
  expect(world.tasks.feedCount).toBe(READERS)
  // Some are still being sent what their sockets take, and then hold a page of the store as well.
  const bytesEach = () => (bytesInUse() - before) / READERS
  await expect.poll(bytesEach, { timeout: 20_000 }).toBeLessThan(BYTES_PER_READER)
  console.info(`${READERS} readers that stopped: ${Math.round(bytesEach() / 1024)} KiB each`)
}, 60_000)
