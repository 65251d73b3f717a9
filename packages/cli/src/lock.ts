import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as pause } from 'node:timers/promises'
import { makeFolder } from '@cyberun/link/folders'
import { CliError } from './errors.ts'

const SQLITE_BUSY = 5
const POLL_MS = 25

/**
 * Runs `work` while no other process of this user does so under the same `path`. The lock is SQLite's lock on an empty
 * file: the kernel drops it with the process, so a killed one leaves nothing behind to clean up.
 */
export async function withLock<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  makeFolder(dirname(path), 0o700)
  const lock = new DatabaseSync(path)
  try {
    while (!takeLock(lock)) await pause(POLL_MS, undefined, { signal }).catch(() => tooLong(path))
    return await work()
  } finally {
    lock.close()
  }
}

function takeLock(lock: DatabaseSync): boolean {
  try {
    lock.exec('begin exclusive')
    return true
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false
    throw error
  }
}

function tooLong(path: string): never {
  throw new CliError('busy', 'locked', `another cyberun command holds ${path} for too long: try again`)
}
