import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { type Chunk, encodeLine, type Link, type LinkStream, StreamChannel } from '@cyberun/link'
import { type InputAnswer, parseArtifactAnswer, parseInputAnswer } from '@cyberun/protocol'
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest'
import { sendInput } from '../../src/files/input-stream.ts'
import { type ObjectStore, StorageFullError } from '../../src/files/object-store.ts'
import { sweepFiles } from '../../src/files/sweep.ts'
import type { StreamAgent } from '../../src/files/types.ts'
import { releaseAttempt } from '../../src/store/attempts.ts'
import { findArtifact, findInput, listArtifacts } from '../../src/store/files.ts'
import { readEvents } from '../../src/store/task-events.ts'
import { cancelTask } from '../../src/store/tasks.ts'
import {
  AGENT,
  type FilesWorld,
  headerOf,
  linkAgent,
  openFilesWorld,
  sendArtifact,
  sha256,
  TEAM,
} from './files-world.ts'

const directories: string[] = []
afterAll(() => Promise.all(directories.map((directory) => rm(directory, { recursive: true }))))

let world: FilesWorld
let link: Link
/** Who the server takes the agent for. */
let agent: StreamAgent = AGENT
beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-streams-'))
  directories.push(directory)
  world = await openFilesWorld({ directory, limits: { maxArtifactBytes: 20_000_000 } })
  agent = AGENT
  link = await linkAgent(world.files, () => agent)
})
afterEach(async () => {
  link.close({ code: 'done', message: 'the test is over' })
  await world[Symbol.asyncDispose]()
})

const BYTES = Buffer.from('a picture, as far as anybody can tell')

async function fetchInput(first: unknown): Promise<{ answer: InputAnswer; bytes: Buffer }> {
  const channel = new StreamChannel(link.open({ target: { kind: 'input' }, priority: 'bulk' }))
  await channel.write(encodeLine(first))
  channel.end()
  const answer = parseInputAnswer((await channel.readLine(10_000)) ?? '')
  const pieces: Uint8Array[] = []
  for await (const piece of channel.read()) pieces.push(Uint8Array.from(piece))
  return { answer, bytes: Buffer.concat(pieces) }
}

async function storedKeys(objects: ObjectStore = world.objects): Promise<string[]> {
  const keys: string[] = []
  for await (const page of objects.list()) keys.push(...page.map(({ key }) => key))
  return keys
}

/** What is being written, or was left behind in the middle of it. */
const stagedNames = () => readdir(join(directories.at(-1) ?? '', 'files', 'staged'))

test('an artifact is stored, announced, and downloaded as it was', async () => {
  const attempt = await world.runningTask()
  const answer = await sendArtifact(link, headerOf(attempt, BYTES), BYTES)
  if (answer.type !== 'stored') throw new Error(answer.message)
  const { url } = world.files.downloadUrl(answer.artifact_id)
  expect(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(BYTES)).toBe(true)
  expect(world.rung).toEqual([{ taskId: attempt.taskId }])
  const { events } = await readEvents(world.store, attempt.taskId, 0, 100)
  expect(events.at(-1)?.event).toEqual({
    ...{ kind: 'artifact', artifact_id: answer.artifact_id, key: '9.images.0', file_name: 'out.png' },
    ...{ content_type: 'image/png', size: BYTES.length },
  })
})

test('the same artifact sent again is the one that is there; another under its key is refused', async () => {
  const attempt = await world.runningTask()
  const first = await sendArtifact(link, headerOf(attempt, BYTES), BYTES)
  expect(await sendArtifact(link, headerOf(attempt, BYTES), BYTES)).toEqual(first)
  const other = Buffer.from('other bytes')
  expect(await sendArtifact(link, headerOf(attempt, other), other)).toMatchObject({ type: 'refused', code: 'invalid' })
  expect(await storedKeys()).toHaveLength(1)
})

test('twenty at once of one key: one row, one object', async () => {
  const attempt = await world.runningTask()
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => sendArtifact(link, headerOf(attempt, BYTES), BYTES)),
  )
  expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1)
  expect(await listArtifacts(world.store, TEAM, attempt.taskId, attempt.fence)).toHaveLength(1)
  expect(await storedKeys()).toHaveLength(1)
})

