import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import S3rver from 's3rver'
import { describe } from 'vitest'
import { openDiskStore } from '../../src/files/disk-store.ts'
import type { ObjectStore } from '../../src/files/object-store.ts'
import { parseS3Url } from '../../src/files/s3-place.ts'
import { openS3Store } from '../../src/files/s3-store.ts'

export interface OpenedStore extends AsyncDisposable {
  store: ObjectStore
  canResume: boolean
  /** s3rver cannot list uploads that never ended. */
  listsStaged: boolean
}

/** Runs `suite` on a folder and on a bucket. */
export function onBothStores(name: string, suite: (open: () => Promise<OpenedStore>) => void): void {
  describe(`${name}, on disk`, () => {
    suite(async () => {
      const folder = await mkdtemp(join(tmpdir(), 'cyberun-objects-'))
      const store = await openDiskStore(folder, () => {})
      return { store, canResume: true, listsStaged: true, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) }
    })
  })
  describe(`${name}, on S3`, () => {
    suite(async () => {
      const bucket = await startBucket()
      const store = await openS3Store(parseS3Url(bucket.url))
      return { store, canResume: false, listsStaged: false, [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose]() }
    })
  })
}

/** A bucket of an S3 server in this process; `url` is what `objects.url` takes. */
export async function startBucket(): Promise<{ url: string } & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-bucket-'))
  const server = new S3rver({
    port: 0,
    address: '127.0.0.1',
    silent: true,
    directory,
    configureBuckets: [{ name: 'cyberun', configs: [] }],
  })
  const { port } = await server.run()
  return {
    url: `s3://S3RVER:S3RVER@127.0.0.1:${port}/cyberun?tls=off`,
    async [Symbol.asyncDispose]() {
      await server.close()
      await rm(directory, { recursive: true })
    },
  }
}
