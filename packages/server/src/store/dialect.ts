import { ApiError } from '@cyberun/api'
import { type CompiledQuery, type RawBuilder, sql as raw, type SelectQueryBuilder } from 'kysely'

/** What SQLite and PostgreSQL do differently in what we write, all of it. */
export type Engine = 'sqlite' | 'postgres'

/**
 * Locks the rows a transaction is about to change, so that a rule checked on them still holds when it writes.
 * SQLite has one writer at a time, so reading inside a transaction already is that lock (and `for update` is a syntax
 * error there).
 */
export function lockRows<DB, TB extends keyof DB, O>(
  engine: Engine,
  query: SelectQueryBuilder<DB, TB, O>,
): SelectQueryBuilder<DB, TB, O> {
  return engine === 'postgres' ? query.forUpdate() : query
}

/** The fields a driver's error may carry: SQLSTATE or a system error in `code`; SQLite's result code in `errcode`. */
interface DriverFault {
  code?: unknown
  errcode?: unknown
}

/** SQLite primary result codes: busy, locked, read-only, I/O error, disk full, cannot open. */
const SQLITE_UNAVAILABLE = new Set([5, 6, 8, 10, 13, 14])

/**
 * SQLSTATE classes: connection, insufficient resources, operator intervention, system error; or a socket's error.
 * 25P03 is our own limit on an idle transaction; 25006 is a database that is read-only now, as a standby and a full one are.
 */
const POSTGRES_UNAVAILABLE = /^(08|53|57|58)|^25(P03|006)$|^E[A-Z]+$/

/** Serialization failure, deadlock, and a row that another transaction made first: run again, it is there to be found. */
const POSTGRES_AGAIN = /^(40001|40P01|23505)$/

/** True when running the whole transaction once more is the remedy. */
export function mayRunAgain(error: unknown): boolean {
  return POSTGRES_AGAIN.test(String(faultOf(error).code))
}

/** What a driver threw, as our one error when the database is not usable now; anything else is returned as it came. */
export function mapDriverError(error: unknown): unknown {
  const { code, errcode } = faultOf(error)
  const unavailable =
    (typeof errcode === 'number' && SQLITE_UNAVAILABLE.has(errcode & 0xff)) ||
    (typeof code === 'string' && !code.startsWith('ERR_') && POSTGRES_UNAVAILABLE.test(code)) ||
    (code === undefined && isLostConnection(error))
  return unavailable ? unavailableError(error) : error
}

export function unavailableError(cause: unknown): ApiError {
  return new ApiError('unavailable', 'The database cannot be used right now; try again in a moment.', {
    retryAfterSeconds: 1,
    cause,
  })
}

/** `pg` has no code for these: a connection that died under a query, and one that could not be had in time. */
function isLostConnection(error: unknown): boolean {
  return (
    error instanceof Error &&
    /^(Connection terminated|Client (has encountered a connection error|was closed)|timeout exceeded when trying|Query read timeout)/.test(
      error.message,
    )
  )
}

function faultOf(error: unknown): DriverFault {
  return typeof error === 'object' && error !== null ? error : {}
}

/** Several statements as one query, answered as the last of them (`write-all.ts`). */
export interface CompiledBatch extends CompiledQuery {
  readonly batch: readonly CompiledQuery[]
}

/**
 * Whether one statement may write several tables (`with made as (insert … returning …) insert …`). It is a transaction of
 * its own then, in one round trip.
 */
export function chainsWrites(engine: Engine): boolean {
  return engine === 'postgres'
}

/** The database's clock in milliseconds since 1970, the one that leases and deadlines are compared on. */
export function clock(engine: Engine): RawBuilder<number> {
  return engine === 'postgres'
    ? raw`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`
    : raw`cast(unixepoch('subsec') * 1000 as integer)`
}

/**
 * Rows given as one parameter, to be named in a `from`: each has a column `value`, whose members are read with
 * `value ->> 'name'` and cast. One statement text, and so one prepared statement, for any number of rows. PostgreSQL would
 * parse the text of a `json` row again for each member.
 */
export function jsonRows(engine: Engine, rows: readonly unknown[]): RawBuilder<unknown> {
  const json = JSON.stringify(rows)
  if (engine === 'sqlite') return raw`json_each(${json})`
  return raw`(select value from ${listed(raw`jsonb_array_elements(cast(${json} as jsonb))`)} limit ${rows.length})`
}

/** Texts given as one parameter, for a `from` without a name: the column is `value`. */
export function jsonTexts(engine: Engine, texts: readonly string[]): RawBuilder<unknown> {
  const json = JSON.stringify(texts)
  if (engine === 'sqlite') return raw`json_each(${json})`
  return raw`${listed(raw`json_array_elements_text(cast(${json} as json))`)} limit ${texts.length}`
}

/**
 * PostgreSQL expects 100 rows of JSON, 10 of an array, and a tenth of either behind a limit that it is told later. For 100,
 * and even for 10, it reads the whole of a table that it takes for small, and goes on so while the table grows; for one it
 * looks each up by its index.
 */
function listed(elements: RawBuilder<unknown>): RawBuilder<unknown> {
  return raw`unnest(array(select ${elements})) as listed(value)`
}

/** `lockRows` for a statement written by hand. */
export function forUpdate(engine: Engine): RawBuilder<unknown> {
  return engine === 'postgres' ? raw`for update` : raw``
}

/**
 * Ends a select whose rows the statement around it changes: those that another transaction is changing are passed over.
 * SQLite has one writer, so there are none (and the words are a syntax error there).
 */
export function skipLocked(engine: Engine): RawBuilder<unknown> {
  return engine === 'postgres' ? raw`for update skip locked` : raw``
}
