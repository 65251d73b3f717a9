import { ApiError } from '@cyberun/api'
import { parseKey } from '@cyberun/protocol'
import { countAuditRecords, listAuditRecords } from '../store/audit.ts'
import type { ServerSecret } from '../store/server-secret.ts'
import { userOfSignIn } from '../store/sign-ins.ts'
import { roleOf } from '../store/teams.ts'
import { AccessTokens } from './access-tokens.ts'
import type { Context } from './context.ts'
import { Credentials } from './credentials.ts'
import type { Caller, Identity } from './identity.ts'
import { Invitations } from './invitations.ts'
import { AttemptLimiter, type AttemptLimits, addressKey, DEFAULT_LIMITS } from './limits.ts'
import { Pairing } from './pairing.ts'
import { Passwords } from './passwords.ts'
import { SignIns } from './sign-in.ts'
import { startSweep } from './sweep.ts'
import { Teams } from './teams.ts'
import { Users } from './users.ts'

export interface IdentityOptions extends Context {
  /** Seals the keys that sign our JWTs. */
  secret: ServerSecret
  /** `iss` of our JWTs: the control URL. */
  issuer: string
  limits?: AttemptLimits
}

/** Builds identity on an open store: loads or makes the signing key and starts the sweep of expired keys. */
export async function createIdentity(options: IdentityOptions): Promise<Identity> {
  const { store, now, limits = DEFAULT_LIMITS } = options
  const failuresByAddress = new AttemptLimiter(limits.failuresPerAddress, now)
  const passwords = await Passwords.create()
  const tokens = await AccessTokens.open(options)
  const users = new Users(options, passwords)
  const teams = new Teams(options)
  const invitations = new Invitations(options, users, failuresByAddress)
  const credentials = new Credentials(options)
  const signIns = new SignIns(options, {
    passwords,
    tokens,
    loginsByAddress: new AttemptLimiter(limits.loginsPerAddress, now),
    loginsByAccount: new AttemptLimiter(limits.loginsPerAccount, now),
    failuresByAddress,
  })
  const pairing = new Pairing(options, credentials, {
    startsByAddress: new AttemptLimiter(limits.pairingsPerAddress, now),
    failuresByAddress,
    codesByUser: new AttemptLimiter(limits.codesPerUser, now),
  })
  const stopSweep = startSweep(options, tokens)

  async function callerOf(bearer: string): Promise<Caller | undefined> {
    if (parseKey(bearer) !== undefined) return credentials.callerOf(bearer)
    const claims = await tokens.verify(bearer)
    if (claims === undefined) return undefined
    const userId = await userOfSignIn(store, claims.familyId, now())
    return userId === claims.userId ? { kind: 'user', ...claims } : undefined
  }

  return {
    async authenticate(bearer, address) {
      const caller = await callerOf(bearer)
      if (caller !== undefined) return caller
      failuresByAddress.take(addressKey(address))
      throw new ApiError('unauthenticated', 'The key or token is missing, wrong, expired or revoked.')
    },
    recall: (bearer) => (parseKey(bearer) === undefined ? undefined : credentials.recall(bearer)),
    roleIn: (userId, teamId) => roleOf(store, teamId, userId),

    login: (emailAddress, userPassword, address) => signIns.login(emailAddress, userPassword, address),
    refresh: (refreshToken, address) => signIns.refresh(refreshToken, address),
    changePassword: (userId, current, next) => signIns.changePassword(userId, current, next),
    me: (userId) => users.me(userId),

    createTeam: (userId, displayName) => teams.create(userId, displayName),
    listTeams: (userId, page) => teams.list(userId, page),
    updateTeam: (actor, displayName) => teams.update(actor, displayName),
    deleteTeam: (actor) => teams.delete(actor),
    transferTeam: (actor, newOwnerId) => teams.transfer(actor, newOwnerId),

    listMembers: (actor, page) => teams.listMembers(actor, page),
    updateMember: (actor, userId, role) => teams.updateMember(actor, userId, role),
    removeMember: (actor, userId) => teams.removeMember(actor, userId),

    createInvitation: (actor, emailAddress, role) => invitations.create(actor, emailAddress, role),
    listInvitations: (actor, page) => invitations.list(actor, page),
    deleteInvitation: (actor, id) => invitations.delete(actor, id),
    acceptInvitation: (userId, token) => invitations.accept(userId, token),
    registerByInvitation: (token, displayName, userPassword, address) =>
      invitations.register(token, displayName, userPassword, address),

    createCredential: (actor, credential) => credentials.create(actor, credential),
    listCredentials: (actor, kind, page) => credentials.list(actor, kind, page),
    revokeCredential: (actor, id) => credentials.revoke(actor, id),

    listAudit: async ({ teamId }, action, page) => ({
      rows: await listAuditRecords(store, teamId, action, page),
      totalCount: await countAuditRecords(store, teamId, action),
    }),

    startPairing: (address) => pairing.start(address),
    pollPairing: (deviceCode, address) => pairing.poll(deviceCode, address),
    confirmPairing: (actor, userCode, deviceName) => pairing.confirm(actor, userCode, deviceName),
    revokeDevice: (device) => credentials.revokeDevice(device),

    jwks: () => tokens.jwks(),
    rotateSigningKey: () => tokens.rotate(),
    createUser: (user) => users.create(user),
    bootstrap: (emailAddress, keep) => users.bootstrap(emailAddress, keep),
    stop: stopSweep,
  }
}
