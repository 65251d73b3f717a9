import type { IncomingMessage } from 'node:http'
import { ApiError, type CallerKind, Id, invalidRequest, type RouteName, type RouteSpec } from '@cyberun/api'
import type { Actor, Caller, Identity, KeyCaller } from '../identity/identity.ts'
import { requireRole } from '../model/roles.ts'
import { headerOf } from './request.ts'
import type { RouteEntry } from './route-entries.ts'

/** Who a call comes from, as far as its route asks. */
export interface Admitted {
  caller: Caller | undefined
  /** For a route about one team. */
  actor: Actor | undefined
}

/**
 * Lets a call in by its row of the table, in this order: a good secret (401), of a kind the route takes (403), a team
 * (400), of which the caller is a member (404), with a role that is enough (403). Throws `ApiError`.
 */
export async function admit(
  spec: RouteSpec,
  request: IncomingMessage,
  address: string,
  identity: Pick<Identity, 'authenticate' | 'roleIn'>,
): Promise<Admitted> {
  if (spec.callers === 'anyone') return { caller: undefined, actor: undefined }
  return admitCaller(spec, request, await identity.authenticate(bearerOf(request), address), identity)
}

/** The same for somebody whose secret is known already. */
export async function admitCaller(
  spec: RouteSpec,
  request: IncomingMessage,
  caller: Caller,
  identity: Pick<Identity, 'roleIn'>,
): Promise<Admitted> {
  const kind = callerKind(caller)
  if (spec.callers !== 'anyone' && !spec.callers.includes(kind)) {
    throw new ApiError('forbidden', wrongKind(kind, spec.callers))
  }
  if (!spec.role) return { caller, actor: undefined }
  const teamId = teamOf(caller, request)
  const role = caller.kind === 'user' ? await identity.roleIn(caller.userId, teamId) : caller.role
  return { caller, actor: { userId: caller.userId, teamId, role: requireRole(role, spec.role) } }
}

/** Calls that one statement does, which looks whether the key that makes them still is what it was. */
const RECALLABLE: ReadonlySet<RouteName> = new Set(['POST /r/workflows/{id}/run', 'POST /r/workflows/slug/{slug}/run'])

/**
 * Who makes one of these calls, as far as is remembered, without asking the store. Undefined for any other call. What is refused
 * to them is to be asked anew, by `admit`.
 */
export function recallCaller(
  { name }: RouteEntry,
  request: IncomingMessage,
  identity: Pick<Identity, 'recall'>,
): KeyCaller | undefined {
  // A key for repeated submissions is answered by what was stored with it, before anything else is looked at.
  if (!RECALLABLE.has(name) || headerOf(request, 'idempotency-key') !== undefined) return undefined
  return identity.recall(bearerOf(request))
}

function bearerOf(request: IncomingMessage): string {
  const [scheme, secret, ...rest] = (headerOf(request, 'authorization') ?? '').split(' ')
  if (scheme?.toLowerCase() === 'bearer' && secret && rest.length === 0) return secret
  throw new ApiError('unauthenticated', 'Send Authorization: Bearer, then an access token or a key.')
}

/** An agent's key opens the agent socket and nothing here. */
function callerKind(caller: Caller): CallerKind {
  if (caller.kind !== 'agent') return caller.kind
  throw new ApiError('unauthenticated', 'An agent key (ak-) is for agents only. Use an access token or another key.')
}

const HOLDERS = {
  user: 'a signed-in user',
  integration: 'an integration key (sk-)',
  device: 'a device key (dk-)',
} as const

function wrongKind(kind: CallerKind, allowed: readonly CallerKind[]): string {
  return `This call is not for ${HOLDERS[kind]}; it takes ${allowed.map((other) => HOLDERS[other]).join(' or ')}.`
}

function teamOf(caller: Caller, request: IncomingMessage): string {
  if (caller.kind !== 'user') return caller.teamId
  const sent = headerOf(request, 'x-team-id')
  if (sent === undefined)
    throw invalidRequest([{ path: 'header.X-Team-ID', message: 'is missing; name the team of this call' }])
  const teamId = Id.safeParse(sent)
  if (!teamId.success) throw invalidRequest([{ path: 'header.X-Team-ID', message: 'is not a UUID' }])
  return teamId.data
}
