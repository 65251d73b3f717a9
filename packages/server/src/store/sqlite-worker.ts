import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { makeFolder } from '@cyberun/link/folders'
import type { SqliteFault, SqliteGreeting, SqliteRequest, SqliteWorkerData } from './sqlite-messages.ts'
import { SqliteWriter } from './sqlite-writer.ts'

/**
 * The thread that owns the SQLite file. Every call of `node:sqlite` blocks its thread until the disk has the bytes, so
 * none of them happens where tunnels are served.
 */
const port = parentPort
if (port === null) throw new Error('sqlite-worker.ts runs as a worker thread')

const { dir, pid } = workerData as SqliteWorkerData

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const DAMAGED: ReadonlySet<number> = new Set([11, 26])

try {
  makeFolder(dir, 0o700)
  const lock = lockDirectory(dir, pid)
  const writer = openDatabase(join(dir, 'cyberun.db'))
  const reader = openDatabase(join(dir, 'cyberun.db'))
  reader.exec('pragma query_only = on')
  const queue = new SqliteWriter(writer, reader, (answer) => port.postMessage(answer))
  port.on('message', (request: SqliteRequest) => {
    if (request.kind !== 'close') return queue.accept(request)
    queue.close()
    reader.close()
    writer.close()
    lock.close()
    port.postMessage({ id: request.id })
    port.close()
  })
  port.postMessage({ opened: true } satisfies SqliteGreeting)
} catch (error) {
  port.postMessage({ opened: false, message: (error as SqliteFault).message } satisfies SqliteGreeting)
  port.close()
}

function openDatabase(path: string): DatabaseSync {
  try {
    closeSync(openSync(path, 'a', 0o600)) // made here for its owner only; the files SQLite puts beside it follow its mode
    const db = new DatabaseSync(path, { timeout: 5_000, enableForeignKeyConstraints: true })
    db.exec('pragma journal_mode = wal')
    // FULL: an answer means the row is on disk, power cut or not. NORMAL may lose the last commits.
    db.exec('pragma synchronous = full')
    return db
  } catch (cause) {
    const { message, errcode } = cause as SqliteFault
    const advice = DAMAGED.has(errcode ?? 0) ? '; restore it from a backup' : ''
    throw new Error(`${path} cannot be opened: ${message}${advice}`, { cause })
  }
}

/**
 * Takes the directory for this process. The lock is the operating system's, held by an open transaction on its own
 * file, so it is gone the moment the process is, however it died. The pid stands in another file: opening and closing
 * the locked one here would give the lock up (POSIX record locks belong to the process, not to the descriptor).
 */
function lockDirectory(path: string, ownPid: number): DatabaseSync {
  const pidFile = join(path, 'server.pid')
  const lock = new DatabaseSync(join(path, 'server.lock'), { timeout: 0 })
  try {
    lock.exec('begin exclusive')
  } catch (error) {
    lock.close()
    if ((error as SqliteFault).errcode !== 5) throw error
    throw new Error(`${path} is in use by another server (pid ${readPid(pidFile)}); stop it, or set CYBERUN_DATA_DIR`)
  }
  writeFileSync(pidFile, `${ownPid}\n`)
  return lock
}

function readPid(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return 'unknown' // the other process has the lock and is about to write the file
  }
}
