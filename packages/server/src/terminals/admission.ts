import { createHash } from 'node:crypto'
import { ApiError, Id, invalidRequest } from '@cyberun/api'
import { TERMINAL_LIMITS } from '@cyberun/protocol'
import { z } from 'zod'
import type { Caller, Identity } from '../identity/identity.ts'
import { AttemptLimiter, addressKey } from '../identity/limits.ts'
import type { LiveCalls } from '../identity/live-calls.ts'
import { requireRole } from '../model/roles.ts'
import { TERMINALS_LIMITS } from './limits.ts'

/** What a viewer is let in by: a secret, and where it shows the shell. */
const Opening = z.strictObject({
  /** Of a tunnel to this agent that is open. */
  admin_token: z.string().min(1).max(200).optional(),
  /** An access token or a key, of somebody whose role lets them open tunnels. */
  bearer: z.string().min(1).max(2_048).optional(),
  /** The team, with an access token. */
  team_id: Id.optional(),
  viewer: z.string().regex(/^[\w-]{8,64}$/),
  shell: z
    .string()
    .regex(/^[\w-]{1,64}$/)
    .optional(),
  position: z.int().nonnegative().optional(),
  cols: z.int().min(1).max(TERMINAL_LIMITS.cols),
  rows: z.int().min(1).max(TERMINAL_LIMITS.rows),
})
export type Opening = z.output<typeof Opening>

/** An open tunnel as its admin token finds it. */
export interface AdminTunnel {
  sessionId: string
  teamId: string
  agentId: string
  openedByUserId: string
  /** Aborts when the tunnel ends, and when its tokens are made anew. */
  closed: AbortSignal
  /** Somebody typed: the tunnel is in use, and does not end as idle. */
  noteInput(now: number): void
}

/** Somebody who may look at shells of one agent. */
export interface Admitted {
  teamId: string
  /** Whose shells: those of one tunnel session, or of one user. */
  scope: string
  /** The key or sign-in, by whose end alone shells end that were started with it. */
  right: string | undefined
  /** For the audit: `tunnel:<session id>`, `user:<id>` or `credential:<id>`. */
  actor: string
  tunnel: AdminTunnel | undefined
  /** Aborts when the right has ended. */
  ended: AbortSignal
  release(): void
}

export interface AdmissionParts {
  identity: Pick<Identity, 'authenticate' | 'roleIn'>
  tunnels: { findByAdminToken(tokenHash: string): AdminTunnel | undefined }
  liveCalls: LiveCalls
  /** Milliseconds of any clock. */
  now: () => number
}

/** Reads a viewer's first message. Throws `invalid_request`, which never quotes it. */
export function parseOpening(text: string): Opening {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalidRequest([{ path: 'message', message: 'is not JSON' }])
  }
  const parsed = Opening.safeParse(value)
  if (parsed.success) return parsed.data
  const [first, ...rest] = parsed.error.issues.map(({ path, message }) => ({
    path: ['message', ...path].join('.'),
    message,
  }))
  throw invalidRequest([first ?? { path: 'message', message: 'is not what opens a terminal' }, ...rest])
}

/** Decides who may look at a shell. One for all ways a secret comes. */
export class Admission {
  readonly #parts: AdmissionParts
  readonly #wrongTokens: AttemptLimiter

  constructor(parts: AdmissionParts) {
    this.#parts = parts
    this.#wrongTokens = new AttemptLimiter(TERMINALS_LIMITS.wrongTokensPerAddress, parts.now)
  }

  /** Throws `ApiError`: `unauthenticated`, `rate_limited`, `forbidden`, `not_found`, `invalid_request`. */
  async admit(opening: Opening, headerBearer: string | undefined, agentId: string, address: string): Promise<Admitted> {
    const { admin_token, team_id } = opening
    const bearer = opening.bearer ?? headerBearer
    if (admin_token !== undefined) return this.#byAdminToken(admin_token, agentId, address)
    if (bearer !== undefined) return this.#byBearer(bearer, team_id, address)
    throw new ApiError('unauthenticated', 'Send the admin token of an open tunnel, or an access token or a key.')
  }

  /** What is right is never refused: guessing 256 bits is hopeless, and others may share the address. */
  #byAdminToken(token: string, agentId: string, address: string): Admitted {
    const tunnel = this.#parts.tunnels.findByAdminToken(createHash('sha256').update(token).digest('hex'))
    if (tunnel?.agentId !== agentId || tunnel.closed.aborted) {
      this.#wrongTokens.take(addressKey(address))
      throw new ApiError('unauthenticated', 'This is not the admin token of an open tunnel to this agent.')
    }
    const name = scopeOfTunnel(tunnel.sessionId)
    const { teamId, closed } = tunnel
    return { teamId, scope: name, right: undefined, actor: name, tunnel, ended: closed, release() {} }
  }

  async #byBearer(bearer: string, sentTeamId: string | undefined, address: string): Promise<Admitted> {
    const { identity, liveCalls } = this.#parts
    const caller = await identity.authenticate(bearer, address)
    const teamId = teamOf(caller, sentTeamId)
    // Held before the role is read: what ends in between is not missed.
    const held = liveCalls.hold(caller, teamId)
    try {
      // Once more, now that its end would be noticed: it may have been revoked after it was read.
      await identity.authenticate(bearer, address)
      requireRole(await identity.roleIn(caller.userId, teamId), 'member')
    } catch (error) {
      held.release()
      throw error
    }
    return {
      teamId,
      scope: scopeOfUser(caller.userId),
      right: caller.kind === 'user' ? rightOfSignIn(caller.familyId) : rightOfKey(caller.credentialId),
      actor: caller.kind === 'user' ? `user:${caller.userId}` : `credential:${caller.credentialId}`,
      tunnel: undefined,
      ended: held.signal,
      release: held.release,
    }
  }
}

/** Names of scopes and rights, as agents know them: of one form, and never one for two things. */
export const scopeOfTunnel = (sessionId: string): string => `tunnel:${sessionId}`
export const scopeOfUser = (userId: string): string => `user:${userId}`
export const rightOfKey = (credentialId: string): string => `credential:${credentialId}`
export const rightOfSignIn = (familyId: string): string => `sign-in:${familyId}`

function teamOf(caller: Caller, sent: string | undefined): string {
  if (caller.kind === 'agent') {
    throw new ApiError('unauthenticated', 'An agent key (ak-) is for agents only. Use an access token or another key.')
  }
  if (caller.kind !== 'user') return caller.teamId
  if (sent !== undefined) return sent
  throw invalidRequest([{ path: 'message.team_id', message: 'is missing; name the team of this call' }])
}
