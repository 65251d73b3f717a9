import type { PageQuery } from '@cyberun/api'
import type {
  Credential,
  Invitation,
  Listed,
  Member,
  PairingState,
  TeamMembership,
  TokenPair,
  UserProfile,
} from '../identity/identity.ts'
import type { AuditRecord } from '../store/audit.ts'

/** What identity knows, in the words of the API. */

const time = (ms: number): string => new Date(ms).toISOString()
const timeOrNull = (ms: number | null): string | null => (ms === null ? null : time(ms))

export const tokensView = (pair: TokenPair) => ({
  access_token: pair.accessToken,
  refresh_token: pair.refreshToken,
  expires_in: pair.expiresInSeconds,
})

export const teamView = (team: TeamMembership) => ({ id: team.id, display_name: team.displayName, role: team.role })

export const userView = (user: UserProfile) => ({
  id: user.id,
  first_name: user.firstName,
  last_name: user.lastName,
  display_name: user.displayName,
  email_address: user.emailAddress,
  team_list: user.teams.map(teamView),
  feature_flags: {},
})

export const memberView = (member: Member) => ({
  user_id: member.userId,
  email_address: member.emailAddress,
  first_name: member.firstName,
  last_name: member.lastName,
  display_name: member.displayName,
  role: member.role,
  joined_at: time(member.joinedAt),
})

export const invitationView = (invitation: Invitation) => ({
  id: invitation.id,
  email_address: invitation.emailAddress,
  invitation_role: invitation.invitationRole,
  invited_by: invitation.invitedByUserId,
  created_at: time(invitation.createdAt),
  expires_at: time(invitation.expiresAt),
})

export const auditView = (record: AuditRecord) => ({
  id: record.id,
  created_at: time(record.at),
  actor: record.actor,
  action: record.action,
  subject: record.subject,
  detail: record.detail,
})

export const credentialView = (credential: Credential) => ({
  id: credential.id,
  kind: credential.kind,
  display_name: credential.displayName,
  key_prefix: credential.keyPrefix,
  user_id: credential.userId,
  key_status: credential.keyStatus,
  created_at: time(credential.createdAt),
  last_used_at: timeOrNull(credential.lastUsedAt),
  expires_at: timeOrNull(credential.expiresAt),
})

export const pairingView = (state: PairingState) =>
  state.status === 'pending'
    ? { status: state.status }
    : { status: state.status, raw_key: state.rawKey, agent_key: state.agentKey }

/** `page_meta` of a list that the store has cut to the page already. */
export const pageMeta = (page: PageQuery, listed: Pick<Listed<unknown>, 'totalCount'>) => ({
  ...page,
  total_count: listed.totalCount,
})

/** One page of a list that is in memory as a whole. */
export function pageOf<T>(all: readonly T[], page: PageQuery): Listed<T> {
  const from = (page.current_page - 1) * page.per_page
  return { rows: all.slice(from, from + page.per_page), totalCount: all.length }
}
