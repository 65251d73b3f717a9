import type { z } from 'zod'
import type { RouteName, Routes } from './routes.ts'

/** What the table says of one call, as types. `Side` is `input` for who sends and `output` for who has parsed. */
type Part<K extends RouteName, P extends 'params' | 'query' | 'headers' | 'body' | 'answer'> = Routes[K] extends {
  readonly [key in P]: infer S extends z.ZodType
}
  ? S
  : never

/** `{ [name]: type }`, optional when nothing in it is required; nothing when the call has no such part. */
type Field<N extends string, T> = [T] extends [never]
  ? unknown
  : Record<never, never> extends T
    ? { [key in N]?: T }
    : { [key in N]: T }

/** What a client sends: defaults may be left out. */
export type RouteRequest<K extends RouteName> = Field<'params', z.input<Part<K, 'params'>>> &
  Field<'query', SentQuery<z.output<Part<K, 'query'>>>> &
  Field<'headers', z.input<Part<K, 'headers'>>> &
  Field<'body', z.input<Part<K, 'body'>>>

/** In a query everything may be left out, and numbers are numbers (their schema coerces text, so its input is unknown). */
type SentQuery<T> = [T] extends [never] ? never : Partial<T>

/** What a handler gets: parsed, defaults filled in. */
export type RouteInput<K extends RouteName> = Parsed<'params', Part<K, 'params'>> &
  Parsed<'query', Part<K, 'query'>> &
  Parsed<'headers', Part<K, 'headers'>> &
  Parsed<'body', Part<K, 'body'>>

type Parsed<N extends string, S extends z.ZodType> = [S] extends [never] ? unknown : { [key in N]: z.output<S> }

/** What the call answers with; `undefined` for 204. */
export type RouteAnswer<K extends RouteName> = [Part<K, 'answer'>] extends [never]
  ? undefined
  : z.output<Part<K, 'answer'>>
