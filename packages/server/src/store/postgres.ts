import type { Log } from '@cyberun/link/log'
import { type Dialect, type Driver, PostgresDialect } from 'kysely'
import pg from 'pg'
import { PostgresDriver } from './postgres-driver.ts'
import { StoreOpenError } from './store-error.ts'

const INT8_OID = 20
const TIMEOUT_MS = 10_000
/**
 * Every statement of ours looks a few rows up by an index, also while PostgreSQL still takes a table for small and would
 * rather read all of it. Left to itself it also plans each statement anew for its first calls on a connection, which takes
 * longer than running it (decision 53).
 */
const PLANNING = `
  set enable_seqscan = off;
  set enable_hashjoin = off;
  set enable_mergejoin = off;
  set jit = off;
  set plan_cache_mode = force_generic_plan;`
/** An acknowledged write is on disk, whatever the database or its role is set to. */
const DURABILITY = `
  set synchronous_commit = on`

/** Connects to PostgreSQL 15 or later. Throws `StoreOpenError` when it does not answer; the URL is never shown. */
export async function openPostgresDialect(
  url: string,
  log: Log,
  { hasTimeLimits }: { hasTimeLimits: boolean },
): Promise<Dialect> {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'cyberun',
    max: 10,
    // A connection knows its plans and catalogues; opening one again takes longer than most calls.
    idleTimeoutMillis: 0,
    pipeline: true,
    onConnect: async (client) => {
      await client.query(PLANNING + DURABILITY)
    },
    keepAlive: true,
    connectionTimeoutMillis: 5_000,
    idle_in_transaction_session_timeout: TIMEOUT_MS,
    ...(hasTimeLimits && {
      statement_timeout: TIMEOUT_MS,
      // A server that stopped answering with its socket open is only noticed on this side.
      query_timeout: TIMEOUT_MS + 2_000,
    }),
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
  return new PipelinedDialect(pool)
}

/** `pg` gives bigint as text. Ours are milliseconds and counters, which a number holds exactly. */
const getTypeParser: typeof pg.types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === INT8_OID ? (value: string) => Number(value) : pg.types.getTypeParser(oid, format as 'text')

class PipelinedDialect extends PostgresDialect {
  readonly #pool: pg.Pool

  constructor(pool: pg.Pool) {
    super({ pool })
    this.#pool = pool
  }

  override createDriver(): Driver {
    return new PostgresDriver(this.#pool)
  }
}
