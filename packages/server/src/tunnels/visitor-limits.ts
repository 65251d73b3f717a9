import { hash } from 'node:crypto'
import { RateLimit } from '@cyberun/protocol'
import { LRUCache } from 'lru-cache'
import { addressKey } from '../identity/limits.ts'
import { Refusal } from './http/refusal.ts'

/**
 * What one visitor, and all of one tunnel, may have under way. Chosen so that nobody at work meets them: a browser has six
 * connections to an origin and asks for the two thousand modules of a development page over those six, and thirty people
 * behind one address have about 240 requests and sockets under way. They are there for what has gone wrong.
 */
export const VISITOR_LIMITS = {
  /** Requests and connections of one tunnel that are under way. A service behind it has no more than 1,024 connections. */
  tunnelOpen: 1_000,
  /** The same of one address on one tunnel. */
  addressOpen: 512,
  /** New connections a second to one tunnel, and from one address; as many at once. */
  tunnelConnections: 1_000,
  addressConnections: 500,
  /** Different wrong tokens from one address within `guessMs`. */
  guesses: 30,
  guessMs: 600_000,
  /** Addresses remembered of each kind; beyond them the one seen longest ago is forgotten. */
  addresses: 10_000,
} as const

const RETRY_SECONDS = 1

/** Counts what is under way on one tunnel, by visitors' addresses. */
export class OpenVisits {
  /** Only addresses with something under way, so there are no more than that. */
  readonly #byAddress = new Map<string, number>()
  #count = 0

  get count(): number {
    return this.#count
  }

  /** A refusal when one more of this address is too many. */
  admit(address: string): Refusal | undefined {
    if (this.#count >= VISITOR_LIMITS.tunnelOpen) return tooMany('too much is under way through this tunnel')
    const open = this.#byAddress.get(addressKey(address)) ?? 0
    if (open >= VISITOR_LIMITS.addressOpen) return tooMany('too much is under way from your address')
    return undefined
  }

  begin(address: string): void {
    const key = addressKey(address)
    this.#count += 1
    this.#byAddress.set(key, (this.#byAddress.get(key) ?? 0) + 1)
  }

  /** Takes back one `begin`. */
  end(address: string): void {
    const key = addressKey(address)
    const open = this.#byAddress.get(key) ?? 0
    this.#count -= 1
    if (open <= 1) this.#byAddress.delete(key)
    else this.#byAddress.set(key, open - 1)
  }
}

/** Counts the new connections of an edge by address. */
export class NewConnections {
  readonly #rates = new LRUCache<string, RateLimit>({ max: VISITOR_LIMITS.addresses })

  /** Counts one. A refusal when it is one too many of this second. */
  admit(address: string, now: number): Refusal | undefined {
    const key = addressKey(address)
    const known = this.#rates.get(key)
    const rate = known ?? new RateLimit(VISITOR_LIMITS.addressConnections, now)
    if (!known) this.#rates.set(key, rate)
    return rate.take(now) ? undefined : tooOften('connections come too fast from your address')
  }
}

/** Counts the new connections of one tunnel. */
export class TunnelConnections {
  #rate: RateLimit | undefined

  admit(now: number): Refusal | undefined {
    this.#rate ??= new RateLimit(VISITOR_LIMITS.tunnelConnections, now)
    return this.#rate.take(now) ? undefined : tooOften('connections to this tunnel come too fast')
  }
}

/**
 * Wrong tokens by address. A tab left on a closed tunnel shows the same one again and again, which is one guess. Who has
 * made too many is told nothing about any token for a while, except on a tunnel where that address is already seen.
 */
export class TokenGuesses {
  readonly #byAddress = new LRUCache<string, { tokens: Set<number>; until: number }>({ max: VISITOR_LIMITS.addresses })

  /** Notes that `token` leads nowhere. */
  wrong(address: string, token: string, now: number): void {
    const key = addressKey(address)
    const known = this.#byAddress.get(key)
    const guessed =
      known && now < known.until ? known : { tokens: new Set<number>(), until: now + VISITOR_LIMITS.guessMs }
    // 32 bits of a hash tell guesses apart well enough and keep the token out of memory.
    if (guessed.tokens.size < VISITOR_LIMITS.guesses) {
      guessed.tokens.add(Number.parseInt(hash('sha256', token, 'hex').slice(0, 8), 16))
    }
    this.#byAddress.set(key, guessed)
  }

  /** A refusal for an address that has guessed too often. */
  refuse(address: string, now: number): Refusal | undefined {
    if (this.#byAddress.size === 0) return undefined
    const guessed = this.#byAddress.get(addressKey(address))
    if (!guessed || now >= guessed.until || guessed.tokens.size < VISITOR_LIMITS.guesses) return undefined
    const seconds = Math.ceil((guessed.until - now) / 1000)
    return tooOften('too many addresses of tunnels that do not exist were tried from here', seconds)
  }
}

function tooMany(what: string): Refusal {
  return new Refusal('too_many_requests', `${what}: try again shortly`, ['Retry-After', String(RETRY_SECONDS)])
}

function tooOften(what: string, seconds = RETRY_SECONDS): Refusal {
  return new Refusal('rate_limited', `${what}: try again in ${seconds} s`, ['Retry-After', String(seconds)])
}
