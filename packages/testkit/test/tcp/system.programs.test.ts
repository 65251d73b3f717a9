import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pattern } from '../../src/http-suite/build.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { type Postgres, startPostgres } from '../../src/postgres.ts'
import { lacksPrograms, requireProgram } from '../../src/programs.ts'
import { type ProgramResult, runProgram } from '../../src/run-program.ts'
import { type Sshd, startSshd } from '../../src/sshd.ts'

const GIBIBYTE_BLOCKS = 1024

let directory: string
let installation: Installation

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-tcp-'))
  installation = await startInstallation(directory)
})
afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

describe.skipIf(lacksPrograms('psql', 'pgbench', 'postgres'))('PostgreSQL through cyberun forward', () => {
  let postgres: Postgres
  let forward: Awaited<ReturnType<Installation['forward']>>
  let url: string

  beforeAll(async () => {
    postgres = await startPostgres()
    forward = await installation.forward(postgres.port)
    url = (await postgres.createDatabase('tunnel')).replace(`:${postgres.port}/`, `:${forward.port}/`)
  })
  afterAll(async () => {
    await forward.stop()
    await postgres[Symbol.asyncDispose]()
  })
  const psql = (sql: string, input?: string) =>
    runProgram('psql', [url, '-XAtq', '-c', sql], input === undefined ? {} : { input })

  test('psql asks and is answered', async () => {
    expect(await psql('select 6 * 7')).toEqual(succeeded('42\n'))
  })

  test('psql copies 200,000 rows in and out again', async () => {
    const rows = Array.from({ length: 200_000 }, (_, i) => `${i}\t${i * 7919}\n`).join('')
    expect(await psql('create table copied (a int primary key, b bigint)')).toEqual(succeeded(''))
    expect(await psql('copy copied from stdin', rows)).toEqual(succeeded(''))
    const { stdout } = await psql('copy (select a, b from copied order by a) to stdout')
    expect(stdout === rows).toBe(true)
  })

  test('an error of the server leaves psql where it would be', async () => {
    const { status, stderr } = await psql('select 1/0')
    expect(status).toBe(1)
    expect(stderr).toContain('division by zero')
  })

  test('psql cancels a query over a second connection', async () => {
    const sleeper = spawn(requireProgram('psql'), [url, '-XAtqc', 'select pg_sleep(60)'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const ended = outcomeOf(sleeper)
    const asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    await expect.poll(async () => (await psql(asleep)).stdout).toBe('1\n')
    sleeper.kill('SIGINT')
    expect(await ended).toContain('canceling statement due to user request')
  })

  test('pgbench with eight clients', async () => {
    const init = await runProgram('pgbench', ['-i', '-q', '-s', '1', url])
    expect(init.status, init.stderr).toBe(0)
    const run = await runProgram('pgbench', ['-n', '-c', '8', '-j', '2', '-t', '100', url])
    expect(run.status, run.stderr).toBe(0)
    expect(run.stdout).toContain('number of transactions actually processed: 800/800')
    expect(run.stdout).toContain('number of failed transactions: 0')
  })
})

describe.skipIf(lacksPrograms('ssh', 'sshd', 'scp', 'rsync'))('OpenSSH through cyberun forward', () => {
  let sshd: Sshd
  let forward: Awaited<ReturnType<Installation['forward']>>

  beforeAll(async () => {
    sshd = await startSshd(join(directory, 'sshd'))
    forward = await installation.forward(sshd.port)
  })
  afterAll(async () => {
    await forward.stop()
    await sshd[Symbol.asyncDispose]()
  })
  const ssh = (command: string, input?: Uint8Array): Promise<ProgramResult> => {
    const args = [...sshd.clientOptions, '-p', String(forward.port), sshd.destination, command]
    return runProgram('ssh', args, input === undefined ? {} : { input })
  }

  test('ssh runs a command and hands its status on', async () => {
    expect(await ssh('echo out; echo err >&2; exit 7')).toEqual({ status: 7, stdout: 'out\n', stderr: 'err\n' })
  })

  test('the end of standard input arrives, and the answer after it', async () => {
    const bytes = pattern(8 << 20)
    const { stdout } = await ssh('sha256sum', bytes)
    expect(stdout.split(' ')[0]).toBe(createHash('sha256').update(bytes).digest('hex'))
  })

  test('ssh with cyberun forward --stdio as its ProxyCommand', async () => {
    const { words, env } = installation.command
    const proxy = [...words, 'forward', '--stdio', installation.agentId, String(sshd.port)].join(' ')
    const args = [...sshd.clientOptions, '-o', `ProxyCommand=${proxy}`, sshd.destination, 'cat; exit 3']
    expect(await runProgram('ssh', args, { input: 'through stdio', env })).toMatchObject({
      status: 3,
      stdout: 'through stdio',
    })
  })

  test('scp of 1 GiB', async () => {
    const [original, copy] = [join(directory, 'original'), join(directory, 'copy of it')]
    await writeBlocks(original, GIBIBYTE_BLOCKS)
    // The cipher that costs least on the processors of CI: what is measured here is patience.
    const options = [...sshd.clientOptions, '-o', 'Ciphers=aes128-gcm@openssh.com', '-q', '-P', String(forward.port)]
    expect(await runProgram('scp', [...options, original, `${sshd.destination}:${copy}`])).toEqual(succeeded(''))
    expect(await hashOf(copy)).toBe(await hashOf(original))
    rmSync(copy)
  })

  test('scp of 128 MiB back', async () => {
    const [original, copy] = [join(directory, 'source'), join(directory, 'fetched')]
    await writeBlocks(original, GIBIBYTE_BLOCKS / 8)
    const options = [...sshd.clientOptions, '-q', '-P', String(forward.port)]
    expect(await runProgram('scp', [...options, `${sshd.destination}:${original}`, copy])).toEqual(succeeded(''))
    expect(await hashOf(copy)).toBe(await hashOf(original))
  })

  test('rsync of a tree, and of what changed in it', async () => {
    const [here, there] = [join(directory, 'tree'), join(directory, 'copy')]
    writeTree(here, 500)
    const args = ['-a', '--stats', '-e', ['ssh', ...sshd.clientOptions, '-p', String(forward.port)].join(' ')]
    const sync = () => runProgram('rsync', [...args, `${here}/`, `${sshd.destination}:${there}`])
    expect((await sync()).status).toBe(0)
    expect(treeOf(there)).toEqual(treeOf(here))
    writeFileSync(join(here, '0', 'file-0'), 'changed')
    const second = await sync()
    expect(second.status).toBe(0)
    expect(second.stdout).toContain('Number of regular files transferred: 1\n')
    expect(treeOf(there)).toEqual(treeOf(here))
  })
})

/** What a program wrote to standard error until it ended. */
async function outcomeOf({ stderr }: ChildProcess): Promise<string> {
  let text = ''
  for await (const bytes of stderr ?? []) text += String(bytes)
  return text
}

const succeeded = (stdout: string): ProgramResult => ({ status: 0, stdout, stderr: '' })

/** Writes `blocks` MiB, each block different. */
async function writeBlocks(path: string, blocks: number): Promise<void> {
  const block = pattern(1 << 20)
  const file = await open(path, 'w')
  for (let i = 0; i < blocks; i++) {
    block.writeUInt32BE(i)
    await file.write(block)
  }
  await file.close()
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(bytes as Buffer)
  return hash.digest('hex')
}

function writeTree(root: string, files: number): void {
  for (let i = 0; i < files; i++) {
    const folder = join(root, String(i % 10))
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file-${i}`), pattern(i * 37))
  }
}

/** Every file below `root` with its content. */
function treeOf(root: string): Record<string, string> {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort()
  return Object.fromEntries(paths.map((path) => [path.slice(root.length), readFileSync(path, 'latin1')]))
}
