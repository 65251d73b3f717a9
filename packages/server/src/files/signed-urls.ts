import { createHmac, timingSafeEqual } from 'node:crypto'

/** What a URL lets its holder do. HEAD goes with either. */
export type SignedMethod = 'GET' | 'PUT'

export type UrlCheck = 'valid' | 'expired' | 'invalid'

/**
 * Makes and checks URLs that carry their own right: bound to one method, one path and a time. The key is derived from
 * the server secret, so every server that shares it accepts them.
 */
export class UrlSigner {
  readonly #key: Uint8Array
  readonly #now: () => number

  /** `now` in milliseconds since 1970. */
  constructor(key: Uint8Array, now: () => number) {
    this.#key = key
    this.#now = now
  }

  /** The path with its right, and until when it is valid, to the second. */
  sign(method: SignedMethod, path: string, lifetimeMs: number): { target: string; expiresAt: number } {
    const expires = Math.floor((this.#now() + lifetimeMs) / 1000)
    const signature = this.#signature(method, path, expires).toString('base64url')
    return { target: `${path}?expires=${expires}&signature=${signature}`, expiresAt: expires * 1000 }
  }

  /** `expired` only for what was valid once: nobody learns from a guess. */
  check(method: SignedMethod, path: string, query: URLSearchParams): UrlCheck {
    const expires = Number(query.get('expires'))
    const given = Buffer.from(query.get('signature') ?? '', 'base64url')
    const right = this.#signature(method, path, expires)
    if (given.length !== right.length || !timingSafeEqual(given, right)) return 'invalid'
    return this.#now() < expires * 1000 ? 'valid' : 'expired'
  }

  #signature(method: SignedMethod, path: string, expires: number): Buffer {
    return createHmac('sha256', this.#key).update(`${method}\n${path}\n${expires}`).digest()
  }
}
