import type { CredentialKind, PageQuery, Role } from '@cyberun/api'
import type { GivenRole } from '../model/roles.ts'
import type { AuditRecord } from '../store/audit.ts'

/** Who a bearer secret belongs to. Read from the store at every call, so a revoked one is refused at once. */
export type Caller = { kind: 'user'; userId: string; familyId: string } | KeyCaller

/** The holder of a key. */
export interface KeyCaller {
  kind: CredentialKind
  userId: string
  teamId: string
  credentialId: string
  /** In that team, when the key was read; undefined for somebody who has left it. */
  role: Role | undefined
  /** As an earlier call read it: whoever acts on it has the store look whether the key still is so (decision 58). */
  isRecalled?: true
}

/** Somebody acting in a team, with the role they have there now. */
export interface Actor {
  userId: string
  teamId: string
  role: Role
}

export interface TokenPair {
  accessToken: string
  refreshToken: string
  /** Seconds until the access token expires. */
  expiresInSeconds: number
}

export interface TeamMembership {
  id: string
  displayName: string
  role: Role
}

export interface UserProfile {
  id: string
  emailAddress: string
  firstName: string
  lastName: string
  displayName: string
  teams: TeamMembership[]
}

export interface Member {
  userId: string
  emailAddress: string
  firstName: string
  lastName: string
  displayName: string
  role: Role
  /** Milliseconds since 1970, as every time here. */
  joinedAt: number
}

export interface Invitation {
  id: string
  emailAddress: string
  invitationRole: GivenRole
  invitedByUserId: string
  createdAt: number
  expiresAt: number
}

export interface Credential {
  id: string
  kind: CredentialKind
  displayName: string
  keyPrefix: string
  userId: string
  keyStatus: 'active' | 'revoked' | 'expired'
  createdAt: number
  lastUsedAt: number | null
  expiresAt: number | null
}

/** `rawKey` exists here only; the store has its hash. */
export interface NewCredential {
  id: string
  kind: CredentialKind
  keyPrefix: string
  rawKey: string
}

export interface PairingCodes {
  deviceCode: string
  /** `XXXX-XXXX`. */
  userCode: string
  expiresInSeconds: number
  intervalSeconds: number
}

export type PairingState = { status: 'pending' } | { status: 'approved'; rawKey: string; agentKey: string }

/** What a person gives to have an account made. */
export interface NewUser {
  emailAddress: string
  userPassword: string
  displayName: string
}

export interface Listed<T> {
  rows: T[]
  totalCount: number
}

/**
 * Users, teams, keys and who may do what. Every method throws `ApiError` and nothing else for what a caller can do
 * wrong; what is unknown and what belongs to another team is the same `not_found`. `address` is the caller's IP
 * address, for the limits on guessing.
 *
 * The least role of a call is checked before it comes here (`routes` of `@cyberun/api`); rules that depend on the
 * object too are checked here, in the transaction that writes.
 */
export interface Identity {
  /**
   * Finds whose this JWT or key is. Throws `unauthenticated`; after too many failures from `address`, `rate_limited`.
   * What is right is never refused: guessing 256 bits is hopeless, and others may share the address.
   */
  authenticate(bearer: string, address: string): Promise<Caller>
  /** Whose key this was within the last minute, without asking the store: it may have been revoked since. */
  recall(bearer: string): KeyCaller | undefined
  /** The role somebody has in a team now; undefined for a stranger and for a team that does not exist. */
  roleIn(userId: string, teamId: string): Promise<Role | undefined>

  login(emailAddress: string, userPassword: string, address: string): Promise<TokenPair>
  refresh(refreshToken: string, address: string): Promise<TokenPair>
  /** Ends every sign-in of the user, this one too: whoever else knew the password is out. */
  changePassword(userId: string, currentPassword: string, newPassword: string): Promise<void>
  me(userId: string): Promise<UserProfile>

  createTeam(userId: string, displayName: string): Promise<{ id: string }>
  listTeams(userId: string, page: PageQuery): Promise<Listed<TeamMembership>>
  updateTeam(actor: Actor, displayName: string): Promise<void>
  deleteTeam(actor: Actor): Promise<void>
  transferTeam(actor: Actor, newOwnerId: string): Promise<void>

  listMembers(actor: Actor, page: PageQuery): Promise<Listed<Member>>
  updateMember(actor: Actor, userId: string, role: GivenRole): Promise<void>
  /** Also how somebody leaves. Their keys of this team are revoked. */
  removeMember(actor: Actor, userId: string): Promise<void>

  createInvitation(
    actor: Actor,
    emailAddress: string,
    invitationRole: GivenRole,
  ): Promise<{ id: string; invitationToken: string }>
  listInvitations(actor: Actor, page: PageQuery): Promise<Listed<Invitation>>
  deleteInvitation(actor: Actor, id: string): Promise<void>
  /** The invitation must be for the user's e-mail address. */
  acceptInvitation(userId: string, invitationToken: string): Promise<void>
  /**
   * Makes the account of the address the invitation is for, and joins. Throws `not_found` for a token that is unknown
   * or expired, and `conflict` when the address has an account: its owner signs in and accepts.
   */
  registerByInvitation(
    invitationToken: string,
    displayName: string,
    userPassword: string,
    address: string,
  ): Promise<{ id: string }>

  createCredential(
    actor: Actor,
    credential: { kind: 'integration' | 'agent'; displayName: string; expiresInDays?: number | undefined },
  ): Promise<NewCredential>
  listCredentials(actor: Actor, kind: CredentialKind | undefined, page: PageQuery): Promise<Listed<Credential>>
  revokeCredential(actor: Actor, id: string): Promise<void>

  /** What was done in the team, newest first; of one action when it is named. */
  listAudit(actor: Actor, action: string | undefined, page: PageQuery): Promise<Listed<AuditRecord>>

  startPairing(address: string): Promise<PairingCodes>
  pollPairing(deviceCode: string, address: string): Promise<PairingState>
  /** Lets the device in as its confirmer, who must be allowed to make keys when the device fetches them. */
  confirmPairing(actor: Actor, userCode: string, deviceName: string | undefined): Promise<void>
  /** The device gives itself up, with the agent key made with it. */
  revokeDevice(device: { credentialId: string; teamId: string }): Promise<void>

  /** The public keys that verify our JWTs (RFC 7517). */
  jwks(): { keys: Record<string, unknown>[] }
  /** Signs with a new key from now on; tokens of the old one are good until they expire. */
  rotateSigningKey(): Promise<void>

  /** Makes an account, for the operator: there is no open sign-up. Throws `conflict` when the address has one. */
  createUser(user: NewUser): Promise<{ id: string }>
  /**
   * On a store without users: the first one, with a team and a password that is shown once. Else undefined. `keep` is
   * told before the user is stored, so that no kill comes between a stored user and its password.
   */
  bootstrap(emailAddress: string, keep?: KeepFirstUser): Promise<FirstUser | undefined>

  /** Stops the sweep of expired keys. */
  stop(): Promise<void>
}

export interface FirstUser {
  userId: string
  teamId: string
  emailAddress: string
  userPassword: string
}

/** Keeps the first user's password until it has been shown. The user may yet fail to be stored. */
export type KeepFirstUser = (user: FirstUser) => Promise<void>
