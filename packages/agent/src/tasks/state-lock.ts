import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { makeFolder } from '@cyberun/link/folders'

const SQLITE_BUSY = 5

/**
 * The right to the tasks of a state directory: one process at a time. It is SQLite's lock on an empty file, which the
 * kernel drops with the process, so a killed one leaves nothing to clean up. Undefined when another process has it.
 */
export function takeStateLock(stateDir: string): (() => void) | undefined {
  makeFolder(stateDir, 0o700)
  const lock = new DatabaseSync(join(stateDir, 'tasks.lock'))
  try {
    lock.exec('begin exclusive')
    return () => lock.close()
  } catch (error) {
    lock.close()
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return undefined
    throw error
  }
}
