/** A range of loopback ports, both ends included. */
export interface PortRange {
  readonly first: number
  readonly last: number
}

/** What `tunnel_ports:` says: every port of this machine's loopback, or these ranges and nothing else. */
export type PortRules = 'all' | readonly PortRange[]

/** An entry of `tunnel_ports:` that cannot be read. */
export class PortRulesError extends Error {
  override readonly name = 'PortRulesError'
}

/** The most ranges one file may list. */
const MOST_RANGES = 1_024
const RANGE = /^(\d{1,5})(?:-(\d{1,5}))?$/

/** Reads `all`, `8188`, `8000-8100`, or a list of ports and ranges. Throws `PortRulesError`. */
export function parsePortRules(raw: unknown): PortRules {
  if (raw === 'all') return 'all'
  const entries = typeof raw === 'string' ? raw.split(',') : Array.isArray(raw) ? raw : [raw]
  if (entries.length > MOST_RANGES) throw new PortRulesError(`expected at most ${MOST_RANGES} ports and ranges`)
  return entries.map(parseRange)
}

function parseRange(raw: unknown): PortRange {
  const match = RANGE.exec(String(raw).trim())
  const first = Number(match?.[1])
  const last = Number(match?.[2] ?? match?.[1])
  if (!match || first < 1 || last > 65_535 || first > last) {
    throw new PortRulesError(
      `expected all, or ports from 1 to 65535 such as 8188 or 8000-8100, got ${JSON.stringify(raw)}`,
    )
  }
  return { first, last }
}

/** Whether the owner lets tunnels reach `port`. `refused` wins: the ports of our own server on this machine. */
export function portAllowed(rules: PortRules, refused: ReadonlySet<number>, port: number): boolean {
  if (!Number.isInteger(port) || port < 1 || port > 65_535 || refused.has(port)) return false
  return rules === 'all' || rules.some((range) => range.first <= port && port <= range.last)
}

/** The rules as a person would write them. */
export function describePortRules(rules: PortRules): string {
  if (rules === 'all') return 'all'
  if (rules.length === 0) return 'none'
  return rules.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(', ')
}
