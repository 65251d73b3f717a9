import type { z } from 'zod'
import type { ErrorCode } from './errors.ts'
import * as account from './schemas/account.ts'
import * as agents from './schemas/agents.ts'
import { IdAnswer, PageQuery, SuccessAnswer } from './schemas/common.ts'
import * as credentials from './schemas/credentials.ts'
import * as tunnels from './schemas/tunnels.ts'

/** Who holds the bearer secret of a call. An `ak-` key is no caller here: every REST call refuses it. */
export type CallerKind = 'user' | 'integration' | 'device'

/** One call of the API. The key of the table is its method and its path under `/api/v1`. */
export interface RouteSpec {
  tag: 'account' | 'teams' | 'credentials' | 'devices' | 'agents' | 'tunnels'
  summary: string
  callers: 'anyone' | readonly CallerKind[]
  /** The least role in the team. Absent: the call is not about one team. */
  role?: account.Role
  params?: z.ZodObject
  query?: z.ZodObject
  body?: z.ZodObject
  /** Absent: 204, no body. */
  answer?: z.ZodType
  /** 201 for calls that create something; 200 unless said, 204 without an answer. */
  status?: 201
  /** What this call can meet beside the errors that follow from its shape. */
  errors?: readonly ErrorCode[]
}

const USER = ['user'] as const
const USER_OR_DEVICE = ['user', 'device'] as const
const ANY_KEY = ['user', 'integration', 'device'] as const