test.each([
  ['other bytes than announced', { sha256: sha256(Buffer.from('x')) }, 'hash_mismatch'],
  ['more bytes than allowed', { size: 20_000_001 }, 'too_large'],
  ['fewer bytes than announced', { size: 1_000 }, 'invalid'],
  ['an old attempt', { fence: 7 }, 'late'],
  ['a task that is not there', { task_id: '0190a5b0-0000-7000-8000-00000000ffff' }, 'late'],
] as const)('%s is refused and leaves nothing', async (_, changed, code) => {
  const attempt = await world.runningTask()
  expect(await sendArtifact(link, headerOf(attempt, BYTES, changed), BYTES)).toMatchObject({ type: 'refused', code })
  expect(await storedKeys()).toEqual([])
  expect(await world.objects.deleteStaged(Date.now() + 60_000)).toBe(0)
})

test.each([['{"task_id":'], ['[]'], ['{"task_id":1}'], ['x'.repeat(20_000)]])(
  'a first line that is garbage is refused: %.20s',
  async (line) => {
    const channel = new StreamChannel(link.open({ target: { kind: 'artifact' }, priority: 'bulk' }))
    await channel.write(Buffer.from(`${line}\n`))
    const answer = parseArtifactAnswer((await channel.readLine(10_000)) ?? '')
    expect(answer).toMatchObject({ type: 'refused', code: 'invalid' })
    channel.reset('cancelled')
  },
)

test('an attempt that is over before its last byte came leaves nothing to see', async () => {
  const attempt = await world.runningTask()
  const channel = new StreamChannel(link.open({ target: { kind: 'artifact' }, priority: 'bulk' }))
  await channel.write(encodeLine(headerOf(attempt, BYTES)))
  await channel.write(BYTES.subarray(0, 5))
  await expect.poll(stagedNames).toHaveLength(1)
  await cancelTask(world.store, TEAM, attempt.taskId)
  await channel.write(BYTES.subarray(5))
  channel.end()
  const answer = parseArtifactAnswer((await channel.readLine(10_000)) ?? '')
  expect(answer).toMatchObject({ type: 'refused', code: 'late' })
  expect(await storedKeys()).toEqual([])
})

test('an agent of the same name in another team is late', async () => {
  const attempt = await world.runningTask([await world.upload(BYTES)])
  agent = { ...AGENT, teamId: '0190a5b0-0000-7000-8000-00000000dead' }
  expect(await sendArtifact(link, headerOf(attempt, BYTES), BYTES)).toMatchObject({ type: 'refused', code: 'late' })
  const { answer } = await fetchInput({ task_id: attempt.taskId, fence: attempt.fence, file_key: 'any' })
  expect(answer).toMatchObject({ type: 'refused', code: 'late' })
})

test('a stream that is cut leaves nothing, and the agent may send again', async () => {
  const attempt = await world.runningTask()
  const channel = new StreamChannel(link.open({ target: { kind: 'artifact' }, priority: 'bulk' }))
  await channel.write(encodeLine(headerOf(attempt, BYTES)))
  await channel.write(BYTES.subarray(0, 5))
  await expect.poll(stagedNames).toHaveLength(1)
  channel.reset('cancelled')
  expect(await sendArtifact(link, headerOf(attempt, BYTES), BYTES)).toMatchObject({ type: 'stored' })
  await expect.poll(stagedNames).toEqual([])
  expect(await storedKeys()).toHaveLength(1)
})

test('a full disk is told, and the next try may work', async () => {
  const attempt = await world.runningTask()
  const write = world.objects.write.bind(world.objects)
  world.objects.write = () => Promise.reject(new StorageFullError('the disk is full'))
  expect(await sendArtifact(link, headerOf(attempt, BYTES), BYTES)).toMatchObject({ type: 'refused', code: 'no_space' })
  world.objects.write = write
  expect(await sendArtifact(link, headerOf(attempt, BYTES), BYTES)).toMatchObject({ type: 'stored' })
})

