import { ApiError, ROLES, type Role } from '@cyberun/api'

/** Who may do what in a team. Pure: the caller has read the roles in the same transaction. */

/** The roles that are given by invitation or by changing a member; `owner` only moves by transfer. */
export type GivenRole = Exclude<Role, 'owner'>

/** True when `role` may do everything that `least` may. */
export function atLeast(role: Role, least: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(least)
}

/** Throws unless whoever has `role` in a team, if any, may do everything that `least` may. */
export function requireRole(role: Role | undefined, least: Role): Role {
  if (role === undefined) throw new ApiError('not_found', 'There is no such team, or you are not in it.')
  if (atLeast(role, least)) return role
  throw new ApiError('forbidden', `This needs the role ${least} in the team; yours is ${role}.`)
}

/** Opening tunnels, running workflows, making keys. Below this a member only reads. */
export function mayWork(role: Role): boolean {
  return atLeast(role, 'member')
}

/** Everybody gives up their own keys; admin and owner anyone's. */
export function mayRevoke(actor: { userId: string; role: Role }, credential: { userId: string }): boolean {
  return credential.userId === actor.userId || atLeast(actor.role, 'admin')
}

/** Everybody may leave, admin and owner may remove others; the owner stays until the team is transferred. */
export function removalOf(
  actor: { userId: string; role: Role },
  member: { userId: string; role: Role },
): 'allowed' | 'forbidden' | 'is_owner' {
  if (member.userId !== actor.userId && !atLeast(actor.role, 'admin')) return 'forbidden'
  return member.role === 'owner' ? 'is_owner' : 'allowed'
}

/** A role as a row has it. Throws on anything that is not one: we wrote it, so that would be a bug. */
export function parseRole(raw: string): Role {
  const role = ROLES.find((known) => known === raw)
  if (role === undefined) throw new Error(`no such role in the store: ${raw}`)
  return role
}
