import { createHash } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { PresignedUpload } from '@cyberun/api'
import type { Context } from '../context.ts'
import { readIfThere, writePrivate } from '../private-file.ts'
import { configDir } from '../session-file.ts'
import type { LocalFile } from './local-file.ts'

/** Uploads that were begun and not finished, so that the next command with the same file goes on with it. */
export interface UploadMemory {
  recall(file: LocalFile): Promise<PresignedUpload | undefined>
  remember(file: LocalFile, upload: PresignedUpload): Promise<void>
  forget(file: LocalFile): Promise<void>
}

/** The server has forgotten cut uploads by then, and their URLs are past their time. */
const KEPT_MS = 60 * 60_000

/**
 * One file for each upload, named by a hash of the server and the file with its size and time of change: other bytes
 * under the same name are another upload. An upload URL is a secret, so only this user can read them.
 */
export function createUploadMemory(context: Context, controlUrl: string): UploadMemory {
  const folder = join(configDir(context), 'uploads')
  const placeOf = ({ path, size, changedAt }: LocalFile) => {
    const name = createHash('sha256')
      .update(JSON.stringify([controlUrl, path, size, changedAt]))
      .digest('hex')
    return join(folder, `${name}.json`)
  }
  return {
    async recall(file) {
      const text = await readIfThere(placeOf(file))
      const pending = text === undefined ? undefined : parsePending(text)
      // Two commands on one upload would take it from each other.
      return pending === undefined || isRunning(pending.process_id) ? undefined : pending.upload
    },
    async remember(file, upload) {
      await removeOld(folder, context.now() - KEPT_MS)
      await writePrivate(placeOf(file), JSON.stringify({ process_id: process.pid, upload } satisfies Pending))
    },
    async forget(file) {
      await rm(placeOf(file), { force: true })
    },
  }
}

interface Pending {
  /** Who is at it. */
  process_id: number
  upload: PresignedUpload
}

/** What we wrote, or undefined for anything else: then the upload starts anew. */
function parsePending(text: string): Pending | undefined {
  try {
    const { process_id, upload } = JSON.parse(text) as Partial<Pending>
    const isOurs = typeof upload?.file_key === 'string' && typeof upload.upload_url === 'string'
    return isOurs && typeof process_id === 'number' ? { process_id, upload } : undefined
  } catch {
    return undefined // Cut off or not ours.
  }
}

function isRunning(processId: number): boolean {
  if (processId === process.pid) return false
  try {
    process.kill(processId, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function removeOld(folder: string, before: number): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    const found = await stat(path).catch(() => undefined)
    if (found && found.mtimeMs < before) await rm(path, { force: true })
  }
}
