import { createHash, type Hash } from 'node:crypto'
import { type FileHandle, lstat, mkdir, open, opendir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '@cyberun/link/folders'
import type { Reach } from './fail-points.ts'
import {
  type ByteRange,
  type ObjectKey,
  type ObjectStore,
  ObjectTooLargeError,
  type StagedObject,
  StorageFullError,
  type StoredObject,
  type WriteOptions,
} from './object-store.ts'

const READ_BYTES = 256 * 1024
const PAGE_OBJECTS = 500
const KEY = /^[a-z0-9-]{4,64}$/

/**
 * Objects as files: written below `staged/`, synced, renamed to `objects/<last two characters>/<key>`, and the folder
 * synced, so that a file is below `objects/` whole or not at all, whatever is killed. One server a folder.
 */
export async function openDiskStore(folder: string, reach: Reach): Promise<ObjectStore> {
  const staged = join(folder, 'staged')
  const objects = join(folder, 'objects')
  for (const made of [staged, objects]) makeFolder(made, 0o700)
  return new DiskStore(staged, objects, reach)
}

class DiskStore implements ObjectStore {
  readonly #staged: string
  readonly #objects: string
  readonly #reach: Reach

  constructor(staged: string, objects: string, reach: Reach) {
    this.#staged = staged
    this.#objects = objects
    this.#reach = reach
  }

  async write(key: ObjectKey, source: AsyncIterable<Uint8Array>, options: WriteOptions): Promise<StagedObject> {
    const { maxBytes, resume } = options
    const path = join(this.#staged, checkedKey(resume?.name ?? key))
    const hash = createHash('sha256')
    let size = 0
    try {
      await using file = await openStaged(path, resume?.from ?? 0)
      this.#reach('disk.staged_opened')
      if (resume && resume.from > 0) {
        size = await hashKept(path, resume.from, hash)
        this.#reach('disk.kept_hashed')
      }
      for await (const piece of source) {
        if (size + piece.length > maxBytes) throw new ObjectTooLargeError(`more than ${maxBytes} bytes came`)
        hash.update(piece)
        await writeFully(file, piece, size)
        size += piece.length
        this.#reach('disk.piece_written')
      }
      this.#reach('disk.all_written')
      await file.sync()
    } catch (error) {
      const fault = storeError(error)
      const keeps = resume && !(fault instanceof StorageFullError) && !(fault instanceof ObjectTooLargeError)
      if (!keeps) await rm(path, { force: true })
      throw fault
    }
    this.#reach('disk.staged_synced')
    return {
      size,
      sha256: hash.digest('hex'),
      commit: () => this.#commit(path, key),
      discard: async () => {
        await rm(path, { force: true })
        this.#reach('disk.staged_discarded')
      },
    }
  }

  async resumableBytes(name: string): Promise<number> {
    return (await ifThere(stat(join(this.#staged, checkedKey(name)))))?.size ?? 0
  }

  async read(key: ObjectKey, range?: ByteRange): Promise<AsyncIterable<Uint8Array> | undefined> {
    const path = this.#pathOf(key)
    return (await ifThere(stat(path))) && readLazily(path, range)
  }

  async delete(key: ObjectKey): Promise<void> {
    await rm(this.#pathOf(key), { force: true })
  }

  async *list(): AsyncIterable<StoredObject[]> {
    let page: StoredObject[] = []
    for (const shard of await readdir(this.#objects)) {
      for await (const { name } of await opendir(join(this.#objects, shard))) {
        const found = await ifThere(stat(join(this.#objects, shard, name)))
        if (found) page.push({ key: name, modifiedAt: found.mtimeMs })
        if (page.length < PAGE_OBJECTS) continue
        yield page
        page = []
      }
    }
    if (page.length > 0) yield page
  }

  async deleteStaged(before: number): Promise<number> {
    let deleted = 0
    for await (const { name } of await opendir(this.#staged)) {
      const path = join(this.#staged, name)
      // The age of the entry itself, whatever a link leads to.
      const found = await ifThere(lstat(path))
      if (!found || found.mtimeMs >= before) continue
      await rm(path, { force: true })
      deleted++
    }
    return deleted
  }

  async #commit(stagedPath: string, key: ObjectKey): Promise<void> {
    const path = this.#pathOf(key)
    const shard = join(path, '..')
    try {
      if ((await mkdir(shard, { recursive: true, mode: 0o700 })) !== undefined) await syncFolder(this.#objects)
      this.#reach('disk.shard_made')
      await rename(stagedPath, path)
      this.#reach('disk.renamed')
      await syncFolder(shard)
      this.#reach('disk.shard_synced')
    } catch (error) {
      throw storeError(error)
    }
  }

  #pathOf(key: ObjectKey): string {
    return join(this.#objects, checkedKey(key).slice(-2), key)
  }
}

/** A key that is not one of ours is a bug: it would leave the folder. */
function checkedKey(key: string): string {
  if (!KEY.test(key)) throw new Error(`not an object key: ${JSON.stringify(key)}`)
  return key
}

/** A new empty file, or the first `from` bytes of one that was kept. */
async function openStaged(path: string, from: number): Promise<FileHandle> {
  if (from === 0) return await open(path, 'w', 0o600)
  const file = await open(path, 'r+')
  try {
    await file.truncate(from)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

async function hashKept(path: string, from: number, hash: Hash): Promise<number> {
  let size = 0
  for await (const piece of readLazily(path, { start: 0, end: from - 1 })) {
    hash.update(piece)
    size += piece.length
  }
  if (size !== from) throw new Error(`${from} bytes were kept and ${size} are there`)
  return size
}

/** One buffer for all pieces: a new one for each would be 2 GiB of garbage for a file of 2 GiB. */
async function* readLazily(path: string, range: ByteRange | undefined): AsyncGenerator<Uint8Array> {
  await using file = await open(path, 'r')
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  const end = range === undefined ? Number.POSITIVE_INFINITY : range.end + 1
  for (let position = range?.start ?? 0; position < end; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, end - position), position)
    if (bytesRead === 0) return
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

/** The kernel may take a part of what it is given, on a disk that is nearly full. */
async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let from = 0; from < bytes.length; ) {
    from += (await file.write(bytes, from, bytes.length - from, position + from)).bytesWritten
  }
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r')
  await folder.sync()
}

async function ifThere<T>(looked: Promise<T>): Promise<T | undefined> {
  try {
    return await looked
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function storeError(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error
  return new StorageFullError('the disk of the data directory is full', { cause: error })
}
