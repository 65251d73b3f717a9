import { ApiError } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import {
  endSignIn,
  endSignInsOf,
  extendSignIn,
  familyOfToken,
  insertRefreshToken,
  insertSignIn,
  lockSignIn,
  useRefreshToken,
} from '../store/sign-ins.ts'
import { findUser, findUserByEmail, lockPasswordHash, replacePasswordHash, type UserRecord } from '../store/users.ts'
import { ACCESS_TOKEN_SECONDS, type AccessClaims, type AccessTokens } from './access-tokens.ts'
import type { Context } from './context.ts'
import type { TokenPair } from './identity.ts'
import { type AttemptLimiter, addressKey } from './limits.ts'
import type { Passwords } from './passwords.ts'
import { hashSecret, newSecret } from './secrets.ts'

/** A sign-in that is not refreshed for this long is over. */
const SIGN_IN_MS = 30 * 24 * 3600 * 1000

export interface SignInParts {
  passwords: Passwords
  tokens: AccessTokens
  loginsByAddress: AttemptLimiter
  loginsByAccount: AttemptLimiter
  failuresByAddress: AttemptLimiter
}

/** Signing in, staying signed in, and changing the password. */
export class SignIns {
  readonly #context: Context
  readonly #parts: SignInParts

  constructor(context: Context, parts: SignInParts) {
    this.#context = context
    this.#parts = parts
  }

  async login(emailAddress: string, userPassword: string, address: string): Promise<TokenPair> {
    const { passwords, loginsByAddress, loginsByAccount } = this.#parts
    const email = normalizeEmail(emailAddress)
    // Counted before the password is looked at, so that many tries at once count too.
    loginsByAddress.take(addressKey(address))
    loginsByAccount.take(email)
    const user = await findUserByEmail(this.#context.store, email)
    const matches = await passwords.matches(user?.passwordHash, userPassword)
    if (user === undefined || !matches) {
      throw wrongSignIn()
    }
    loginsByAddress.giveBack(addressKey(address))
    loginsByAccount.giveBack(email)
    return this.#begin(user)
  }

  async refresh(refreshToken: string, address: string): Promise<TokenPair> {
    const outcome = await this.#rotate(refreshToken)
    if (outcome.kind === 'rotated') return this.#pair(outcome.claims, outcome.refreshToken)
    if (outcome.kind === 'reused') {
      this.#context.log.warn({ family_id: outcome.familyId }, 'sign_in.refresh_token_reused')
      this.#context.bus.publish('session.revoked', { familyId: outcome.familyId })
    }
    this.#parts.failuresByAddress.take(addressKey(address))
    throw new ApiError('unauthenticated', 'The refresh token is not good any more; sign in again.')
  }

  async changePassword(userId: string, currentPassword: string, newPassword: string): Promise<void> {
    const { store, bus, now } = this.#context
    const { passwords, loginsByAccount } = this.#parts
    const user = await findUser(store, userId)
    if (user === undefined) throw new ApiError('not_found', 'There is no such user.')
    loginsByAccount.take(user.emailAddress)
    if (!(await passwords.matches(user.passwordHash, currentPassword))) throw wrongCurrentPassword()
    loginsByAccount.giveBack(user.emailAddress)
    const next = await passwords.hash(newPassword)
    const ended = await store.transaction(async (sql) => {
      if (!(await replacePasswordHash(sql, userId, user.passwordHash, next))) throw wrongCurrentPassword()
      return endSignInsOf(sql, userId, now())
    })
    for (const familyId of ended) bus.publish('session.revoked', { familyId })
  }

  /** The password that was found right must still be the user's: changing it ends what it had begun by then. */
  async #begin({ id: userId, passwordHash }: UserRecord): Promise<TokenPair> {
    const familyId = uuidv7()
    const refreshToken = newSecret()
    const createdAt = this.#context.now()
    await this.#context.store.transaction(async (sql) => {
      if (!(await lockPasswordHash(sql, userId, passwordHash))) throw wrongSignIn()
      await insertSignIn(sql, { id: familyId, userId, createdAt, expiresAt: createdAt + SIGN_IN_MS })
      await insertRefreshToken(sql, { tokenHash: hashSecret(refreshToken), familyId, createdAt })
    })
    return this.#pair({ userId, familyId }, refreshToken)
  }

  /**
   * Swaps a token for the next one. A token that comes back a second time was copied, by a thief or from one: nobody can
   * tell which of the two holders is which, so the family ends for both (RFC 9700, section 4.14.2).
   */
  #rotate(
    refreshToken: string,
  ): Promise<
    | { kind: 'rotated'; claims: AccessClaims; refreshToken: string }
    | { kind: 'reused'; familyId: string }
    | { kind: 'unknown' }
  > {
    const { store, now } = this.#context
    const tokenHash = hashSecret(refreshToken)
    return store.transaction(async (sql) => {
      const familyId = await familyOfToken(sql, tokenHash)
      const userId = familyId && (await lockSignIn(sql, familyId, now()))
      if (!familyId || !userId) return { kind: 'unknown' }
      if (!(await useRefreshToken(sql, tokenHash, now()))) {
        await endSignIn(sql, familyId, now())
        return { kind: 'reused', familyId }
      }
      const next = newSecret()
      await insertRefreshToken(sql, { tokenHash: hashSecret(next), familyId, createdAt: now() })
      await extendSignIn(sql, familyId, now() + SIGN_IN_MS)
      return { kind: 'rotated', claims: { userId, familyId }, refreshToken: next }
    })
  }

  async #pair(claims: AccessClaims, refreshToken: string): Promise<TokenPair> {
    const accessToken = await this.#parts.tokens.sign(claims)
    return { accessToken, refreshToken, expiresInSeconds: ACCESS_TOKEN_SECONDS }
  }
}

/** One spelling an address, so that it has one account. */
export function normalizeEmail(emailAddress: string): string {
  return emailAddress.trim().normalize('NFC').toLowerCase()
}

function wrongSignIn(): ApiError {
  return new ApiError('unauthenticated', 'The e-mail address or the password is wrong.')
}

function wrongCurrentPassword(): ApiError {
  return new ApiError('invalid_request', 'The current password is wrong.', {
    details: [{ path: 'body.current_password', message: 'is not your password' }],
  })
}
