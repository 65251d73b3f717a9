import type { SQLInputValue } from 'node:sqlite'

/**
 * What the main thread asks of the thread that owns the SQLite file. Each request is answered once, by its id; several
 * statements as the last of them.
 */
export type SqliteRequest = { id: number } & (
  | { kind: 'read'; statements: readonly Statement[] }
  /** All of them or none. */
  | { kind: 'write'; statements: readonly Statement[] }
  | { kind: 'begin' }
  | { kind: 'run'; transaction: number; statements: readonly Statement[] }
  | { kind: 'commit'; transaction: number }
  | { kind: 'rollback'; transaction: number }
  | { kind: 'close' }
)

export interface Statement {
  sql: string
  parameters: readonly SQLInputValue[]
}

export interface SqliteAnswer {
  id: number
  rows?: Record<string, unknown>[]
  /** Rows inserted, updated or deleted, when the statement returns none. */
  changes?: number
  /** The number of the transaction that `begin` opened. */
  transaction?: number
  error?: SqliteFault
}

/** An error of the other thread, with the fields that `dialect.ts` looks at. */
export interface SqliteFault {
  message: string
  code?: string
  errcode?: number
}

/** The first message of the worker: the file is open, or why not. */
export type SqliteGreeting = { opened: true } | { opened: false; message: string }

export interface SqliteWorkerData {
  dir: string
  pid: number
}
