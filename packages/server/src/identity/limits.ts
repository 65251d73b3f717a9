import { isIPv6 } from 'node:net'
import { ApiError } from '@cyberun/api'
import { LRUCache } from 'lru-cache'

/** Attempts allowed at once; they come back steadily, all of them within a minute. */
export interface AttemptLimits {
  loginsPerAddress: number
  loginsPerAccount: number
  /** Wrong keys, tokens and codes. */
  failuresPerAddress: number
  /** Pairings started. */
  pairingsPerAddress: number
  /** Wrong pairing codes. */
  codesPerUser: number
}

export const DEFAULT_LIMITS: AttemptLimits = {
  loginsPerAddress: 30,
  loginsPerAccount: 10,
  failuresPerAddress: 60,
  pairingsPerAddress: 20,
  codesPerUser: 10,
}

const REFILL_MS = 60_000
/** Keys remembered; whoever can make us forget one has used up as many addresses. */
const MAX_KEYS = 50_000

/** Counts attempts by key. A success may be given back, so that only failures count. */
export class AttemptLimiter {
  readonly #attempts: number
  readonly #now: () => number
  /** Attempts left at a time; who is not here has all of them. */
  readonly #left = new LRUCache<string, { count: number; at: number }>({ max: MAX_KEYS })

  constructor(attempts: number, now: () => number) {
    this.#attempts = attempts
    this.#now = now
  }

  /** Counts an attempt. Throws `rate_limited` when there is none left, and then counts nothing. */
  take(key: string): void {
    const left = this.#leftOf(key)
    if (left < 1) {
      const retryAfterSeconds = Math.ceil(((1 - left) * REFILL_MS) / this.#attempts / 1000)
      throw new ApiError('rate_limited', `Too many attempts; try again in ${retryAfterSeconds} s.`, {
        retryAfterSeconds,
      })
    }
    this.#left.set(key, { count: left - 1, at: this.#now() })
  }

  giveBack(key: string): void {
    this.#left.set(key, { count: Math.min(this.#attempts, this.#leftOf(key) + 1), at: this.#now() })
  }

  #leftOf(key: string): number {
    const known = this.#left.get(key)
    if (known === undefined) return this.#attempts
    const refilled = ((this.#now() - known.at) * this.#attempts) / REFILL_MS
    return Math.min(this.#attempts, known.count + Math.max(0, refilled))
  }
}

/** Who an address is for counting: an IPv4 address, or the /64 that an IPv6 host is given whole. */
export function addressKey(address: string): string {
  // Asked several times for each request of a visitor, and most of them come over IPv4.
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  if (!isIPv6(address)) return address
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const before = head.split(':').filter((group) => group !== '')
  const after = (tail ?? '').split(':').filter((group) => group !== '')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  const groups = [...before, ...Array<string>(zeros).fill('0'), ...after]
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')
}
