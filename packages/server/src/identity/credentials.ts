import { randomBytes } from 'node:crypto'
import { ApiError, type CredentialKind, type PageQuery } from '@cyberun/api'
import { formatKey, KEY_RANDOM_BYTES, type KeyKind } from '@cyberun/protocol'
import { LRUCache } from 'lru-cache'
import { uuidv7 } from 'uuidv7'
import { mayRevoke } from '../model/roles.ts'
import {
  type CredentialRecord,
  countCredentials,
  findCredential,
  findCredentialByHash,
  insertCredential,
  listCredentials,
  revokeCredential,
  touchCredential,
} from '../store/credentials.ts'
import type { Sql } from '../store/handle.ts'
import { actingRole, audit, type Context, notFound, publishEnded } from './context.ts'
import type { Actor, Credential, KeyCaller, Listed, NewCredential } from './identity.ts'
import { hashSecret } from './secrets.ts'

const DAY_MS = 24 * 3600 * 1000
/** `last_used_at` is exact to this: a write a call would cost more than the call. */
const TOUCH_MS = 60_000
const PREFIX_CHARACTERS = 12
/** Keys remembered at most. */
const MAX_REMEMBERED = 1_000

const KEY_KIND: Record<CredentialKind, KeyKind> = { integration: 'sk', device: 'dk', agent: 'ak' }

/** What a new key is for. */
export interface CredentialRequest {
  teamId: string
  userId: string
  kind: CredentialKind
  displayName: string
  expiresAt: number | null
  companionId: string | null
}

/** Keys: made, listed, recognised, revoked. */
export class Credentials {
  readonly #context: Context
  /** By their hash. */
  readonly #remembered = new LRUCache<string, { caller: KeyCaller; until: number }>({ max: MAX_REMEMBERED })

  constructor(context: Context) {
    this.#context = context
  }

  async create(
    actor: Actor,
    request: { kind: 'integration' | 'agent'; displayName: string; expiresInDays?: number | undefined },
  ): Promise<NewCredential> {
    const { kind, displayName, expiresInDays } = request
    const expiresAt = expiresInDays === undefined ? null : this.#context.now() + expiresInDays * DAY_MS
    return this.#context.store.transaction(async (sql) => {
      // As it is now: whoever has been removed since the call came in gets no key that nobody would revoke.
      await actingRole(sql, actor, 'viewer')
      const { userId, teamId } = actor
      return this.insert(sql, { teamId, userId, kind, displayName, expiresAt, companionId: null })
    })
  }

  async insert(sql: Sql, request: CredentialRequest): Promise<NewCredential> {
    const id = uuidv7()
    const rawKey = formatKey(KEY_KIND[request.kind], randomBytes(KEY_RANDOM_BYTES))
    const keyPrefix = rawKey.slice(0, PREFIX_CHARACTERS)
    const createdAt = this.#context.now()
    await insertCredential(sql, { ...request, id, keyPrefix, keyHash: hashSecret(rawKey), createdAt })
    const { userId, teamId, kind } = request
    await audit(sql, createdAt, { userId, teamId, action: 'credential.created', subject: id, detail: { kind } })
    return { id, kind, keyPrefix, rawKey }
  }

  async list({ teamId }: Actor, kind: CredentialKind | undefined, page: PageQuery): Promise<Listed<Credential>> {
    const { store, now } = this.#context
    const rows = await listCredentials(store, teamId, kind, page)
    return { rows: rows.map((row) => view(row, now())), totalCount: await countCredentials(store, teamId, kind) }
  }

  /** Revoking what is revoked already is fine, and announces it again. */
  async revoke(actor: Actor, id: string): Promise<void> {
    const { store, now } = this.#context
    const { userId, teamId } = actor
    const revoked = await store.transaction(async (sql) => {
      const credential = await findCredential(sql, teamId, id)
      if (credential === undefined) throw notFound('credential')
      if (!mayRevoke(actor, credential)) {
        throw new ApiError('forbidden', 'Only an admin or the owner can revoke the keys of others.')
      }
      const ids = await revokeCredential(sql, id, now())
      await audit(sql, now(), { userId, teamId, action: 'credential.revoked', subject: id })
      return ids
    })
    publishEnded(this.#context, [...new Set([id, ...revoked])])
  }

  async revokeDevice({ credentialId, teamId }: { credentialId: string; teamId: string }): Promise<void> {
    const { store, now } = this.#context
    const revoked = await store.transaction(async (sql) => {
      const credential = await findCredential(sql, teamId, credentialId)
      if (credential?.kind !== 'device') throw notFound('device')
      const { userId } = credential
      await audit(sql, now(), { userId, teamId, action: 'credential.revoked', subject: credentialId })
      return revokeCredential(sql, credentialId, now())
    })
    publishEnded(this.#context, revoked)
  }

  /** Whose key this is, if it is good now. `rawKey` is well-formed. */
  async callerOf(rawKey: string): Promise<KeyCaller | undefined> {
    const { store, now } = this.#context
    const keyHash = hashSecret(rawKey)
    const credential = await findCredentialByHash(store, keyHash)
    if (credential === undefined || statusOf(credential, now()) !== 'active') return undefined
    const { id: credentialId, kind, userId, teamId, role, lastUsedAt, expiresAt } = credential
    const stale = now() - TOUCH_MS
    const isStale = lastUsedAt === null || lastUsedAt <= stale
    if (isStale) await touchCredential(store, credentialId, now(), stale)
    const caller = { kind, userId, teamId, credentialId, role }
    // Until its use must be noted again, or its time is up.
    const until = Math.min((isStale ? now() : lastUsedAt) + TOUCH_MS, expiresAt ?? Number.POSITIVE_INFINITY)
    this.#remembered.set(keyHash, { caller: { ...caller, isRecalled: true }, until })
    return caller
  }

  /** What `callerOf` said of the key within the last minute. */
  recall(rawKey: string): KeyCaller | undefined {
    const remembered = this.#remembered.get(hashSecret(rawKey))
    return remembered && remembered.until > this.#context.now() ? remembered.caller : undefined
  }
}

function statusOf(credential: CredentialRecord, now: number): Credential['keyStatus'] {
  if (credential.revokedAt !== null) return 'revoked'
  return credential.expiresAt !== null && credential.expiresAt <= now ? 'expired' : 'active'
}

function view(record: CredentialRecord, now: number): Credential {
  const { id, kind, displayName, keyPrefix, userId, createdAt, lastUsedAt, expiresAt } = record
  return {
    id,
    kind,
    displayName,
    keyPrefix,
    userId,
    keyStatus: statusOf(record, now),
    createdAt,
    lastUsedAt,
    expiresAt,
  }
}
