import { Worker } from 'node:worker_threads'
import type { Log } from '@cyberun/link/log'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type DatabaseIntrospector,
  type Dialect,
  type Driver,
  type Kysely,
  type QueryCompiler,
  type QueryResult,
  SelectQueryNode,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { type CompiledBatch, mapDriverError, unavailableError } from './dialect.ts'
import type { SqliteAnswer, SqliteGreeting, SqliteRequest, SqliteWorkerData, Statement } from './sqlite-messages.ts'
import { StoreOpenError } from './store-error.ts'

/** Requests and bytes that may wait for the SQLite thread; beyond that callers are told to try again. */
const MAX_WAITING = 10_000
const MAX_WAITING_BYTES = 64 * 1024 * 1024

type Unnumbered<R> = R extends { id: number } ? Omit<R, 'id'> : never
type Pending = { resolve: (answer: SqliteAnswer) => void; reject: (error: unknown) => void; bytes: number }

/** Opens `<dir>/cyberun.db` in its own thread. Throws `StoreOpenError` when another server uses `dir`. */
export async function openSqliteDialect(dir: string, log: Log): Promise<Dialect> {
  const thread = await SqliteThread.start(dir, log)
  return {
    createDriver: () => new SqliteDriver(thread),
    createQueryCompiler: (): QueryCompiler => new SqliteQueryCompiler(),
    createAdapter: () => new ThreadAdapter(),
    createIntrospector: (db: Kysely<unknown>): DatabaseIntrospector => new SqliteIntrospector(db),
  }
}

/** The thread queues for us, so callers need not take turns for one connection; its DDL is transactional. */
class ThreadAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true
  }
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

/** The main thread's end: numbers requests, bounds how many wait, and settles each with its answer. */
class SqliteThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  #waitingBytes = 0
  #lastId = 0
  #ended: Error | undefined

  private constructor(worker: Worker, log: Log) {
    this.#worker = worker
    worker.on('message', (answer: SqliteAnswer) => this.#settle(answer))
    worker.on('error', (error) => log.error({ error }, 'store.thread_failed'))
    worker.on('exit', () => this.#fail())
  }

  static async start(dir: string, log: Log): Promise<SqliteThread> {
    const data: SqliteWorkerData = { dir, pid: process.pid }
    const worker = new Worker(new URL('./sqlite-worker.ts', import.meta.url), { workerData: data, name: 'store' })
    const greeting = await new Promise<SqliteGreeting>((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    if (!greeting.opened) throw new StoreOpenError(greeting.message)
    return new SqliteThread(worker, log)
  }

  request(request: Unnumbered<SqliteRequest>): Promise<SqliteAnswer> {
    const bytes = bytesOf(request)
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    const isFull = this.#pending.size >= MAX_WAITING || this.#waitingBytes + bytes > MAX_WAITING_BYTES
    // What belongs to the open transaction is always taken: everybody else waits for its end.
    if (isFull && (request.kind === 'read' || request.kind === 'write' || request.kind === 'begin')) {
      return Promise.reject(unavailableError(new Error(`${this.#pending.size} requests wait for the SQLite thread`)))
    }
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, bytes })
      this.#waitingBytes += bytes
      this.#worker.postMessage({ ...request, id })
    })
  }

  #settle(answer: SqliteAnswer): void {
    const pending = this.#pending.get(answer.id)
    if (pending === undefined) return
    this.#pending.delete(answer.id)
    this.#waitingBytes -= pending.bytes
    if (answer.error === undefined) pending.resolve(answer)
    else pending.reject(mapDriverError(Object.assign(new Error(answer.error.message), answer.error)))
  }

  #fail(): void {
    this.#ended = unavailableError(new Error('the SQLite thread has ended'))
    for (const { reject } of this.#pending.values()) reject(this.#ended)
    this.#pending.clear()
  }
}

class SqliteDriver implements Driver {
  readonly #thread: SqliteThread

  constructor(thread: SqliteThread) {
    this.#thread = thread
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return new SqliteConnection(this.#thread)
  }

  async beginTransaction(connection: SqliteConnection): Promise<void> {
    connection.transaction = (await this.#thread.request({ kind: 'begin' })).transaction
  }

  async commitTransaction(connection: SqliteConnection): Promise<void> {
    await this.#thread.request({ kind: 'commit', transaction: connection.end() })
  }

  /** Also asked for after a commit that failed, on a full disk say: that one is undone already. */
  async rollbackTransaction(connection: SqliteConnection): Promise<void> {
    if (connection.transaction === undefined) return
    await this.#thread.request({ kind: 'rollback', transaction: connection.end() })
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    await this.#thread.request({ kind: 'close' })
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #thread: SqliteThread
  transaction: number | undefined

  constructor(thread: SqliteThread) {
    this.#thread = thread
  }

  /** The number of the transaction that is ending here. */
  end(): number {
    const { transaction } = this
    if (transaction === undefined) throw new Error('no transaction is open on this connection')
    this.transaction = undefined
    return transaction
  }

  async executeQuery<R>(query: CompiledQuery | CompiledBatch): Promise<QueryResult<R>> {
    const { rows, changes } = await this.#thread.request(this.#placed(query))
    const affected = changes === undefined ? {} : { numAffectedRows: BigInt(changes) }
    return { rows: (rows ?? []) as R[], ...affected }
  }

  // biome-ignore lint/correctness/useYield: the interface asks for a generator; we have no query that needs one.
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming queries are not supported by the SQLite thread')
  }

  #placed(query: CompiledQuery | CompiledBatch): Unnumbered<SqliteRequest> {
    const statements = ('batch' in query ? query.batch : [query]).map(statementOf)
    if (this.transaction !== undefined) return { kind: 'run', transaction: this.transaction, statements }
    return isRead(query) ? { kind: 'read', statements } : { kind: 'write', statements }
  }
}

/** Statements written by hand only read when they begin like this; the connection for reading could not write anyway. */
function isRead(query: CompiledQuery | CompiledBatch): boolean {
  if ('batch' in query) return false
  return SelectQueryNode.is(query.query) || /^\s*(select|with recursive)\b/.test(query.sql)
}

function statementOf({ sql, parameters }: CompiledQuery): Statement {
  return { sql, parameters: parameters as Statement['parameters'] }
}

function bytesOf(request: Unnumbered<SqliteRequest>): number {
  if (!('statements' in request)) return 0
  let bytes = 0
  for (const { sql, parameters } of request.statements) {
    bytes += sql.length
    for (const value of parameters) bytes += typeof value === 'string' ? value.length : 8
  }
  return bytes
}
