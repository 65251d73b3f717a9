import { createPrivateKey, createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from 'node:crypto'
import type { Log } from '@cyberun/link/log'
import { calculateJwkThumbprint, decodeProtectedHeader, errors, jwtVerify, SignJWT } from 'jose'
import type { ServerSecret } from '../store/server-secret.ts'
import {
  deleteSigningKeysRetiredBefore,
  insertSigningKey,
  listSigningKeys,
  retireOtherSigningKeys,
  type SigningKeyRecord,
} from '../store/signing-keys.ts'
import type { Store } from '../store/store.ts'

export const ACCESS_TOKEN_SECONDS = 3600
const AUDIENCE = 'cyberun-api'
const TYPE = 'at+jwt'
/** Ours have some 500 characters. Nothing longer is parsed. */
const MAX_TOKEN_CHARACTERS = 2048
/** Another server's clock may be this far behind ours; `exp` is not stretched. */
const CLOCK_SKEW_SECONDS = 30
/** A key signs for this long, then the next start makes another. */
const KEY_AGE_MS = 90 * 24 * 3600 * 1000
/**
 * A retired key verifies for this long. A server that has not noticed yet goes on signing with it, so this is more than
 * the life of a token.
 */
const RETIRED_MS = 2 * ACCESS_TOKEN_SECONDS * 1000
/** At most this often the store is asked for a key we do not know: another server may have made it. */
const RELOAD_MS = 1000

interface SigningKey {
  kid: string
  publicJwk: JsonWebKey
  publicKey: KeyObject
}

/** What an access token says: who, and by which sign-in. */
export interface AccessClaims {
  userId: string
  familyId: string
}

export interface AccessTokenOptions {
  store: Store
  secret: ServerSecret
  /** Our name in `iss`. */
  issuer: string
  now: () => number
  log: Log
}

interface Signer {
  kid: string
  privateKey: KeyObject
}

/**
 * Signs and verifies our JWTs: EdDSA only, with keys of our own found by their exact `kid`; whatever else a header asks
 * for (`alg`, `jku`, `jwk`, `x5u`, `crit`) makes the token no token of ours (RFC 8725, sections 3.1 to 3.12).
 */
export class AccessTokens {
  readonly #options: AccessTokenOptions
  #keys = new Map<string, SigningKey>()
  #signer: Signer
  #loadedAt: number

  private constructor(options: AccessTokenOptions, signer: Signer) {
    this.#options = options
    this.#signer = signer
    this.#loadedAt = options.now()
  }

  static async open(options: AccessTokenOptions): Promise<AccessTokens> {
    const tokens = new AccessTokens(options, await chooseSigner(options))
    await tokens.#reload()
    return tokens
  }

  /**
   * Takes over the key that another server on this database has begun to sign with, replaces one that is too old, and
   * forgets those whose last token has expired. To be called more often than every `ACCESS_TOKEN_SECONDS`.
   */
  async maintain(): Promise<void> {
    const { store, now } = this.#options
    await deleteSigningKeysRetiredBefore(store, now() - RETIRED_MS)
    this.#signer = await chooseSigner(this.#options, this.#signer)
    await this.#reload()
  }

  sign({ userId, familyId }: AccessClaims): Promise<string> {
    const seconds = Math.floor(this.#options.now() / 1000)
    return new SignJWT({ sid: familyId })
      .setProtectedHeader({ alg: 'EdDSA', typ: TYPE, kid: this.#signer.kid })
      .setIssuer(this.#options.issuer)
      .setAudience(AUDIENCE)
      .setSubject(userId)
      .setIssuedAt(seconds)
      .setNotBefore(seconds - CLOCK_SKEW_SECONDS)
      .setExpirationTime(seconds + ACCESS_TOKEN_SECONDS)
      .sign(this.#signer.privateKey)
  }

  /** Undefined for whatever is not a token of ours that is good now. Says nothing of whether its sign-in still is. */
  async verify(token: string): Promise<AccessClaims | undefined> {
    const kid = kidOf(token)
    const key = kid === undefined ? undefined : await this.#find(kid)
    if (key === undefined) return undefined
    const { issuer, now } = this.#options
    try {
      const { payload } = await jwtVerify(token, key.publicKey, {
        algorithms: ['EdDSA'],
        typ: TYPE,
        issuer,
        audience: AUDIENCE,
        requiredClaims: ['sub', 'sid', 'iat', 'nbf', 'exp'],
        currentDate: new Date(now()),
      })
      const { sub: userId, sid: familyId } = payload
      return typeof userId === 'string' && typeof familyId === 'string' ? { userId, familyId } : undefined
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined
      throw error
    }
  }

  jwks(): { keys: Record<string, unknown>[] } {
    return {
      keys: [...this.#keys.values()].map(({ kid, publicJwk }) => ({ ...publicJwk, kid, alg: 'EdDSA', use: 'sig' })),
    }
  }

  async rotate(): Promise<void> {
    this.#signer = await makeSigningKey(this.#options)
    await this.#reload()
  }

  async #find(kid: string): Promise<SigningKey | undefined> {
    if (!this.#keys.has(kid) && this.#options.now() - this.#loadedAt >= RELOAD_MS) await this.#reload()
    return this.#keys.get(kid)
  }

  async #reload(): Promise<void> {
    const { store, now } = this.#options
    this.#loadedAt = now()
    const records = await listSigningKeys(store)
    this.#keys = new Map(records.map((record) => [record.kid, parseRecord(record)]))
  }
}

/**
 * The newest key that is young enough and that our secret opens, else a new one. `current` is kept while it is still the
 * newest, without opening it again.
 */
async function chooseSigner(options: AccessTokenOptions, current?: Signer): Promise<Signer> {
  const { store, secret, now, log } = options
  for (const { kid, privateSealed, createdAt, retiredAt } of await listSigningKeys(store)) {
    if (retiredAt !== null || createdAt <= now() - KEY_AGE_MS) continue
    if (kid === current?.kid) return current
    const opened = secret.open('signing-key', kid, privateSealed)
    if (opened !== undefined) return { kid, privateKey: privateKeyOf(opened) }
    log.warn({ kid }, 'signing_key.sealed_with_another_secret')
  }
  return makeSigningKey(options)
}

/** Makes a key, stores it and retires the others: what they signed stays good until it expires. */
async function makeSigningKey({ store, secret, now }: AccessTokenOptions): Promise<Signer> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const publicJwk = publicKey.export({ format: 'jwk' })
  const kid = await calculateJwkThumbprint({ kty: 'OKP', crv: 'Ed25519', x: String(publicJwk.x) })
  await store.transaction(async (sql) => {
    await retireOtherSigningKeys(sql, kid, now())
    await insertSigningKey(sql, {
      kid,
      publicJwk: JSON.stringify(publicJwk),
      privateSealed: secret.seal('signing-key', kid, JSON.stringify(privateKey.export({ format: 'jwk' }))),
      createdAt: now(),
      retiredAt: null,
    })
  })
  return { kid, privateKey }
}

function privateKeyOf(jwk: string): KeyObject {
  return createPrivateKey({ key: JSON.parse(jwk) as JsonWebKey, format: 'jwk' })
}

function parseRecord({ kid, publicJwk }: SigningKeyRecord): SigningKey {
  const jwk = JSON.parse(publicJwk) as JsonWebKey
  return { kid, publicJwk: jwk, publicKey: createPublicKey({ key: jwk, format: 'jwk' }) }
}

/**
 * The `kid` of a token that has exactly our form, before any key is looked at. Its three parts must be the one base64url
 * spelling of their bytes, else one token would have several forms.
 */
function kidOf(token: string): string | undefined {
  if (token.length > MAX_TOKEN_CHARACTERS) return undefined
  const parts = token.split('.')
  if (parts.length !== 3 || !parts.every(isCanonicalBase64Url)) return undefined
  try {
    const { alg, typ, kid, ...others } = decodeProtectedHeader(token)
    if (alg !== 'EdDSA' || typ !== TYPE || typeof kid !== 'string' || Object.keys(others).length > 0) return undefined
    return kid
  } catch {
    return undefined // not a JSON header: not a token
  }
}

function isCanonicalBase64Url(text: string): boolean {
  return Buffer.from(text, 'base64url').toString('base64url') === text
}
