import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { freePort } from './free-port.ts'
import { childrenOf, isAlive } from './procfs.ts'
import { findProgram } from './programs.ts'
import { until } from './until.ts'

/** The superuser of the server; connections from this machine need no password. */
const USER = 'cyberun'
/** Ports tried until one is still free when the server comes to it. */
const MOST_PORTS = 5

/** A PostgreSQL server of our own in a temporary directory, with fsync on, as in production. */
export interface Postgres extends AsyncDisposable {
  /** On 127.0.0.1. */
  readonly port: number
  readonly user: string
  /** Makes an empty database and returns its URL. */
  createDatabase(name: string): Promise<string>
  /** Kills the server as a crash would and starts it again on the same data and port. */
  crash(): Promise<void>
  /** The same with SIGKILL to each of its processes: none of them does anything more. */
  kill(): Promise<void>
}

/** Starts PostgreSQL. Call it behind `lacksPrograms('postgres')`. */
export async function startPostgres(): Promise<Postgres> {
  const programs = dirname(findProgram('postgres') ?? 'missing')
  const account = unprivilegedAccount()
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-pg-'))
  await chmod(directory, 0o700)
  if (account !== undefined) await chown(directory, account.uid, account.gid)
  const run = (program: string, args: string[]) =>
    promisify(execFile)(join(programs, program), args, { cwd: directory, ...account })

  const data = join(directory, 'data')
  // --no-sync: the empty cluster need not survive a power cut; what tests write is synced by the server itself.
  await run('initdb', ['-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'])

  async function startServer(port: number) {
    const settings = [`unix_socket_directories=${directory}`, 'listen_addresses=127.0.0.1', 'shared_buffers=16MB']
    const args = ['-D', data, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])]
    const child = spawn(join(programs, 'postgres'), args, {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'pipe'],
      ...account,
    })
    const lines = createInterface({ input: child.stderr })
    const log: string[] = []
    for await (const line of lines) {
      log.push(line)
      if (line.includes('database system is ready to accept connections')) {
        child.stderr.resume()
        return child
      }
    }
    throw new Error(`PostgreSQL did not start:\n${log.join('\n')}`)
  }
  let { port, server } = await startOnFreePort(startServer)

  async function stopServer() {
    if (server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGQUIT') // immediate shutdown: no checkpoint, so the next start recovers as after a crash
    await once(server, 'exit')
  }

  return {
    port,
    user: USER,
    async createDatabase(name) {
      await run('createdb', ['-h', directory, '-p', String(port), '-U', USER, name])
      return `postgres://${USER}@127.0.0.1:${port}/${name}`
    },
    async crash() {
      await stopServer()
      server = await startServer(port)
    },
    async kill() {
      // It makes no more of them meanwhile: the next server does not start beside one that is left.
      server.kill('SIGSTOP')
      const children = childrenOf(server.pid)
      server.kill('SIGKILL')
      for (const pid of children) killIfThere(pid)
      await stopServer()
      await until(() => !children.some(isAlive))
      server = await startServer(port)
    },
    async [Symbol.asyncDispose]() {
      await stopServer()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Tries another port when somebody has taken the one that was free a moment ago. */
async function startOnFreePort<T>(start: (port: number) => Promise<T>): Promise<{ port: number; server: T }> {
  for (let tries = 1; ; tries++) {
    const port = await freePort()
    try {
      return { port, server: await start(port) }
    } catch (error) {
      if (tries === MOST_PORTS || !String(error).includes('Address already in use')) throw error
    }
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself just now.
  }
}

/** PostgreSQL refuses to run as root: then it runs as the account its package made, or as nobody. */
function unprivilegedAccount(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (flag: string) => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: id('-u'), gid: id('-g') }
    } catch {
      // There is no such account on this machine; the next may exist.
    }
  }
  throw new Error('PostgreSQL refuses to run as root, and there is no account postgres or nobody')
}
