/** Whoever uses a tunnel: one address with one user agent. Two people behind one address with the same browser are one. */
export interface Viewer {
  readonly address: string
  readonly userAgent: string
  /** When this viewer came, after not having been seen for `PRESENCE_LIMITS.awayMs`. */
  readonly connectedAt: number
  lastSeenAt: number
  /** Requests and connections under way. */
  openCount: number
}

export const PRESENCE_LIMITS = {
  /** How long somebody counts as a viewer after their last request. */
  awayMs: 60_000,
  /** Viewers remembered. Beyond them those away longest are forgotten, then new ones are not shown. */
  viewers: 1_000,
  /** Characters of a user agent that are kept and compared. */
  userAgentCharacters: 200,
} as const

/** Who is on a tunnel. Bounded, so that a crowd costs no more than what `PRESENCE_LIMITS` says. */
export class Presence {
  /** By address and user agent; who came or was seen away first is first. */
  readonly #viewers = new Map<string, Viewer>()
  #lastSeenAt = 0

  /** Notes that a visit begins. Whoever got the viewer gives it back with `leave`, once. */
  enter(address: string, userAgent: string, now: number): Viewer {
    const agent = userAgent.slice(0, PRESENCE_LIMITS.userAgentCharacters)
    const key = `${address}\n${agent}`
    this.#lastSeenAt = now
    const known = this.#viewers.get(key)
    if (known && isHere(known, now)) {
      known.openCount += 1
      known.lastSeenAt = now
      return known
    }
    // The key is a string of its own; the argument may be a piece of a whole request's head.
    const viewer = {
      address,
      userAgent: key.slice(address.length + 1),
      connectedAt: now,
      lastSeenAt: now,
      openCount: 1,
    }
    this.#viewers.delete(key)
    if (this.#viewers.size < PRESENCE_LIMITS.viewers || this.#forgetOne()) this.#viewers.set(key, viewer)
    return viewer
  }

  /** Notes that a visit is over. */
  leave(viewer: Viewer, now: number): void {
    viewer.openCount -= 1
    viewer.lastSeenAt = now
    this.#lastSeenAt = now
  }

  /** Who is here, the last to come first; at most `limit`. */
  list(now: number, limit: number): Viewer[] {
    return [...this.#viewers.values()]
      .filter((viewer) => isHere(viewer, now))
      .sort((a, b) => b.connectedAt - a.connectedAt)
      .slice(0, limit)
  }

  /** How many are here; a lower bound when there are more than are remembered. */
  count(now: number): number {
    let count = 0
    for (const viewer of this.#viewers.values()) if (isHere(viewer, now)) count += 1
    return count
  }

  /** Whether somebody with this address is here. */
  hasAddress(address: string, now: number): boolean {
    for (const viewer of this.#viewers.values()) if (viewer.address === address && isHere(viewer, now)) return true
    return false
  }

  /** When anybody was last seen, also one whose requests do not count as use; 0 when nobody was. */
  get lastSeenAt(): number {
    return this.#lastSeenAt
  }

  #forgetOne(): boolean {
    for (const [key, viewer] of this.#viewers) {
      if (viewer.openCount === 0) return this.#viewers.delete(key)
    }
    return false
  }
}

function isHere(viewer: Viewer, now: number): boolean {
  return viewer.openCount > 0 || now - viewer.lastSeenAt < PRESENCE_LIMITS.awayMs
}
