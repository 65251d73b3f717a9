import type { NetworkInterfaceInfo } from 'node:os'

/** Something happened to the machine after which a link may be dead without either end having noticed. */
export type Disturbance = 'slept' | 'network_changed'

/** What is looked at each second. */
export interface MachineGlance {
  /** Wall clock, milliseconds: goes on while the machine sleeps. */
  wallMs: number
  /** The addresses of this machine, in a fixed order. */
  addresses: string
}

/** A timer of one second that comes this much late was slept through: no event loop of ours stalls so long. */
const SLEPT_MS = 5_000

/** What happened between two glances that should be a second apart. */
export function disturbance(before: MachineGlance, after: MachineGlance): Disturbance | undefined {
  if (after.wallMs - before.wallMs > SLEPT_MS) return 'slept'
  return before.addresses === after.addresses ? undefined : 'network_changed'
}

/** The addresses as one comparable text. Temporary link-local ones do not carry a link, so they do not count. */
export function addressesOf(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>): string {
  return Object.entries(interfaces)
    .flatMap(([name, addresses]) =>
      (addresses ?? [])
        .filter(({ address }) => !address.startsWith('fe80:'))
        .map(({ address }) => `${name} ${address}`),
    )
    .sort()
    .join('\n')
}

/** Looks each second and tells, until `signal` aborts. */
export function watchMachine(
  glance: () => MachineGlance,
  tell: (what: Disturbance) => void,
  signal: AbortSignal,
): void {
  let before = glance()
  const timer = setInterval(() => {
    const after = glance()
    const what = disturbance(before, after)
    before = after
    if (what !== undefined) tell(what)
  }, 1_000)
  signal.addEventListener('abort', () => clearInterval(timer), { once: true })
}