test('an agent gets the inputs of the task it holds, and no others', async () => {
  const bytes = Buffer.alloc(3_000_000, 'abcdefg')
  const fileKey = await world.upload(bytes, { fileName: 'Ünder/../cat.png' })
  const foreign = await world.upload(Buffer.from('not of this task'))
  const attempt = await world.runningTask([fileKey])
  const ask = { task_id: attempt.taskId, fence: attempt.fence, file_key: fileKey }
  const got = await fetchInput(ask)
  const facts = { file_name: 'cat.png', content_type: 'image/png', size: bytes.length, sha256: sha256(bytes) }
  expect(got.answer).toEqual({ type: 'file', ...facts })
  expect(got.bytes.equals(bytes)).toBe(true)
  const refusals = [
    [{ ...ask, file_key: foreign }, 'not_found'],
    [{ ...ask, file_key: 'nothing' }, 'not_found'],
    [{ ...ask, fence: ask.fence + 1 }, 'late'],
    [{ ...ask, file_key: 5 }, 'invalid'],
  ] as const
  for (const [first, code] of refusals) {
    expect((await fetchInput(first)).answer).toMatchObject({ type: 'refused', code })
  }
  await releaseAttempt(world.store, attempt, { cause: 'agent_lost', message: 'gone' })
  expect((await fetchInput(ask)).answer).toMatchObject({ type: 'refused', code: 'late' })
})

test('an agent that leaves before it is answered leaves no object open', async () => {
  const fileKey = await world.upload(BYTES)
  const attempt = await world.runningTask([fileKey])
  const ask = { task_id: attempt.taskId, fence: attempt.fence, file_key: fileKey }
  const body = Readable.from([BYTES])
  const channel = new StreamChannel(link.open({ target: { kind: 'input' }, priority: 'bulk' }))
  vi.spyOn(world.objects, 'read').mockImplementationOnce(async () => {
    channel.reset('cancelled')
    // What comes later on the same link is answered once the reset has been seen.
    await fetchInput({ ...ask, fence: ask.fence + 1 })
    return body
  })
  await channel.write(encodeLine(ask))
  await expect.poll(() => body.destroyed).toBe(true)
})

test('what comes after a request for an input is let go of', async () => {
  let held = 0
  const chunk = (bytes: Uint8Array): Chunk => ({
    ...{ bytes, headroom: 0 },
    hold() {
      held += 1
      return () => void held--
    },
  })
  const stream: LinkStream = {
    ...{ id: 1, init: { target: { kind: 'input' }, priority: 'bulk' }, accepted: Promise.resolve(), queuedBytes: 0 },
    listen(events) {
      events.onData(chunk(Buffer.from('{}\n and more')))
      events.onData(chunk(Buffer.from('and more')))
      events.onEnd()
    },
    ...{ accept() {}, write: () => true, pass: () => true, end() {}, reset() {} },
  }
  await sendInput(world.context, stream, AGENT)
  expect(held).toBe(0)
})

test('the sweep forgets what is past its time, and only that', async () => {
  const attempt = await world.runningTask()
  const made = await sendArtifact(link, headerOf(attempt, BYTES), BYTES)
  if (made.type !== 'stored') throw new Error(made.message)
  const needed = await world.upload(BYTES)
  const unneeded = await world.upload(BYTES)
  await world.runningTask([needed])
  const abandoned = await world.presign(10)
  const sweep = () => sweepFiles(world.context, 0)
  expect(await sweep()).toMatchObject({ expired: 0, orphans: 0 })

  world.pass(25 * 60 * 60_000)
  await sweep()
  expect(await findInput(world.store, unneeded), 'past its day').toBeUndefined()
  expect(await findInput(world.store, abandoned.fileKey), 'never uploaded').toBeUndefined()
  expect(await findInput(world.store, needed), 'a task still needs it').toBeDefined()
  expect(await findArtifact(world.store, made.artifact_id)).toBeDefined()
  expect(await storedKeys()).toHaveLength(2)

  world.pass(7 * 24 * 60 * 60_000)
  await sweep()
  expect(await findArtifact(world.store, made.artifact_id)).toBeUndefined()
  expect(await storedKeys()).toHaveLength(1)
})

test('the sweep removes objects without a row once they are old', async () => {
  await world.upload(BYTES)
  async function* source() {
    yield BYTES
  }
  await (await world.objects.write('out-orphan', source(), { maxBytes: 100 })).commit()
  await world.objects.write('out-never', source(), { maxBytes: 100 })
  expect(await sweepFiles(world.context, Date.now() - 60_000)).toEqual({ expired: 0, orphans: 0, staged: 0 })
  expect(await sweepFiles(world.context, Date.now() + 60_000)).toEqual({ expired: 0, orphans: 1, staged: 1 })
  expect(await storedKeys()).toHaveLength(1)
})
