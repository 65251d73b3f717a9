import type { z } from 'zod'
import type { ErrorCode } from './errors.ts'
import type { Role } from './schemas/account.ts'

/** Who holds the bearer secret of a call. An `ak-` key is no caller here: every REST call refuses it. */
export type CallerKind = 'user' | 'integration' | 'device'

/** One call of the API. The key of the table is its method and its path under `/api/v1`. */
export interface RouteSpec {
  tag: 'account' | 'teams' | 'credentials' | 'devices' | 'agents' | 'tunnels' | 'workflows' | 'tasks' | 'files'
  summary: string
  callers: 'anyone' | readonly CallerKind[]
  /** The least role in the team. Absent: the call is not about one team. */
  role?: Role
  params?: z.ZodObject
  query?: z.ZodObject
  /** Request headers it reads beside those of every call, in lower case. */
  headers?: z.ZodObject
  body?: z.ZodObject
  /** Most bytes of a body, when it is not the 64 KiB that do for most calls. */
  maxBodyBytes?: number
  /** Absent: 204, no body; or a stream of events, see `eventStream`. */
  answer?: z.ZodType
  /** Answers with `text/event-stream`: what its events carry, by their names. */
  eventStream?: Readonly<Record<string, z.ZodType>>
  /** 201 for calls that create something, 202 for what goes on; 200 unless said, 204 without an answer. */
  status?: 201 | 202
  /** What this call can meet beside the errors that follow from its shape. */
  errors?: readonly ErrorCode[]
}

export type RouteTable = Readonly<Record<`${'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'} /${string}`, RouteSpec>>

/** Kinds of callers that several routes take. */
export const USER = ['user'] as const
export const USER_OR_DEVICE = ['user', 'device'] as const
export const ANY_KEY = ['user', 'integration', 'device'] as const
