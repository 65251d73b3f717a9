import { setTimeout as delay } from 'node:timers/promises'
import { residentBytes } from '../procfs.ts'

const COLLECTIONS = 4

/**
 * Resident memory of this process after everything unreachable was collected, as a verb of a child that was started
 * with `--expose-gc`. Collected several times, as what one collection frees may hold what the next one frees.
 */
export async function settledBytes(): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('start this process with --expose-gc')
  for (let i = 0; i < COLLECTIONS; i++) {
    globalThis.gc()
    await delay(50)
  }
  return residentBytes(process.pid)
}
