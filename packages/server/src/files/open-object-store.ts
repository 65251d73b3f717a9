import { join } from 'node:path'
import { openDiskStore } from './disk-store.ts'
import type { ObjectStore } from './object-store.ts'
import { parseS3Url } from './s3-place.ts'
import { openS3Store } from './s3-store.ts'

/** The object store of a server: a bucket when `objectsUrl` names one, else a folder below its data directory. */
export function openObjectStore(dataDir: string, objectsUrl: string | undefined): Promise<ObjectStore> {
  if (objectsUrl !== undefined) return openS3Store(parseS3Url(objectsUrl))
  return openDiskStore(join(dataDir, 'files'), () => {})
}