/** The whole API: the public API of Cyberun Cloud, and what we add to it. */
export const routes = {
  'POST /auth/login': {
    tag: 'account',
    summary: 'Sign in with e-mail address and password.',
    callers: 'anyone',
    body: account.LoginBody,
    answer: account.TokenAnswer,
    errors: ['unauthenticated', 'rate_limited'],
  },
  'POST /auth/refresh': {
    tag: 'account',
    summary: 'Swap a refresh token for a new pair. A token used twice ends the whole sign-in.',
    callers: 'anyone',
    body: account.RefreshBody,
    answer: account.TokenAnswer,
    errors: ['unauthenticated', 'rate_limited'],
  },
  'GET /users/me': {
    tag: 'account',
    summary: 'The user behind this call, with teams and roles.',
    callers: USER_OR_DEVICE,
    answer: account.UserAnswer,
  },
  'PUT /users/me/password': {
    tag: 'account',
    summary: 'Change the password. Every sign-in of the user ends, this one too.',
    callers: USER,
    body: account.PasswordBody,
    answer: SuccessAnswer,
    errors: ['rate_limited'],
  },

  'POST /teams': {
    tag: 'teams',
    summary: 'Create a team; the caller becomes its owner.',
    callers: USER,
    body: account.TeamBody,
    answer: IdAnswer,
    status: 201,
  },
  'GET /teams': {
    tag: 'teams',
    summary: 'The teams of the caller.',
    callers: USER_OR_DEVICE,
    query: PageQuery,
    answer: account.TeamListAnswer,
  },
  'PUT /teams/current': {
    tag: 'teams',
    summary: 'Rename the team.',
    callers: USER_OR_DEVICE,
    role: 'admin',
    body: account.TeamBody,
    answer: IdAnswer,
  },
  'DELETE /teams/current': {
    tag: 'teams',
    summary: 'Delete the team: its tunnels end and its keys are revoked.',
    callers: USER_OR_DEVICE,
    role: 'owner',
  },
  'POST /teams/current/transfer': {
    tag: 'teams',
    summary: 'Make another member the owner; the caller becomes an admin.',
    callers: USER_OR_DEVICE,
    role: 'owner',
    body: account.TransferBody,
    answer: SuccessAnswer,
  },
  'GET /members': {
    tag: 'teams',
    summary: 'Who is in the team.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    query: PageQuery,
    answer: account.MemberListAnswer,
  },
  'PUT /members/{userId}': {
    tag: 'teams',
    summary: "Change a member's role.",
    callers: USER_OR_DEVICE,
    role: 'admin',
    params: account.MemberParams,
    body: account.MemberBody,
    answer: IdAnswer,
  },
  'DELETE /members/{userId}': {
    tag: 'teams',
    summary: 'Remove a member, or leave the team. Keys and tunnels of that person in the team end.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    params: account.MemberParams,
  },
  'GET /invitations': {
    tag: 'teams',
    summary: 'Open invitations.',
    callers: USER_OR_DEVICE,
    role: 'viewer',
    query: PageQuery,
    answer: account.InvitationListAnswer,
  },
  'POST /invitations': {
    tag: 'teams',
    summary: 'Invite somebody by e-mail address. The token is shown once.',
    callers: USER_OR_DEVICE,
    role: 'admin',
    body: account.InvitationBody,
    answer: account.InvitationAnswer,
    status: 201,
    errors: ['already_member'],
  },
  'DELETE /invitations/{id}': {
    tag: 'teams',
    summary: 'Withdraw an invitation.',
    callers: USER_OR_DEVICE,
    role: 'admin',
    params: account.InvitationParams,
  },
  'POST /invitations/accept': {
    tag: 'teams',
    summary: 'Join the team one was invited to.',
    callers: USER,
    body: account.AcceptInvitationBody,
    answer: SuccessAnswer,
    errors: ['not_found', 'already_member'],
  },
  'POST /invitations/register': {
    tag: 'teams',
    summary: 'Join with an invitation and a new account for the address it was sent to.',
    callers: 'anyone',
    body: account.RegisterBody,
    answer: IdAnswer,
    status: 201,
    errors: ['not_found', 'conflict', 'rate_limited'],
  },

  'GET /credentials': {
    tag: 'credentials',
    summary: 'The keys of the team, never the secrets.',
    callers: USER,
    role: 'viewer',
    query: credentials.CredentialQuery,
    answer: credentials.CredentialListAnswer,
  },
  'POST /credentials': {
    tag: 'credentials',
    summary: 'Create an integration key (sk-) or an agent key (ak-). The key is shown once.',
    callers: USER,
    role: 'member',
    body: credentials.CredentialBody,
    answer: credentials.NewCredentialAnswer,
    status: 201,
  },
  'DELETE /credentials/{id}': {
    tag: 'credentials',
    summary: 'Revoke a key for good. Whatever it holds open is closed within a second.',
    callers: USER,
    role: 'member',
    params: credentials.CredentialParams,
  },

  'POST /desktop/pair/start': {
    tag: 'devices',
    summary: 'Ask for a code that a signed-in user confirms.',
    callers: 'anyone',
    answer: credentials.PairStartAnswer,
    errors: ['rate_limited'],
  },
  'POST /desktop/pair/poll': {
    tag: 'devices',
    summary: 'Ask whether the code was confirmed. The keys are handed out once, then the code is unknown.',
    callers: 'anyone',
    body: credentials.PairPollBody,
    answer: credentials.PairPollAnswer,
    errors: ['not_found', 'rate_limited'],
  },
  'POST /desktop/pair/confirm': {
    tag: 'devices',
    summary: 'Confirm the code a device shows. Case, dash and spaces do not matter.',
    callers: USER,
    role: 'member',
    body: credentials.PairConfirmBody,
    answer: SuccessAnswer,
    errors: ['rate_limited'],
  },
  'POST /auth/device/revoke': {
    tag: 'devices',
    summary: 'The device gives up its own key and the agent key made with it.',
    callers: ['device'],
    answer: SuccessAnswer,
  },

  'GET /agents': {
    tag: 'agents',
    summary: 'The agents of the team that are connected now.',
    callers: ANY_KEY,
    role: 'viewer',
    query: PageQuery,
    answer: agents.AgentListAnswer,
  },
  'GET /r/agents': {
    tag: 'agents',
    summary: 'The agents of the team that are connected now.',
    callers: ANY_KEY,
    role: 'viewer',
    query: PageQuery,
    answer: agents.AgentListAnswer,
  },
  'GET /agents/{agentId}': {
    tag: 'agents',
    summary: 'One connected agent.',
    callers: ANY_KEY,
    role: 'viewer',
    params: agents.AgentParams,
    answer: agents.AgentView,
  },

  'POST /agents/{agentId}/tunnel': {
    tag: 'tunnels',
    summary: "Open a tunnel to a port of the agent's machine.",
    callers: ANY_KEY,
    role: 'member',
    params: agents.AgentParams,
    body: tunnels.OpenTunnelBody,
    answer: tunnels.OpenedTunnel,
    status: 201,
    errors: ['agent_offline', 'conflict', 'target_refused', 'port_not_allowed', 'unavailable', 'timeout'],
  },
  'GET /agents/{agentId}/tunnel': {
    tag: 'tunnels',
    summary: 'The tunnels open to this agent.',
    callers: ANY_KEY,
    role: 'viewer',
    params: agents.AgentParams,
    answer: tunnels.TunnelListAnswer,
  },
  'DELETE /agents/{agentId}/tunnel': {
    tag: 'tunnels',
    summary: 'Close one tunnel, or all of them.',
    callers: ANY_KEY,
    role: 'member',
    params: agents.AgentParams,
    query: tunnels.CloseTunnelQuery,
  },
} as const satisfies Record<`${'GET' | 'POST' | 'PUT' | 'DELETE'} /${string}`, RouteSpec>

export type Routes = typeof routes
/** `POST /auth/login`: method and path under `/api/v1`. */
export type RouteName = keyof Routes
