import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FAIL_POINTS } from '../../src/files/fail-points.ts'
import type { ObjectStore } from '../../src/files/object-store.ts'
import { sweepFiles } from '../../src/files/sweep.ts'
import { Sql } from '../../src/store/handle.ts'
import { type FilesWorld, openFilesWorld } from './files-world.ts'

const SCRIPT = new URL('./kill-process.ts', import.meta.url).pathname
const AT_ONCE = 3

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-killed-'))
})
afterAll(() => rm(directory, { recursive: true }))

/** Runs the process on a folder of its own; it kills itself at `fatal`. */
async function run(name: string, fatal: readonly string[] = []) {
  const home = join(directory, name)
  // Most of a run is loading modules; this makes it shorter.
  const env = { ...process.env, NODE_COMPILE_CACHE: join(directory, 'cache') }
  const child = spawn(process.execPath, [SCRIPT, home, ...fatal], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (bytes: Buffer) => {
    output += bytes.toString()
  })
  const [code, signal] = await once(child, 'close')
  const reached = output.split('\n').filter((line) => line !== '' && !line.startsWith('opening'))
  return { home, how: signal ?? code, reached: [...new Set(reached)] }
}

/** What a reader of the store may see: every row that says its file is there. */
async function visibleFiles({ store }: FilesWorld): Promise<{ objectKey: string; sha256: string | null }[]> {
  const db = Sql.db(store)
  const columns = ['object_key as objectKey', 'sha256'] as const
  const artifacts = await db.selectFrom('artifact').select(columns).execute()
  const inputs = await db.selectFrom('input_file').select(columns).where('uploaded_at', 'is not', null).execute()
  return [...artifacts, ...inputs].map(({ objectKey, sha256 }) => ({ objectKey: objectKey ?? 'none', sha256 }))
}

async function hashOf(objects: ObjectStore, key: string): Promise<string | undefined> {
  const bytes = await objects.read(key)
  if (!bytes) return undefined
  const hash = createHash('sha256')
  for await (const piece of bytes) hash.update(piece)
  return hash.digest('hex')
}

async function expectWhole(world: FilesWorld, where: string): Promise<string[]> {
  const visible = await visibleFiles(world)
  for (const { objectKey, sha256 } of visible) expect(await hashOf(world.objects, objectKey), where).toBe(sha256)
  return visible.map(({ objectKey }) => objectKey).sort()
}

/** Everything visible is whole, and after a sweep nothing else is left on the disk. */
async function expectClean(home: string, where: string): Promise<void> {
  await using world = await openFilesWorld({ directory: home })
  await expectWhole(world, where)
  await sweepFiles(world.context, Date.now() + 60_000)
  const left: string[] = []
  for await (const page of world.objects.list()) left.push(...page.map(({ key }) => key))
  expect(left.sort(), where).toEqual(await expectWhole(world, where))
  expect(await readdir(join(home, 'files', 'staged')), where).toEqual([])
}

test('killed at each named point, no file is seen in part and nothing is left behind', async () => {
  const whole = await run('whole')
  expect(whole.how).toBe(0)
  const points = new Set(whole.reached.map((line) => line.split(' ')[1]))
  expect([...points].sort(), 'every point is reached').toEqual([...FAIL_POINTS].sort())
  expect(points.size).toBeGreaterThanOrEqual(20)

  const left = [...whole.reached]
  const work = async () => {
    for (let line = left.shift(); line !== undefined; line = left.shift()) {
      const { home, how } = await run(line.replace(' ', '-'), line.split(' '))
      expect({ line, how }).toEqual({ line, how: 'SIGKILL' })
      await expectClean(home, `killed at ${line}`)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
})
