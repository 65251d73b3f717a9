import type { AgentView, PageQuery, RouteName } from '@cyberun/api'
import type { Actor, Caller, Identity } from '../identity/identity.ts'
import type { HandlersOf } from './call.ts'
import type { AgentsPort, InspectorsPort, TunnelOpener, TunnelsPort } from './ports.ts'
import { notFound } from './request.ts'
import { createTaskHandlers, type TaskHandlerParts } from './task-handlers.ts'
import {
  auditView,
  credentialView,
  invitationView,
  memberView,
  pageMeta,
  pageOf,
  pairingView,
  teamView,
  tokensView,
  userView,
} from './views.ts'

/** What a route calls. */
export interface HandlerParts extends TaskHandlerParts {
  identity: Identity
  agents: AgentsPort
  tunnels: TunnelsPort
  inspectors: InspectorsPort
  /** Where a person confirms a pairing. */
  verificationUri(): string
}

const SUCCESS = { is_success: true } as const

/** One handler for each row of the route table: it makes one call and renders what came back. */
export function createHandlers(parts: HandlerParts): HandlersOf<RouteName> {
  const { identity, agents, tunnels, inspectors, tasks, verificationUri } = parts
  const listAgents = ({ actor, query }: { actor: Actor; query: PageQuery }) => agentList(agents, actor.teamId, query)
  return {
    'POST /auth/login': async ({ body, address }) =>
      tokensView(await identity.login(body.email_address, body.user_password, address)),
    'POST /auth/refresh': async ({ body, address }) => tokensView(await identity.refresh(body.refresh_token, address)),
    'GET /users/me': async ({ caller }) => userView(await identity.me(caller.userId)),
    'PUT /users/me/password': async ({ caller, body }) => {
      await identity.changePassword(caller.userId, body.current_password, body.new_password)
      return SUCCESS
    },

    'POST /teams': ({ caller, body }) => identity.createTeam(caller.userId, body.display_name),
    'GET /teams': async ({ caller, query }) => {
      const listed = await identity.listTeams(caller.userId, query)
      return { team_list: listed.rows.map(teamView), page_meta: pageMeta(query, listed) }
    },
    'PUT /teams/current': async ({ actor, body }) => {
      await identity.updateTeam(actor, body.display_name)
      return { id: actor.teamId }
    },
    'DELETE /teams/current': async ({ actor }) => {
      await tasks.endTeam(actor.teamId)
      await identity.deleteTeam(actor)
      return undefined
    },
    'POST /teams/current/transfer': async ({ actor, body }) => {
      await identity.transferTeam(actor, body.new_owner_id)
      return SUCCESS
    },
    'GET /members': async ({ actor, query }) => {
      const listed = await identity.listMembers(actor, query)
      return { member_list: listed.rows.map(memberView), page_meta: pageMeta(query, listed) }
    },
    'PUT /members/{userId}': async ({ actor, params, body }) => {
      await identity.updateMember(actor, params.userId, body.role)
      return { id: params.userId }
    },
    'DELETE /members/{userId}': async ({ actor, params }) => {
      await identity.removeMember(actor, params.userId)
      return undefined
    },
    'GET /invitations': async ({ actor, query }) => {
      const listed = await identity.listInvitations(actor, query)
      return { invitation_list: listed.rows.map(invitationView), page_meta: pageMeta(query, listed) }
    },
    'POST /invitations': async ({ actor, body }) => {
      const made = await identity.createInvitation(actor, body.email_address, body.invitation_role)
      return { id: made.id, invitation_token: made.invitationToken }
    },
    'DELETE /invitations/{id}': async ({ actor, params }) => {
      await identity.deleteInvitation(actor, params.id)
      return undefined
    },
    'POST /invitations/accept': async ({ caller, body }) => {
      await identity.acceptInvitation(caller.userId, body.invitation_token)
      return SUCCESS
    },
    'POST /invitations/register': ({ body, address }) =>
      identity.registerByInvitation(body.invitation_token, body.display_name, body.user_password, address),

    'GET /audit': async ({ actor, query: { action, ...page } }) => {
      const listed = await identity.listAudit(actor, action, page)
      return { audit_list: listed.rows.map(auditView), page_meta: pageMeta(page, listed) }
    },

    'GET /credentials': async ({ actor, query: { kind, ...page } }) => {
      const listed = await identity.listCredentials(actor, kind, page)
      return { credentials: listed.rows.map(credentialView), page_meta: pageMeta(page, listed) }
    },
    'POST /credentials': async ({ actor, body }) => {
      const made = await identity.createCredential(actor, {
        kind: body.kind,
        displayName: body.display_name,
        expiresInDays: body.expires_in_days,
      })
      return { id: made.id, kind: made.kind, key_prefix: made.keyPrefix, raw_key: made.rawKey }
    },
    'DELETE /credentials/{id}': async ({ actor, params }) => {
      await identity.revokeCredential(actor, params.id)
      return undefined
    },

    'POST /desktop/pair/start': async ({ address }) => {
      const codes = await identity.startPairing(address)
      return {
        device_code: codes.deviceCode,
        user_code: codes.userCode,
        verification_uri: verificationUri(),
        expires_in: codes.expiresInSeconds,
        interval: codes.intervalSeconds,
      }
    },
    'POST /desktop/pair/poll': async ({ body, address }) =>
      pairingView(await identity.pollPairing(body.device_code, address)),
    'POST /desktop/pair/confirm': async ({ actor, body }) => {
      await identity.confirmPairing(actor, body.user_code, body.device_name)
      return SUCCESS
    },
    'POST /auth/device/revoke': async ({ caller }) => {
      await identity.revokeDevice(caller)
      return SUCCESS
    },

    'GET /agents': listAgents,
    'GET /r/agents': listAgents,
    'GET /agents/{agentId}': ({ actor, params }) => {
      const agent = agents.get(actor.teamId, params.agentId)
      if (!agent) throw notFound()
      return agent
    },

    'POST /agents/{agentId}/tunnel': ({ caller, actor, params, body, signal }) =>
      tunnels.open(openerOf(caller), actor.teamId, params.agentId, body, signal),
    'GET /agents/{agentId}/tunnel': ({ actor, params }) => tunnels.list(actor.teamId, params.agentId),
    'DELETE /agents/{agentId}/tunnel': async ({ caller, actor, params, query }) => {
      await tunnels.close(openerOf(caller), actor.teamId, params.agentId, query.session_id)
      return undefined
    },
    'PATCH /agents/{agentId}/tunnel/{sessionId}': ({ caller, actor, params, body }) =>
      tunnels.extend(openerOf(caller), actor.teamId, params.agentId, params.sessionId, body),
    'POST /agents/{agentId}/tunnel/{sessionId}/revoke': ({ caller, actor, params }) =>
      tunnels.revoke(openerOf(caller), actor.teamId, params.agentId, params.sessionId),
    'PUT /agents/{agentId}/tunnel/{sessionId}/inspector': ({ caller, actor, params, body }) =>
      inspectors.set(openerOf(caller), { ...params, teamId: actor.teamId }, body),
    'GET /agents/{agentId}/tunnel/{sessionId}/inspector': ({ actor, params, query }) =>
      inspectors.list({ ...params, teamId: actor.teamId }, query),
    'GET /agents/{agentId}/tunnel/{sessionId}/inspector/{number}': ({ actor, params }) =>
      inspectors.show({ ...params, teamId: actor.teamId }, params.number),
    'POST /agents/{agentId}/tunnel/{sessionId}/inspector/{number}/replay': ({ caller, actor, params, signal }) =>
      inspectors.replay(openerOf(caller), { ...params, teamId: actor.teamId }, params.number, signal),
    ...createTaskHandlers(parts),
  }
}

function agentList(agents: AgentsPort, teamId: string, page: PageQuery) {
  const all: AgentView[] = agents.list(teamId).toSorted((a, b) => (a.agent_id < b.agent_id ? -1 : 1))
  const listed = pageOf(all, page)
  return { agent_list: listed.rows, page_meta: pageMeta(page, listed) }
}

/** What a tunnel ends with: the key that opened it, or the sign-in. */
function openerOf(caller: Caller): TunnelOpener {
  return caller.kind === 'user'
    ? { userId: caller.userId, familyId: caller.familyId }
    : { userId: caller.userId, credentialId: caller.credentialId }
}
