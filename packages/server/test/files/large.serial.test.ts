import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { encodeLine, type Link, StreamChannel } from '@cyberun/link'
import { parseArtifactAnswer } from '@cyberun/protocol'
import { expect, onTestFinished, test } from 'vitest'
import type { Attempt } from '../../src/model/attempt.ts'
import { dialAgentLink, headerOf } from './files-world.ts'

const MIB = 1024 * 1024
const SERVER = new URL('./large-process.ts', import.meta.url).pathname

/** Its pieces, one after the other in the same buffer: each is of its own. */
function* pieces(mebibytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(MIB, 'nothing in particular ')
  for (let at = 0; at < mebibytes; at++) {
    piece.writeUInt32BE(at)
    yield piece
  }
}

function hashOf(mebibytes: number): string {
  const hash = createHash('sha256')
  for (const piece of pieces(mebibytes)) hash.update(piece)
  return hash.digest('hex')
}

async function send(link: Link, attempt: Attempt, mebibytes: number, sha256: string): Promise<string> {
  const channel = new StreamChannel(link.open({ target: { kind: 'artifact' }, priority: 'bulk' }))
  const about = { key: `${mebibytes}`, size: mebibytes * MIB, sha256 }
  await channel.write(encodeLine(headerOf(attempt, Buffer.alloc(0), about)))
  for (const piece of pieces(mebibytes)) await channel.write(Buffer.from(piece))
  channel.end()
  const answer = parseArtifactAnswer((await channel.readLine(10_000)) ?? '')
  if (answer.type !== 'stored') throw new Error(answer.message)
  return answer.artifact_id
}

async function download(url: string): Promise<string> {
  const hash = createHash('sha256')
  const response = await fetch(url)
  for await (const piece of response.body ?? []) hash.update(piece)
  return hash.digest('hex')
}

/** Of /proc/<pid>/status, in bytes. */
function memory(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib) * 1024
}

test('a file of 2 GiB goes up a link and down a URL in at most 64 MiB more memory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'cyberun-large-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const server = spawn(process.execPath, [SERVER, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(async () => {
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  })
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]()
  const nextLine = async () => String((await lines.next()).value)
  const { url, attempt } = JSON.parse(await nextLine()) as { url: string; attempt: Attempt }
  const pid = server.pid ?? 0
  // Before there is a link: it would be taken for dead while this thread does nothing else.
  const [small, large] = [hashOf(64), hashOf(2048)]
  const link = await dialAgentLink(new URL(url))
  onTestFinished(() => link.close({ code: 'done', message: 'the test is over' }))
  const urlOf = async (artifactId: string) => {
    server.stdin.write(`${artifactId}\n`)
    return nextLine()
  }

  // The first file brings in code and buffers that stay.
  expect(await download(await urlOf(await send(link, attempt, 64, small)))).toBe(small)
  const before = memory(pid, 'VmRSS')
  const artifactId = await send(link, attempt, 2048, large)
  const sentMib = Math.round((memory(pid, 'VmHWM') - before) / MIB)
  expect(await download(await urlOf(artifactId))).toBe(large)
  const grownMib = Math.round((memory(pid, 'VmHWM') - before) / MIB)
  process.stdout.write(
    `a file of 2 GiB: the server's memory grew by ${grownMib} MiB at most (${sentMib} while it came in)\n`,
  )
  expect(grownMib).toBeLessThanOrEqual(64)
})
