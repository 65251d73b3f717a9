import { setTimeout as delay } from 'node:timers/promises'
import { residentBytes } from '../procfs.ts'

const COLLECTIONS = 4

/**
 * Resident memory of this process after everything unreachable was collected and free pages were given back, as a verb
 * of a child that was started with `--expose-gc`. Several times, as one collection may free what holds other things.
 */
export async function settledBytes(): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('start this process with --expose-gc')
  for (let i = 0; i < COLLECTIONS; i++) {
    globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    await delay(50)
  }
  return residentBytes(process.pid)
}

/** TCP sockets this process has open, listeners not counted. */
export function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length
}
