import type { PageQuery, Role } from '@cyberun/api'
import { parseRole } from '../model/roles.ts'
import { lockRows } from './dialect.ts'
import { Sql } from './handle.ts'
import { pageBounds } from './page.ts'
import { sharedRead } from './shared-read.ts'

export interface TeamRecord {
  id: string
  displayName: string
  createdAt: number
}

export interface MemberRecord {
  userId: string
  emailAddress: string
  firstName: string
  lastName: string
  displayName: string
  role: Role
  joinedAt: number
}

export async function insertTeam(sql: Sql, team: TeamRecord): Promise<void> {
  await Sql.db(sql)
    .insertInto('team')
    .values({ id: team.id, display_name: team.displayName, created_at: team.createdAt })
    .execute()
}

/** The team that was made first, and who owns it. Team ids grow with time. */
export async function oldestTeam(sql: Sql): Promise<{ teamId: string; userId: string } | undefined> {
  return Sql.db(sql)
    .selectFrom('membership')
    .select(['team_id as teamId', 'user_id as userId'])
    .where('role', '=', 'owner')
    .orderBy('team_id')
    .limit(1)
    .executeTakeFirst()
}

export async function renameTeam(sql: Sql, teamId: string, displayName: string): Promise<void> {
  await Sql.db(sql).updateTable('team').set({ display_name: displayName }).where('id', '=', teamId).execute()
}

/** Its members, invitations, credentials, agents and tunnels go with it; what was audited stays. */
export async function deleteTeam(sql: Sql, teamId: string): Promise<void> {
  await Sql.db(sql).deleteFrom('team').where('id', '=', teamId).execute()
}

/** False when the person is in the team already. */
export async function insertMember(
  sql: Sql,
  member: { teamId: string; userId: string; role: Role; joinedAt: number },
): Promise<boolean> {
  const result = await Sql.db(sql)
    .insertInto('membership')
    .values({ team_id: member.teamId, user_id: member.userId, role: member.role, joined_at: member.joinedAt })
    .onConflict((conflict) => conflict.columns(['team_id', 'user_id']).doNothing())
    .executeTakeFirst()
  return result.numInsertedOrUpdatedRows === 1n
}

export const roleOf = sharedRead(async (sql: Sql, teamId: string, userId: string): Promise<Role | undefined> => {
  const row = await selectRole(sql, teamId, userId).executeTakeFirst()
  return row && parseRole(row.role)
})

/** `roleOf`, held still until the transaction ends. */
export async function lockRole(sql: Sql, teamId: string, userId: string): Promise<Role | undefined> {
  const row = await lockRows(Sql.engine(sql), selectRole(sql, teamId, userId)).executeTakeFirst()
  return row && parseRole(row.role)
}

const selectRole = (sql: Sql, teamId: string, userId: string) =>
  Sql.db(sql).selectFrom('membership').select('role').where('team_id', '=', teamId).where('user_id', '=', userId)

export async function setRole(sql: Sql, teamId: string, userId: string, role: Role): Promise<void> {
  await Sql.db(sql)
    .updateTable('membership')
    .set({ role })
    .where('team_id', '=', teamId)
    .where('user_id', '=', userId)
    .execute()
}

export async function deleteMember(sql: Sql, teamId: string, userId: string): Promise<void> {
  await Sql.db(sql).deleteFrom('membership').where('team_id', '=', teamId).where('user_id', '=', userId).execute()
}

/** The teams of a user, oldest first; all of them without a page. */
export async function listTeamsOf(
  sql: Sql,
  userId: string,
  page?: PageQuery,
): Promise<{ id: string; displayName: string; role: Role }[]> {
  let query = Sql.db(sql)
    .selectFrom('membership')
    .innerJoin('team', 'team.id', 'membership.team_id')
    .select(['team.id', 'team.display_name as displayName', 'membership.role'])
    .where('membership.user_id', '=', userId)
    .orderBy('team.id')
  if (page !== undefined) {
    const { limit, offset } = pageBounds(page)
    query = query.limit(limit).offset(offset)
  }
  return (await query.execute()).map((row) => ({ ...row, role: parseRole(row.role) }))
}

export async function countTeamsOf(sql: Sql, userId: string): Promise<number> {
  const { count } = await Sql.db(sql)
    .selectFrom('membership')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('user_id', '=', userId)
    .executeTakeFirstOrThrow()
  return count
}

/** In the order they joined. */
export async function listMembers(sql: Sql, teamId: string, page: PageQuery): Promise<MemberRecord[]> {
  const { limit, offset } = pageBounds(page)
  const rows = await Sql.db(sql)
    .selectFrom('membership')
    .innerJoin('user_account', 'user_account.id', 'membership.user_id')
    .select([
      'user_account.id as userId',
      'email_address as emailAddress',
      'first_name as firstName',
      'last_name as lastName',
      'display_name as displayName',
      'membership.role',
      'membership.joined_at as joinedAt',
    ])
    .where('membership.team_id', '=', teamId)
    .orderBy('membership.joined_at')
    .orderBy('user_account.id')
    .limit(limit)
    .offset(offset)
    .execute()
  return rows.map((row) => ({ ...row, role: parseRole(row.role) }))
}

export async function countMembers(sql: Sql, teamId: string): Promise<number> {
  const { count } = await Sql.db(sql)
    .selectFrom('membership')
    .select((eb) => eb.fn.countAll<number>().as('count'))
    .where('team_id', '=', teamId)
    .executeTakeFirstOrThrow()
  return count
}

export async function isMemberByEmail(sql: Sql, teamId: string, emailAddress: string): Promise<boolean> {
  const rows = await Sql.db(sql)
    .selectFrom('membership')
    .innerJoin('user_account', 'user_account.id', 'membership.user_id')
    .select('membership.user_id')
    .where('membership.team_id', '=', teamId)
    .where('user_account.email_address', '=', emailAddress)
    .execute()
  return rows.length > 0
}
