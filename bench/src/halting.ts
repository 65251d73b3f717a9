import { readFileSync, writeFileSync } from 'node:fs'

const GOVERNOR = '/sys/devices/system/cpu/cpuidle/current_governor'
const POLL_NS = '/sys/module/haltpoll/parameters/guest_halt_poll_ns'
/** What Linux gives a guest unless it is told otherwise (Documentation/virt/guest-halt-polling.rst). */
const DEFAULT_POLL_NS = 200_000

/**
 * For how many nanoseconds a core of this virtual machine looks for work before it halts, which hands it to the hypervisor
 * until that wakes it; undefined where Linux does not say.
 */
export function haltPollNs(): number | undefined {
  try {
    return readFileSync(GOVERNOR, 'utf8').trim() === 'haltpoll' ? Number(readFileSync(POLL_NS, 'utf8')) : undefined
  } catch {
    return undefined
  }
}

/**
 * Where this virtual machine's cores halt at once, lets them poll as long as Linux's default has it until this process ends:
 * else what is measured is mostly the hypervisor's waking, of every contender (decision 56).
 */
export function pollBeforeHalting(): void {
  const before = haltPollNs()
  if (before === undefined || before >= DEFAULT_POLL_NS) return
  try {
    writeFileSync(POLL_NS, String(DEFAULT_POLL_NS))
  } catch {
    console.warn(`measured with cores that halt after ${before} ns: as root they would poll before`)
    return
  }
  process.on('exit', () => writeFileSync(POLL_NS, String(before)))
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
}
