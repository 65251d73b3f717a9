import type { FailPoint } from '../../src/files/fail-points.ts'
import { sweepFiles } from '../../src/files/sweep.ts'
import { AGENT, type FilesWorld, headerOf, linkAgent, openFilesWorld, sendArtifact, sha256 } from './files-world.ts'

/**
 * Goes through everything that happens to files, in phases, and prints `<phase> <point>` for each point it reaches; at
 * the one it was given it kills itself.
 */
const [directory = '.', fatalPhase, fatalPoint] = process.argv.slice(2)
const DAY_MS = 24 * 60 * 60_000
const BYTES = Buffer.alloc(200_000, 'some bytes ')

let phase = 'opening'
function reach(point: FailPoint): void {
  if (phase === fatalPhase && point === fatalPoint) process.kill(process.pid, 'SIGKILL')
  process.stdout.write(`${phase} ${point}\n`)
}

async function upload(world: FilesWorld): Promise<void> {
  await world.upload(BYTES)
}

async function resume(world: FilesWorld): Promise<void> {
  const { fileKey, uploadUrl, uploadHeaders } = await world.presign(BYTES.length)
  await world.objects
    .write('in-cut-before', cut(BYTES.subarray(0, 150_000)), {
      maxBytes: BYTES.length,
      resume: { name: fileKey, from: 0 },
    })
    .catch(() => {})
  const headers = { ...uploadHeaders, 'Content-Range': `bytes 150000-${BYTES.length - 1}/${BYTES.length}` }
  const response = await fetch(uploadUrl, { method: 'PUT', headers, body: BYTES.subarray(150_000) })
  if (response.headers.get('etag') !== `"${sha256(BYTES)}"`) throw new Error(`the upload ended with ${response.status}`)
}

async function sendArtifacts(world: FilesWorld): Promise<void> {
  const link = await linkAgent(world.files, () => AGENT)
  const attempt = await world.runningTask()
  const damaged = headerOf(attempt, BYTES, { sha256: sha256(Buffer.from('x')) })
  for (const header of [damaged, headerOf(attempt, BYTES)]) await sendArtifact(link, header, BYTES)
  link.close({ code: 'done', message: 'the phase is over' })
}

async function sweep(world: FilesWorld): Promise<void> {
  await (await world.objects.write('out-orphan', whole(), { maxBytes: BYTES.length })).commit()
  await world.objects.write('out-never-committed', whole(), { maxBytes: BYTES.length })
  world.pass(30 * DAY_MS)
  await sweepFiles(world.context, Date.now() + DAY_MS)
}

async function* whole(): AsyncGenerator<Uint8Array> {
  yield BYTES
}

async function* cut(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
  throw new Error('cut')
}

const world = await openFilesWorld({ directory, reach })
for (const work of [upload, resume, sendArtifacts, sweep]) {
  phase = work.name
  await work(world)
}
await world[Symbol.asyncDispose]()
