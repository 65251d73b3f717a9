import { ApiError, type PageQuery } from '@cyberun/api'
import { uuidv7 } from 'uuidv7'
import { type GivenRole, mayWork, removalOf } from '../model/roles.ts'
import { liveCredentialIds, revokeCredentialsOf } from '../store/credentials.ts'
import { deleteTeamTasks } from '../store/tasks.ts'
import {
  countMembers,
  countTeamsOf,
  deleteMember,
  deleteTeam,
  insertMember,
  insertTeam,
  listMembers,
  listTeamsOf,
  lockRole,
  renameTeam,
  roleOf,
  setRole,
} from '../store/teams.ts'
import { actingRole, audit, type Context, notFound, publishEnded } from './context.ts'
import type { Actor, Listed, Member, TeamMembership } from './identity.ts'

/** Teams and who is in them. */
export class Teams {
  readonly #context: Context

  constructor(context: Context) {
    this.#context = context
  }

  async create(userId: string, displayName: string): Promise<{ id: string }> {
    const teamId = uuidv7()
    const at = this.#context.now()
    await this.#context.store.transaction(async (sql) => {
      await insertTeam(sql, { id: teamId, displayName, createdAt: at })
      await insertMember(sql, { teamId, userId, role: 'owner', joinedAt: at })
      await audit(sql, at, { userId, teamId, action: 'team.created', subject: teamId })
    })
    return { id: teamId }
  }

  async list(userId: string, page: PageQuery): Promise<Listed<TeamMembership>> {
    const { store } = this.#context
    return { rows: await listTeamsOf(store, userId, page), totalCount: await countTeamsOf(store, userId) }
  }

  async update({ teamId }: Actor, displayName: string): Promise<void> {
    await renameTeam(this.#context.store, teamId, displayName)
  }

  async delete({ userId, teamId }: Actor): Promise<void> {
    const { store, bus, now } = this.#context
    if ((await roleOf(store, teamId, userId)) !== 'owner') throw onlyOwner()
    // Before the rest, which is one transaction.
    await deleteTeamTasks(store, teamId)
    const revoked = await store.transaction(async (sql) => {
      if ((await lockRole(sql, teamId, userId)) !== 'owner') throw onlyOwner()
      const ids = await liveCredentialIds(sql, teamId)
      await deleteTeam(sql, teamId)
      await audit(sql, now(), { userId, teamId, action: 'team.deleted', subject: teamId })
      return ids
    })
    bus.publish('team.deleted', { teamId })
    publishEnded(this.#context, revoked)
  }

  async transfer({ userId, teamId }: Actor, newOwnerId: string): Promise<void> {
    const { store, now } = this.#context
    await store.transaction(async (sql) => {
      if ((await lockRole(sql, teamId, userId)) !== 'owner') throw onlyOwner()
      if ((await lockRole(sql, teamId, newOwnerId)) === undefined) throw notFound('member')
      await setRole(sql, teamId, userId, 'admin') // first: a team has one owner at any time
      await setRole(sql, teamId, newOwnerId, 'owner')
      await audit(sql, now(), { userId, teamId, action: 'team.transferred', subject: newOwnerId })
    })
  }

  async listMembers({ teamId }: Actor, page: PageQuery): Promise<Listed<Member>> {
    const { store } = this.#context
    return { rows: await listMembers(store, teamId, page), totalCount: await countMembers(store, teamId) }
  }

  async updateMember(actor: Actor, userId: string, role: GivenRole): Promise<void> {
    const { store, bus, now } = this.#context
    const { teamId } = actor
    const before = await store.transaction(async (sql) => {
      await actingRole(sql, actor, 'admin')
      const current = await lockRole(sql, teamId, userId)
      if (current === undefined) throw notFound('member')
      if (current === 'owner') throw ownerStays()
      await setRole(sql, teamId, userId, role)
      const detail = { from: current, to: role }
      await audit(sql, now(), { userId: actor.userId, teamId, action: 'member.updated', subject: userId, detail })
      return current
    })
    if (mayWork(before) && !mayWork(role)) bus.publish('member.removed', { teamId, userId })
  }

  async removeMember(actor: Actor, userId: string): Promise<void> {
    const { store, bus, now } = this.#context
    const { teamId } = actor
    const revoked = await store.transaction(async (sql) => {
      const actorRole = await actingRole(sql, actor, 'viewer')
      const role = await lockRole(sql, teamId, userId)
      if (role === undefined) throw notFound('member')
      const removal = removalOf({ userId: actor.userId, role: actorRole }, { userId, role })
      if (removal === 'forbidden') throw new ApiError('forbidden', 'Only an admin or the owner can remove others.')
      if (removal === 'is_owner') throw ownerStays()
      await deleteMember(sql, teamId, userId)
      await audit(sql, now(), { userId: actor.userId, teamId, action: 'member.removed', subject: userId })
      return revokeCredentialsOf(sql, teamId, userId, now())
    })
    bus.publish('member.removed', { teamId, userId })
    publishEnded(this.#context, revoked)
  }
}

function onlyOwner(): ApiError {
  return new ApiError('forbidden', 'Only the owner of the team can do this.')
}

function ownerStays(): ApiError {
  return new ApiError('conflict', 'This is the owner of the team; transfer the team to somebody else first.')
}
