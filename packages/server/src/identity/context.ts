import { ApiError, type Role } from '@cyberun/api'
import type { Log } from '@cyberun/link/log'
import { uuidv7 } from 'uuidv7'
import type { Bus } from '../bus.ts'
import { requireRole } from '../model/roles.ts'
import { appendAudit } from '../store/audit.ts'
import type { Sql } from '../store/handle.ts'
import type { Store } from '../store/store.ts'
import { lockRole } from '../store/teams.ts'
import type { Actor } from './identity.ts'

/** What every part of identity works with. */
export interface Context {
  store: Store
  bus: Bus
  log: Log
  /** Milliseconds since 1970. */
  now: () => number
}

/** Who did it, where, what and to what: the audit record of a change, written with the change. */
export interface Deed {
  userId: string
  teamId: string
  action: string
  subject: string
  detail?: Record<string, string | number | boolean | null>
}

export async function audit(sql: Sql, now: number, { userId, detail = {}, ...deed }: Deed): Promise<void> {
  await appendAudit(sql, { ...deed, id: uuidv7(), at: now, actor: `user:${userId}`, detail })
}

/**
 * The role of whoever does this, as it is now, held still until the transaction ends: the one that let the call in may have
 * been taken away since. Throws when it is not enough any more.
 */
export async function actingRole(sql: Sql, { teamId, userId }: Actor, least: Role): Promise<Role> {
  return requireRole(await lockRole(sql, teamId, userId), least)
}

/** After the commit: everything live that was made with these credentials ends. */
export function publishEnded({ bus, log }: Context, credentialIds: readonly string[]): void {
  for (const credentialId of credentialIds) {
    log.info({ credential_id: credentialId }, 'credential.ended')
    bus.publish('credential.revoked', { credentialId })
  }
}

/** One answer for what does not exist and for what is somebody else's. */
export function notFound(what: string): ApiError {
  return new ApiError('not_found', `There is no such ${what} in this team.`)
}
