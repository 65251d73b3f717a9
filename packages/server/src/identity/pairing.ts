import { randomInt } from 'node:crypto'
import { ApiError } from '@cyberun/api'
import { mayWork } from '../model/roles.ts'
import type { Sql } from '../store/handle.ts'
import {
  approvePairing,
  countPairings,
  deleteExpiredPairings,
  insertPairing,
  isPairingOpen,
  type PairingApproval,
  takeApprovedPairing,
} from '../store/pairings.ts'
import { lockRole } from '../store/teams.ts'
import { audit, type Context } from './context.ts'
import type { Credentials } from './credentials.ts'
import type { Actor, PairingCodes, PairingState } from './identity.ts'
import { type AttemptLimiter, addressKey } from './limits.ts'
import { hashSecret, newSecret } from './secrets.ts'

const PAIRING_SECONDS = 300
const POLL_SECONDS = 2
/** Devices that may wait at once: anybody can start a pairing. */
const MAX_PAIRINGS = 1000
/** Consonants that are not mistaken for a digit or for each other, and make no words (RFC 8628, section 6.1). */
const ALPHABET = 'BCDFGHJKLMNPQRSTVWXZ'
const CODE_CHARACTERS = 8

export interface PairingLimiters {
  startsByAddress: AttemptLimiter
  failuresByAddress: AttemptLimiter
  codesByUser: AttemptLimiter
}

/** How a device without a browser gets its keys: it shows a code, a signed-in person types it (after RFC 8628). */
export class Pairing {
  readonly #context: Context
  readonly #credentials: Credentials
  readonly #limiters: PairingLimiters

  constructor(context: Context, credentials: Credentials, limiters: PairingLimiters) {
    this.#context = context
    this.#credentials = credentials
    this.#limiters = limiters
  }

  async start(address: string): Promise<PairingCodes> {
    this.#limiters.startsByAddress.take(addressKey(address))
    const { store, now } = this.#context
    const deviceCode = newSecret()
    const userCode = await store.transaction(async (sql) => {
      await deleteExpiredPairings(sql, now())
      if ((await countPairings(sql)) >= MAX_PAIRINGS) {
        throw new ApiError('unavailable', 'Too many devices wait to be paired; try again in a few minutes.', {
          retryAfterSeconds: PAIRING_SECONDS,
        })
      }
      const createdAt = now()
      const expiresAt = createdAt + PAIRING_SECONDS * 1000
      for (;;) {
        const code = drawUserCode()
        const drawn = { deviceCodeHash: hashSecret(deviceCode), userCode: code, createdAt, expiresAt }
        if (await insertPairing(sql, drawn)) return code
      }
    })
    return {
      deviceCode,
      userCode: `${userCode.slice(0, 4)}-${userCode.slice(4)}`,
      expiresInSeconds: PAIRING_SECONDS,
      intervalSeconds: POLL_SECONDS,
    }
  }

  async confirm({ userId, teamId }: Actor, userCode: string, deviceName: string | undefined): Promise<void> {
    const { store, now } = this.#context
    this.#limiters.codesByUser.take(userId)
    await store.transaction(async (sql) => {
      const approval = { userId, teamId, deviceName: deviceName ?? null }
      if (!(await approvePairing(sql, normalizeUserCode(userCode), approval, now()))) {
        throw new ApiError('not_found', 'No device waits under this code; check it, or start again on the device.')
      }
      await audit(sql, now(), { userId, teamId, action: 'device.confirmed', subject: userId })
    })
    this.#limiters.codesByUser.giveBack(userId)
  }

  async poll(deviceCode: string, address: string): Promise<PairingState> {
    const { store, now } = this.#context
    const deviceCodeHash = hashSecret(deviceCode)
    const state = await store.transaction(async (sql): Promise<PairingState | undefined> => {
      const approval = await takeApprovedPairing(sql, deviceCodeHash, now())
      if (approval !== undefined) return this.#makeKeys(sql, approval)
      return (await isPairingOpen(sql, deviceCodeHash, now())) ? { status: 'pending' } : undefined
    })
    if (state !== undefined) return state
    this.#limiters.failuresByAddress.take(addressKey(address))
    throw new ApiError('not_found', 'This pairing is over or never was; start again on the device.')
  }

  /** Undefined when whoever confirmed has since left the team or may not make keys any more. */
  async #makeKeys(sql: Sql, approval: PairingApproval): Promise<PairingState | undefined> {
    const { userId, teamId } = approval
    const role = await lockRole(sql, teamId, userId)
    if (role === undefined || !mayWork(role)) return undefined
    const displayName = approval.deviceName ?? 'Paired device'
    const shared = { teamId, userId, displayName, expiresAt: null }
    const agent = await this.#credentials.insert(sql, { ...shared, kind: 'agent', companionId: null })
    const device = await this.#credentials.insert(sql, { ...shared, kind: 'device', companionId: agent.id })
    return { status: 'approved', rawKey: device.rawKey, agentKey: agent.rawKey }
  }
}

function drawUserCode(): string {
  return Array.from({ length: CODE_CHARACTERS }, () => ALPHABET.charAt(randomInt(ALPHABET.length))).join('')
}

/** As a person types it: any case, with or without dash and spaces. */
function normalizeUserCode(userCode: string): string {
  return userCode.replace(/[\s-]/g, '').toUpperCase()
}
