import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from 'kysely'
import type pg from 'pg'
import { type CompiledBatch, mapDriverError } from './dialect.ts'

/** Statements that each connection keeps prepared. Ours are fewer; only lists of values make more of them. */
const MAX_PREPARED = 250

/**
 * `pg` for Kysely, whose own driver waits for the answer to each statement before it sends the next. Here a transaction
 * begins together with its first statement, and the statements of a batch leave together: most of what a small statement
 * costs is waking the other side up. Every error is mapped once (`dialect.ts`).
 */
export class PostgresDriver implements Driver {
  readonly #pool: pg.Pool
  readonly #nameOf = statementNames()

  /** Takes the pool over. Its clients send statements without waiting for earlier answers (`pipeline`). */
  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return new PostgresConnection(await this.#pool.connect().catch(rethrow), this.#nameOf)
  }

  async beginTransaction(connection: PostgresConnection): Promise<void> {
    connection.begin()
  }

  async commitTransaction(connection: PostgresConnection): Promise<void> {
    await connection.end('commit')
  }

  /** Also asked for after a commit that failed: PostgreSQL then has nothing to undo and says so in a warning. */
  async rollbackTransaction(connection: PostgresConnection): Promise<void> {
    await connection.end('rollback')
  }

  async releaseConnection(connection: PostgresConnection): Promise<void> {
    connection.release()
  }

  async destroy(): Promise<void> {
    await this.#pool.end()
  }
}

type StatementNames = (text: string) => { name?: string }

class PostgresConnection implements DatabaseConnection {
  readonly #client: pg.PoolClient
  readonly #nameOf: StatementNames
  /** The answer to a `begin` that nobody has waited for yet. */
  #begun: Promise<unknown> | undefined
  /** A transaction may still be open on it. */
  #isUnusable = false

  constructor(client: pg.PoolClient, nameOf: StatementNames) {
    this.#client = client
    this.#nameOf = nameOf
  }

  begin(): void {
    this.#begun = this.#client.query('begin').catch(rethrow)
    // Whoever sends the first statement is told.
    this.#begun.catch(() => {})
  }

  async end(how: 'commit' | 'rollback'): Promise<void> {
    try {
      const [{ command }] = await Promise.all([this.#client.query(how).catch(rethrow), this.#takeBegun()])
      // What PostgreSQL makes of a commit after a statement that failed.
      if (how === 'commit' && command === 'ROLLBACK') throw new Error('the transaction was undone: a statement failed')
    } catch (error) {
      if (how === 'rollback') this.#isUnusable = true
      throw error
    }
  }

  release(): void {
    this.#client.release(this.#isUnusable)
  }

  async executeQuery<R>(query: CompiledQuery | CompiledBatch): Promise<QueryResult<R>> {
    const statements = 'batch' in query ? query.batch : [query]
    const sent = statements.map((statement) => this.#send(statement))
    await Promise.all([this.#takeBegun(), ...sent])
    return resultOf(await sent.at(-1))
  }

  // biome-ignore lint/correctness/useYield: the interface asks for a generator; we have no query that needs one.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming queries are not supported on PostgreSQL')
  }

  #takeBegun(): Promise<unknown> | undefined {
    const begun = this.#begun
    this.#begun = undefined
    return begun
  }

  #send({ sql: text, parameters }: CompiledQuery): Promise<pg.QueryResult> {
    return this.#client.query({ text, values: [...parameters], ...this.#nameOf(text) }).catch(rethrow)
  }
}

function resultOf<R>(answer: pg.QueryResult | undefined): QueryResult<R> {
  if (answer === undefined) throw new Error('a batch without a statement')
  const { command, rowCount, rows } = answer
  return command === 'SELECT' ? { rows } : { rows, numAffectedRows: BigInt(rowCount ?? 0) }
}

function rethrow(error: unknown): never {
  throw mapDriverError(error)
}

/**
 * Names statements by their text, so that PostgreSQL parses and plans each once for a connection: planning the claiming
 * statement takes longer than running it.
 */
function statementNames(): StatementNames {
  const names = new Map<string, { name: string }>()
  return (text) => {
    const known = names.get(text)
    if (known !== undefined || names.size >= MAX_PREPARED) return known ?? {}
    const named = { name: `cyberun_${names.size}` }
    names.set(text, named)
    return named
  }
}
