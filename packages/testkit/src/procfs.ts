import { readdirSync, readFileSync } from 'node:fs'

/** The kernel's accounting unit: USER_HZ is 100 on every Linux we run on. */
const TICK_MS = 10

/** User and system time of a process so far, in milliseconds, in steps of 10. */
export function cpuMs(pid: number): number {
  const [utime, stime] = statFields(pid).slice(11, 13)
  return (Number(utime) + Number(stime)) * TICK_MS
}

/** Resident memory of a process in bytes. */
export function residentBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  if (kib === undefined) throw new Error(`process ${pid} has no resident memory`)
  return Number(kib) * 1024
}

/** The command line of every process there is; those that end meanwhile are left out. */
export function commandLines(): string[] {
  return processIds().flatMap((pid) => {
    try {
      return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')]
    } catch {
      return [] // The process ended between the two reads.
    }
  })
}

/** The processes that this one started and that still run. */
export function childrenOf(pid: number | undefined): number[] {
  return processIds().filter((child) => {
    try {
      return Number(statFields(child)[1]) === pid
    } catch {
      return false // The process ended between the two reads.
    }
  })
}

/** Whether a process runs; one that is dead and not yet collected by its parent does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^[ZX]/.test(statFields(pid)[0] ?? '')
  } catch {
    return false // No such process.
  }
}

function processIds(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
}

/** The fields of /proc/pid/stat after the command, which may itself hold spaces and parentheses. */
function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}
