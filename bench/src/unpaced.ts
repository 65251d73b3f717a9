import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** How TCP decides what to send here, by the kernel's name of it. */
export function congestionControl(): string {
  return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim()
}

/** Set for the run inside the namespace, so that one that did not get what it asked for does not ask again. */
const INSIDE = 'CYBERUN_BENCH_UNPACED'

/**
 * Where this machine's TCP paces what it sends, runs this program again in a network namespace of its own under reno, which
 * every Linux has, and returns its exit code. BBR paces on loopback as well: every contender's figures are then about its
 * timers. `undefined`: measure here, as nothing paces or no namespace can be made (it takes root), which a line says.
 */
export function runUnpaced(): number | undefined {
  if (congestionControl() !== 'bbr' || process.env[INSIDE] !== undefined) return undefined
  const prepare = 'ip link set lo up && echo reno > /proc/sys/net/ipv4/tcp_congestion_control'
  const { status } = spawnSync('unshare', ['--net', 'sh', '-c', prepare], { stdio: 'ignore' })
  if (status !== 0) {
    console.warn('measured under bbr, which paces: as root, and with iproute2, it would be in a namespace without')
    return undefined
  }
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const inside = spawnSync('unshare', ['--net', 'sh', '-c', `${prepare} && exec "$@"`, 'sh', ...again], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  })
  return inside.status ?? 1
}
