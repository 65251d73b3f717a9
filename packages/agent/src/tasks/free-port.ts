import { createServer } from 'node:net'
import type { PortRules } from '../ports.ts'

/** How often the system is asked for a port, as it may give one that is promised to a run. */
const TRIES = 20
/** How many of the ports that an owner lists are tried. */
const MOST_LISTED = 1_024

/**
 * A port of the loopback that nobody listens on, that tunnels may reach, and that no run has; undefined when none was
 * found. Nothing holds it from then on: should another program take it first, the run's own will say so.
 */
export async function freePort(rules: PortRules, isTaken: (port: number) => boolean): Promise<number | undefined> {
  const candidates = rules === 'all' ? new Array<number>(TRIES).fill(0) : listed(rules)
  for (const candidate of candidates) {
    if (isTaken(candidate)) continue
    const port = await listenOnce(candidate)
    // Asked once more: another run that begins now may have been given it since.
    if (port !== undefined && !isTaken(port)) return port
  }
  return undefined
}

function listed(rules: Exclude<PortRules, 'all'>): number[] {
  const ports: number[] = []
  for (const { first, last } of rules) {
    for (let port = first; port <= last && ports.length < MOST_LISTED; port++) ports.push(port)
  }
  return ports
}

/** The port, or for 0 one that the system chooses; undefined when it is taken or not ours to take. */
function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.on('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      const got = typeof address === 'object' ? address?.port : undefined
      server.close(() => resolve(got))
    })
  })
}
