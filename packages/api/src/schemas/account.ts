import { z } from 'zod'
import { Id, oneLine, PageMeta, PageQuery, Time } from './common.ts'

/** Sign-in, users, teams, members, invitations and the audit. */

/** What somebody may do in a team; `owner` is one person, and is only ever reached by transfer. */
export const ROLES = ['viewer', 'member', 'admin', 'owner'] as const
export type Role = (typeof ROLES)[number]
export const RoleSchema = z.enum(ROLES)
const GivenRole = z.enum(['admin', 'member', 'viewer'])

/** As browsers take them: a host name without a dot too, as that of the first user, `admin@localhost`. */
const EmailAddress = z.email({ pattern: z.regexes.html5Email }).max(254)
const NewPassword = z.string().min(8).max(128)
const OpaqueToken = z.string().min(1).max(512)

export const LoginBody = z.object({
  email_address: z.string().min(1).max(254),
  user_password: z.string().min(1).max(128),
})
export const RefreshBody = z.object({ refresh_token: OpaqueToken })
export const TokenAnswer = z
  .object({
    access_token: z.string(),
    refresh_token: z.string(),
    expires_in: z.int().positive().describe('Seconds the access token is good for.'),
  })
  .meta({ id: 'Tokens' })

export const TeamView = z.object({ id: Id, display_name: z.string(), role: RoleSchema }).meta({ id: 'Team' })
export const UserAnswer = z
  .object({
    id: Id,
    first_name: z.string(),
    last_name: z.string(),
    display_name: z.string(),
    email_address: z.string(),
    team_list: z.array(TeamView),
    feature_flags: z.record(z.string(), z.boolean()),
  })
  .meta({ id: 'User' })
export const PasswordBody = z.object({ current_password: z.string().min(1).max(128), new_password: NewPassword })

export const TeamBody = z.object({ display_name: oneLine(100) })
export const TeamListAnswer = z.object({ team_list: z.array(TeamView), page_meta: PageMeta })
export const TransferBody = z.object({ new_owner_id: Id })

export const MemberParams = z.object({ userId: Id })
export const MemberBody = z.object({ role: GivenRole })
export const MemberView = z
  .object({
    user_id: Id,
    email_address: z.string(),
    first_name: z.string(),
    last_name: z.string(),
    display_name: z.string(),
    role: RoleSchema,
    joined_at: Time,
  })
  .meta({ id: 'Member' })
export const MemberListAnswer = z.object({ member_list: z.array(MemberView), page_meta: PageMeta })

export const InvitationParams = z.object({ id: Id })
export const InvitationBody = z.object({ email_address: EmailAddress, invitation_role: GivenRole })
export const InvitationView = z
  .object({
    id: Id,
    email_address: z.string(),
    invitation_role: GivenRole,
    invited_by: Id,
    created_at: Time,
    expires_at: Time,
  })
  .meta({ id: 'Invitation' })
export const InvitationListAnswer = z.object({ invitation_list: z.array(InvitationView), page_meta: PageMeta })
/** The token is shown once, here, because a server without mail has no other way to hand it over. */
export const InvitationAnswer = z.object({ id: Id, invitation_token: z.string() }).meta({ id: 'NewInvitation' })
export const AcceptInvitationBody = z.object({ invitation_token: OpaqueToken })
/** Whoever holds the token may make the account of the address it was issued for. */
export const RegisterBody = z.object({
  invitation_token: OpaqueToken,
  display_name: oneLine(100),
  user_password: NewPassword,
})

export const AuditQuery = PageQuery.extend({
  action: z.string().min(1).max(64).optional().describe('Only records of this action, such as `terminal.opened`.'),
})
export const AuditRecordView = z
  .object({
    id: Id,
    created_at: Time,
    actor: z.string().describe('`user:<id>`, `credential:<id>`, `tunnel:<session id>` (its admin token) or `server`.'),
    action: z.string(),
    subject: z.string().describe('The id of what it was done to.'),
    detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  })
  .meta({ id: 'AuditRecord' })
export const AuditListAnswer = z.object({ audit_list: z.array(AuditRecordView), page_meta: PageMeta })
