import type { Role, RouteAnswer, RouteInput, RouteName, Routes } from '@cyberun/api'
import type { Actor, Caller } from '../identity/identity.ts'
import type { EventFeed } from '../tasks/task-feed.ts'

/** What a route's row of the table makes of its handler. */

/** What is known of any call. */
interface AnyCall {
  /** IP address of the caller, for the limits on guessing. */
  address: string
  /** Aborts when the caller hangs up or the deadline passes. */
  signal: AbortSignal
}

/** What a handler gets: the parsed parts of the request, and what its row of the table says was established. */
export type Call<K extends RouteName> = AnyCall &
  RouteInput<K> &
  (Routes[K] extends { callers: readonly (infer Kind)[] } ? { caller: CallerOf<Kind> } : unknown) &
  (Routes[K] extends { role: Role } ? { actor: Actor } : unknown)

/** The callers that a row lets in. Distributes over its kinds. */
type CallerOf<Kind> = Kind extends 'user' ? Extract<Caller, { kind: 'user' }> : Exclude<Caller, { kind: 'user' }>

/** A route that answers with a stream gives what is sent on it; nothing when there is no more. */
type HandlerAnswer<K extends RouteName> = Routes[K] extends { eventStream: unknown }
  ? EventFeed | undefined
  : RouteAnswer<K>

export type HandlersOf<Names extends RouteName> = {
  [K in Names]: (call: Call<K>) => HandlerAnswer<K> | Promise<HandlerAnswer<K>>
}
