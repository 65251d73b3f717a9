import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pattern } from '../../src/http-suite/build.ts'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { type Postgres, startPostgres } from '../../src/postgres.ts'
import { lacksPrograms } from '../../src/programs.ts'
import { type ProgramResult, runProgram } from '../../src/run-program.ts'
import { type Sshd, startSshd } from '../../src/sshd.ts'
import { runTcpSuite } from '../../src/tcp-suite.ts'

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

runTcpSuite({ name: 'cyberun forward', start: ({ port }) => installation.forward(port) }, { bulkMebibytes: 256 })

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

  test('scp of 1 GiB, up and down again', async () => {
    const [original, remote, back] = ['original', 'remote', 'back'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ]
    await writeBlocks(original, GIBIBYTE_BLOCKS)
    const options = [...sshd.clientOptions, '-q', '-P', String(forward.port)]
    expect(await runProgram('scp', [...options, original, `${sshd.destination}:${remote}`])).toEqual(succeeded(''))
    expect(await runProgram('scp', [...options, `${sshd.destination}:${remote}`, back])).toEqual(succeeded(''))
    expect(await hashOf(back)).toBe(await hashOf(original))
    for (const path of [original, remote, back]) rmSync(path)
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

const succeeded = (stdout: string): ProgramResult => ({ status: 0, stdout, stderr: '' })

async function writeBlocks(path: string, blocks: number): Promise<void> {
  const file = createWriteStream(path)
  for (let i = 0; i < blocks; i++) {
    const block = Buffer.from(pattern(4096))
    block.writeUInt32BE(i)
    if (!file.write(Buffer.concat(Array.from({ length: 256 }, () => block)))) await once(file, 'drain')
  }
  file.end()
  await once(file, 'finish')
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
