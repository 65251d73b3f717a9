import { ApiError } from '@cyberun/api'
import { hash, verify } from '@node-rs/argon2'
import { newSecret } from './secrets.ts'

/** Argon2id, 19 MiB, two passes, one lane: OWASP's recommendation, some 25 ms. */
const COST = { memoryCost: 19 * 1024, timeCost: 2, parallelism: 1 }
/** Hashes that may run or wait at once; each holds 19 MiB and a thread of the pool. */
const MAX_RUNNING = 32

/** Hashes and checks passwords, as many at a time as the machine can bear. */
export class Passwords {
  readonly #nobodysHash: string
  #running = 0

  private constructor(nobodysHash: string) {
    this.#nobodysHash = nobodysHash
  }

  static async create(): Promise<Passwords> {
    return new Passwords(await hash(newSecret(), COST))
  }

  hash(password: string): Promise<string> {
    return this.#bounded(() => hash(password, COST))
  }

  /** Takes as long when there is no such user, so that nobody learns who has an account. */
  async matches(passwordHash: string | undefined, password: string): Promise<boolean> {
    const right = await this.#bounded(() => verify(passwordHash ?? this.#nobodysHash, password))
    return right && passwordHash !== undefined
  }

  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= MAX_RUNNING) {
      throw new ApiError('unavailable', 'Too many people sign in at once; try again in a moment.', {
        retryAfterSeconds: 1,
      })
    }
    this.#running++
    try {
      return await work()
    } finally {
      this.#running--
    }
  }
}
