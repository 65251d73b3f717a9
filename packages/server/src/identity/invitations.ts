import { ApiError, type PageQuery } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import type { GivenRole } from '../model/roles.ts'
import type { Sql } from '../store/handle.ts'
import {
  countInvitations,
  deleteInvitation,
  findInvitedAddress,
  listInvitations,
  putInvitation,
  takeInvitation,
} from '../store/invitations.ts'
import { insertMember, isMemberByEmail } from '../store/teams.ts'
import { findUser } from '../store/users.ts'
import { actingRole, audit, type Context, notFound } from './context.ts'
import type { Actor, Invitation, Listed } from './identity.ts'
import { type AttemptLimiter, addressKey } from './limits.ts'
import { hashSecret, newSecret } from './secrets.ts'
import { normalizeEmail } from './sign-in.ts'
import type { Users } from './users.ts'

const INVITATION_MS = 7 * 24 * 3600 * 1000

/** Asking people into a team. An invitation is for one e-mail address; its token is handed over by whoever invites. */
export class Invitations {
  readonly #context: Context
  readonly #users: Users
  readonly #failuresByAddress: AttemptLimiter

  constructor(context: Context, users: Users, failuresByAddress: AttemptLimiter) {
    this.#context = context
    this.#users = users
    this.#failuresByAddress = failuresByAddress
  }

  async create(
    actor: Actor,
    emailAddress: string,
    invitationRole: GivenRole,
  ): Promise<{ id: string; invitationToken: string }> {
    const { store, now } = this.#context
    const { userId, teamId } = actor
    const email = normalizeEmail(emailAddress)
    const invitationToken = newSecret()
    const at = now()
    const invitation: Invitation = {
      id: uuidv7(),
      emailAddress: email,
      invitationRole,
      invitedByUserId: userId,
      createdAt: at,
      expiresAt: at + INVITATION_MS,
    }
    await store.transaction(async (sql) => {
      await actingRole(sql, actor, 'admin')
      if (await isMemberByEmail(sql, teamId, email)) throw alreadyMember()
      await putInvitation(sql, teamId, hashSecret(invitationToken), invitation)
      const detail = { role: invitationRole }
      await audit(sql, at, { userId, teamId, action: 'invitation.created', subject: invitation.id, detail })
    })
    return { id: invitation.id, invitationToken }
  }

  async list({ teamId }: Actor, page: PageQuery): Promise<Listed<Invitation>> {
    const { store, now } = this.#context
    const at = now()
    return {
      rows: await listInvitations(store, teamId, at, page),
      totalCount: await countInvitations(store, teamId, at),
    }
  }

  async delete({ userId, teamId }: Actor, id: string): Promise<void> {
    const { store, now } = this.#context
    await store.transaction(async (sql) => {
      if (!(await deleteInvitation(sql, teamId, id))) throw notFound('invitation')
      await audit(sql, now(), { userId, teamId, action: 'invitation.withdrawn', subject: id })
    })
  }

  async accept(userId: string, invitationToken: string): Promise<void> {
    const { store } = this.#context
    const user = await findUser(store, userId)
    if (user === undefined) throw noSuchInvitation()
    const joined = await store.transaction((sql) => this.#join(sql, userId, user.emailAddress, invitationToken))
    if (!joined) throw alreadyMember()
  }

  async register(
    invitationToken: string,
    displayName: string,
    userPassword: string,
    address: string,
  ): Promise<{ id: string }> {
    const { store, now } = this.#context
    const emailAddress = await findInvitedAddress(store, hashSecret(invitationToken), now())
    if (emailAddress === undefined) {
      this.#failuresByAddress.take(addressKey(address))
      throw noSuchInvitation()
    }
    const user = await this.#users.prepare({ emailAddress, userPassword, displayName })
    await store.transaction(async (sql) => {
      await this.#users.insert(sql, user)
      await this.#join(sql, user.id, emailAddress, invitationToken)
    })
    return { id: user.id }
  }

  /** False when the person is in the team already; the invitation is used up either way. */
  async #join(sql: Sql, userId: string, emailAddress: string, invitationToken: string): Promise<boolean> {
    const now = this.#context.now()
    const invitation = await takeInvitation(sql, { tokenHash: hashSecret(invitationToken), emailAddress, now })
    if (invitation === undefined) throw noSuchInvitation()
    const { teamId, invitationRole: role } = invitation
    const joined = await insertMember(sql, { teamId, userId, role, joinedAt: now })
    if (joined) await audit(sql, now, { userId, teamId, action: 'member.joined', subject: userId, detail: { role } })
    return joined
  }
}

function noSuchInvitation(): ApiError {
  return new ApiError('not_found', 'There is no such invitation for you; it may have expired. Ask for a new one.')
}

function alreadyMember(): ApiError {
  return new ApiError('already_member', 'This person is in the team already.')
}
