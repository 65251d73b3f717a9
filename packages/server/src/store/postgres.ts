import type { Log } from '@cyberun/link/log'
import { type Dialect, PostgresDialect, type PostgresPool } from 'kysely'
import pg from 'pg'
import { mapDriverError } from './dialect.ts'
import { StoreOpenError } from './store-error.ts'

const INT8_OID = 20
const TIMEOUT_MS = 10_000
/** Statements that each connection keeps prepared. Ours are fewer; only lists of values make more of them. */
const MAX_PREPARED = 250

/** Connects to PostgreSQL 15 or later. Throws `StoreOpenError` when it does not answer; the URL is never shown. */
export async function openPostgresDialect(url: string, log: Log): Promise<Dialect> {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'cyberun',
    max: 10,
    keepAlive: true,
    connectionTimeoutMillis: 5_000,
    statement_timeout: TIMEOUT_MS,
    idle_in_transaction_session_timeout: TIMEOUT_MS,
    // A server that stopped answering with its socket open is only noticed on this side.
    query_timeout: TIMEOUT_MS + 2_000,
    types: { getTypeParser },
  })
  // A connection that dies while a caller has it emits its error besides failing the query: without a listener that
  // would end the process. The pool itself only listens to idle ones.
  pool.on('connect', (client) =>
    client.on('error', ({ message }) => log.warn({ error: message }, 'store.connection_lost')),
  )
  pool.on('error', () => {})
  try {
    await pool.query('select 1')
  } catch (cause) {
    await pool.end()
    const reason = cause instanceof Error ? cause.message || String((cause as { code?: unknown }).code) : String(cause)
    throw new StoreOpenError(`the database of CYBERUN_DATABASE_URL does not answer: ${reason}`, { cause })
  }
  return new PostgresDialect({ pool: mappingErrors(pool) })
}

/** `pg` gives bigint as text. Ours are milliseconds and counters, which a number holds exactly. */
const getTypeParser: typeof pg.types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === INT8_OID ? (value: string) => Number(value) : pg.types.getTypeParser(oid, format as 'text')

/** The pool, with every error it or its clients throw mapped once (`dialect.ts`). */
function mappingErrors(pool: pg.Pool): PostgresPool {
  const rethrow = (error: unknown): never => {
    throw mapDriverError(error)
  }
  const nameOf = statementNames()
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect().catch(rethrow)
      const query = (text: string, values: unknown[]) => client.query({ text, values, ...nameOf(text) }).catch(rethrow)
      return { query: query as never, release: (destroy?: boolean) => client.release(destroy) }
    },
  }
}

/**
 * Names statements by their text, so that PostgreSQL parses and plans each once for a connection: planning the claiming
 * statement takes longer than running it.
 */
function statementNames(): (text: string) => { name?: string } {
  const names = new Map<string, { name: string }>()
  return (text) => {
    const known = names.get(text)
    if (known !== undefined || names.size >= MAX_PREPARED) return known ?? {}
    const named = { name: `cyberun_${names.size}` }
    names.set(text, named)
    return named
  }
}
