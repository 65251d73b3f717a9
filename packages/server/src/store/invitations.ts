import type { PageQuery } from '@cyberun/api'
import { type GivenRole, parseRole } from '../model/roles.ts'
import { Sql } from './handle.ts'
import { pageBounds } from './page.ts'

export interface InvitationRecord {
  id: string
  emailAddress: string
  invitationRole: GivenRole
  invitedByUserId: string
  createdAt: number
  expiresAt: number
}

/** Adds an invitation; an earlier one of the team for the same address is replaced, so that one token is good. */
export async function putInvitation(
  sql: Sql,
  teamId: string,
  tokenHash: string,
  invitation: InvitationRecord,
): Promise<void> {
  const fields = {
    id: invitation.id,
    invitation_role: invitation.invitationRole,
    token_hash: tokenHash,
    invited_by_user_id: invitation.invitedByUserId,
    created_at: invitation.createdAt,
    expires_at: invitation.expiresAt,
  }
  await Sql.db(sql)
    .insertInto('invitation')
    .values({ ...fields, team_id: teamId, email_address: invitation.emailAddress })
    .onConflict((conflict) => conflict.columns(['team_id', 'email_address']).doUpdateSet(fields))
    .execute()
}

/** Takes the invitation away and returns it, once: of two who accept at the same time one finds nothing. */
export async function takeInvitation(
  sql: Sql,
  token: { tokenHash: string; emailAddress: string; now: number },
): Promise<{ teamId: string; invitationRole: GivenRole } | undefined> {
  const row = await Sql.db(sql)
    .deleteFrom('invitation')
    .where('token_hash', '=', token.tokenHash)
    .where('email_address', '=', token.emailAddress)
    .where('expires_at', '>', token.now)
    .returning(['team_id', 'invitation_role'])
    .executeTakeFirst()
  return row && { teamId: row.team_id, invitationRole: parseGivenRole(row.invitation_role) }
}

/** Who an invitation is for, if its token is good now. */
export async function findInvitedAddress(sql: Sql, tokenHash: string, now: number): Promise<string | undefined> {
  const row = await Sql.db(sql)
    .selectFrom('invitation')
    .select('email_address')
    .where('token_hash', '=', tokenHash)
    .where('expires_at', '>', now)
    .executeTakeFirst()
  return row?.email_address
}

/** False when the team has no such invitation. */
export async function deleteInvitation(sql: Sql, teamId: string, id: string): Promise<boolean> {
  const result = await Sql.db(sql)
    .deleteFrom('invitation')
    .where('team_id', '=', teamId)
    .where('id', '=', id)
    .executeTakeFirst()
  return result.numDeletedRows === 1n
}

export async function deleteExpiredInvitations(sql: Sql, now: number): Promise<void> {
  await Sql.db(sql).deleteFrom('invitation').where('expires_at', '<=', now).execute()
}

/** Oldest first. */
export async function listInvitations(
  sql: Sql,
  teamId: string,
  now: number,
  page: PageQuery,
): Promise<InvitationRecord[]> {
  const { limit, offset } = pageBounds(page)
  const rows = await selectOpen(sql, teamId, now)
    .select([
      'id',
      'email_address as emailAddress',
      'invitation_role as invitationRole',
      'invited_by_user_id as invitedByUserId',
      'created_at as createdAt',
      'expires_at as expiresAt',
    ])
    .orderBy('id')
    .limit(limit)
    .offset(offset)
    .execute()
  return rows.map((row) => ({ ...row, invitationRole: parseGivenRole(row.invitationRole) }))
}

export async function countInvitations(sql: Sql, teamId: string, now: number): Promise<number> {
  const { count } = await selectOpen(sql, teamId, now)
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return count
}

const selectOpen = (sql: Sql, teamId: string, now: number) =>
  Sql.db(sql).selectFrom('invitation').where('team_id', '=', teamId).where('expires_at', '>', now)

function parseGivenRole(raw: string): GivenRole {
  const role = parseRole(raw)
  if (role === 'owner') throw new Error('an invitation in the store makes an owner')
  return role
}
