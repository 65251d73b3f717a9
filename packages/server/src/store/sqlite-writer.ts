import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { SqliteAnswer, SqliteFault, SqliteRequest, Statement } from './sqlite-messages.ts'

type Request<K extends SqliteRequest['kind']> = Extract<SqliteRequest, { kind: K }>
type Queued = Request<'write'> | Request<'begin'>

/** Writes that wait are joined into one transaction of at most this many: one fsync for all of them. */
const MAX_JOINED = 256
/**
 * A transaction whose owner says nothing for so long is rolled back: while it is open nobody else writes. What its own
 * statements take does not count, because making an index of a large table may take longer.
 */
const SILENCE_MS = 10_000
/** Prepared statements kept a connection. We have about a hundred. */
const MAX_PREPARED = 256
const SQLITE_BUSY = 5

/**
 * One writer, one transaction at a time, in the order they asked. Reads outside a transaction run on their own
 * connection, at once, and see what is committed.
 */
export class SqliteWriter {
  readonly #writer: Prepared
  readonly #reader: Prepared
  readonly #answer: (answer: SqliteAnswer) => void
  readonly #queue: Queued[] = []
  #open: { number: number; timer: NodeJS.Timeout } | undefined
  #lastTransaction = 0
  #drainPlanned = false

  constructor(writer: DatabaseSync, reader: DatabaseSync, answer: (answer: SqliteAnswer) => void) {
    this.#writer = new Prepared(writer)
    this.#reader = new Prepared(reader)
    this.#answer = answer
  }

  accept(request: Exclude<SqliteRequest, { kind: 'close' }>): void {
    switch (request.kind) {
      case 'read':
        this.#run(this.#reader, request)
        break
      case 'write':
      case 'begin':
        this.#queue.push(request)
        this.#planDrain()
        break
      case 'run':
        if (this.#isOpen(request)) this.#runInOpen(request)
        else this.#refuseUndone(request)
        break
      case 'commit':
        if (this.#isOpen(request)) this.#end(request.id, 'commit')
        else this.#refuseUndone(request)
        break
      case 'rollback':
        // One that was rolled back already has nothing left to do.
        if (this.#isOpen(request)) this.#end(request.id, 'rollback')
        else this.#answer({ id: request.id })
        break
    }
  }

  /** Undoes a transaction that is still open. */
  close(): void {
    this.#rollBackOpen()
  }

  /** In the next turn, so that every request that has already arrived is in the queue and can be joined. */
  #planDrain(): void {
    if (this.#drainPlanned || this.#open !== undefined) return
    this.#drainPlanned = true
    setImmediate(() => {
      this.#drainPlanned = false
      this.#drain()
    })
  }

  #drain(): void {
    while (this.#open === undefined) {
      const first = this.#queue.shift()
      if (first === undefined) return
      if (first.kind === 'begin') this.#begin(first)
      else this.#write([first, ...this.#takeWrites(MAX_JOINED - 1)])
    }
  }

  #takeWrites(limit: number): Request<'write'>[] {
    const writes: Request<'write'>[] = []
    for (const request of this.#queue) {
      if (request.kind !== 'write' || writes.length === limit) break
      writes.push(request)
    }
    this.#queue.splice(0, writes.length)
    return writes
  }

  #begin(request: Request<'begin'>): void {
    try {
      this.#writer.exec('begin immediate')
    } catch (error) {
      this.#answer({ id: request.id, error: faultOf(error) })
      return
    }
    this.#lastTransaction++
    this.#open = { number: this.#lastTransaction, timer: setTimeout(() => this.#expire(), SILENCE_MS) }
    this.#answer({ id: request.id, transaction: this.#lastTransaction })
  }

  #end(id: number, how: 'commit' | 'rollback'): void {
    clearTimeout(this.#open?.timer)
    this.#open = undefined
    try {
      this.#writer.exec(how)
      this.#answer({ id })
    } catch (error) {
      this.#writer.rollBackIfOpen()
      this.#answer({ id, error: faultOf(error) })
    }
    this.#planDrain()
  }

  #expire(): void {
    this.#rollBackOpen()
    this.#planDrain()
  }

  #rollBackOpen(): void {
    if (this.#open === undefined) return
    clearTimeout(this.#open.timer)
    this.#open = undefined
    this.#writer.rollBackIfOpen()
  }

  #isOpen(request: { transaction: number }): boolean {
    return this.#open?.number === request.transaction
  }

  #refuseUndone({ id }: { id: number }): void {
    const message = `the transaction was rolled back: the disk was full, or nothing came for more than ${SILENCE_MS} ms`
    this.#answer({ id, error: { message, errcode: SQLITE_BUSY } })
  }

  #runInOpen(request: Request<'run'>): void {
    this.#run(this.#writer, request)
    if (this.#writer.isInTransaction) {
      this.#open?.timer.refresh()
      return
    }
    // A full disk undoes all of a transaction: what its owner still sends must not be done, each for itself.
    this.#rollBackOpen()
    this.#planDrain()
  }

  #run(connection: Prepared, { id, statements }: Request<'read' | 'run' | 'write'>): void {
    try {
      this.#answer({ id, ...connection.runAll(statements) })
    } catch (error) {
      this.#answer({ id, error: faultOf(error) })
    }
  }

  #write(writes: readonly Request<'write'>[]): void {
    const [first] = writes
    // A statement that is alone is a transaction by itself.
    if (writes.length === 1 && first?.statements.length === 1) this.#run(this.#writer, first)
    else this.#runTogether(writes)
  }

  /** One commit for several callers; a write that fails is undone alone. Nobody is answered before the commit. */
  #runTogether(writes: readonly Request<'write'>[]): void {
    try {
      this.#writer.exec('begin immediate')
      const answers = writes.map((request) => this.#runInSavepoint(request))
      this.#writer.exec('commit')
      for (const answer of answers) this.#answer(answer)
    } catch (error) {
      this.#writer.rollBackIfOpen()
      for (const { id } of writes) this.#answer({ id, error: faultOf(error) })
    }
  }

  #runInSavepoint({ id, statements }: Request<'write'>): SqliteAnswer {
    this.#writer.exec('savepoint one')
    try {
      const answer = { id, ...this.#writer.runAll(statements) }
      this.#writer.exec('release one')
      return answer
    } catch (error) {
      // A full disk undoes the whole transaction: then all of them have failed for that.
      if (!this.#writer.isInTransaction) throw error
      this.#writer.exec('rollback to one')
      this.#writer.exec('release one')
      return { id, error: faultOf(error) }
    }
  }
}

/** A connection with its statements, prepared once each; the oldest gives way. */
class Prepared {
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, { statement: StatementSync; returnsRows: boolean }>()

  constructor(db: DatabaseSync) {
    this.#db = db
  }

  exec(command: string): void {
    this.#db.exec(command)
  }

  get isInTransaction(): boolean {
    return this.#db.isTransaction
  }

  rollBackIfOpen(): void {
    if (this.isInTransaction) this.#db.exec('rollback')
  }

  /** Answers as the last. */
  runAll(statements: readonly Statement[]): Pick<SqliteAnswer, 'rows' | 'changes'> {
    let answer = {}
    for (const statement of statements) answer = this.#run(statement)
    return answer
  }

  #run({ sql, parameters }: Statement): { rows: Record<string, unknown>[] } | { changes: number } {
    const { statement, returnsRows } = this.#prepare(sql)
    if (returnsRows) return { rows: statement.all(...parameters) }
    return { changes: Number(statement.run(...parameters).changes) }
  }

  #prepare(sql: string): { statement: StatementSync; returnsRows: boolean } {
    const known = this.#statements.get(sql)
    if (known !== undefined) return known
    const statement = this.#db.prepare(sql)
    const made = { statement, returnsRows: statement.columns().length > 0 }
    const [oldest] = this.#statements.keys()
    if (oldest !== undefined && this.#statements.size >= MAX_PREPARED) this.#statements.delete(oldest)
    this.#statements.set(sql, made)
    return made
  }
}

function faultOf(error: unknown): SqliteFault {
  const { message, code, errcode } = error as SqliteFault
  return { message, ...(code !== undefined && { code }), ...(errcode !== undefined && { errcode }) }
}
