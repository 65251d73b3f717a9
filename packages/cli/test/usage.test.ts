import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { EXIT_CODES } from '../src/exit-codes.ts'
import { BINARY } from './support/binary.ts'
import { run } from './support/run.ts'

test.each([
  [['tunel'], 'Did you mean tunnel?'],
  [['tunnel', 'opn', 'a', '1'], 'Did you mean open?'],
  [['agents', '--jsn'], 'Did you mean --json?'],
  [['tunnel', 'open', 'a', '80', '--profile', 'emacs'], 'comfyui, jupyter'],
  [['tunnel', 'open', 'a', '80', '--idle-timeout', '30'], 'such as 45m or 8h'],
  [['tunnel', 'extend', 'a', '--idle-timeout', '25h'], 'from 1m to 24h'],
  [['forward', 'a'], "missing required argument 'port'"],
  [['forward', 'a', '0'], 'from 1 to 65535'],
  [['forward', 'a', '22', '--local', '70000'], 'from 0 to 65535'],
  [['keys', 'create'], '--name'],
  [['keys', 'create', '--name', 'x', '--kind', 'gold'], 'integration, agent'],
  [['help', 'nothing'], "unknown command 'nothing'"],
  [['login', '--url', 'ftp://x'], '--url must be a URL'],
  [['login', '--url', 'http://127.0.0.1:1'], 'give --email'],
  [['login', '--email', 'a@b.example'], 'give --password-stdin'],
])('%j is refused in one line that says what to do, exit 2', async (args, says) => {
  const { code, stdout, stderr } = await run(args)
  expect(stderr).toContain(says)
  expect(stderr).toMatch(/^error: .+\n$/)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
})

test('with --json a refusal is one JSON object on stderr', async () => {
  const { code, stdout, stderr } = await run(['tunel', '--json'])
  expect(JSON.parse(stderr)).toEqual({ error_code: 'usage', error_message: expect.stringContaining('tunel') })
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
})

test.each([[['--help']], [['help']], [['-h']]])('%j prints help, exit 0', async (args) => {
  const { code, stdout, stderr } = await run(args)
  for (const name of ['up', 'server', 'agent', 'login', 'whoami', 'tunnel', 'forward', 'keys', 'doctor']) {
    expect(stdout).toContain(`  ${name} `)
  }
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
})

test.skipIf(!existsSync('/dev/full'))('what cannot be written, as on a full disk, is an error', () => {
  const full = openSync('/dev/full', 'w')
  const { status, stderr } = spawnSync(process.execPath, [BINARY, 'help', 'exit-codes'], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  })
  closeSync(full)
  expect(stderr).toBe('error: what this command prints could not all be written: ENOSPC\n')
  expect(status).toBe(1)
})

test('help names a command as it is typed', async () => {
  expect((await run(['help', 'tunnel', 'open'])).stdout).toMatch(/^Usage: cyberun tunnel open/)
  expect((await run(['forward', '--help'])).stdout).toMatch(/^Usage: cyberun forward/)
})

test('the version is the package’s', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  expect(await run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
})

test('what the README’s tour sets up is found by ssh’s ProxyCommand, which no alias reaches', () => {
  const root = new URL('../../../', import.meta.url)
  const tour = readFileSync(new URL('README.md', root), 'utf8').split('## A tour')[1] ?? ''
  const setup = /^ {4}((?:alias|export).*)$/m.exec(tour)?.[1] ?? ''
  // As in a new terminal: those who run tests have more on their PATH.
  const env = { ...process.env, PATH: '/usr/bin:/bin' }
  const script = `${setup}; sh -c 'exec cyberun --version'`
  const { stdout } = spawnSync('sh', ['-c', script], { cwd: root, env, encoding: 'utf8' })
  expect(stdout).toMatch(/^\d+\./)
})

test('a settings file that is not there is not called bad YAML', async () => {
  const { code, stderr } = await run(['server', '--config', '/nope'])
  expect(stderr).toBe('error: /nope: cannot be read: ENOENT: no such file or directory\n')
  expect(code).toBe(2)
})

const readDocument = () => readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8')

test('exit codes are told by the program and by docs/cli.md alike', async () => {
  const document = readDocument().replace(/ +/g, ' ') // tables may be padded
  const { stdout } = await run(['help', 'exit-codes'])
  for (const [code, meaning] of Object.values(EXIT_CODES)) {
    expect(stdout).toContain(`${code}  ${meaning}\n`)
    expect(document).toContain(`| ${code} | ${meaning} |`)
  }
  expect(JSON.parse((await run(['help', 'exit-codes', '--json'])).stdout).exit_codes).toHaveLength(
    Object.keys(EXIT_CODES).length,
  )
})

test('every command is described in docs/cli.md', async () => {
  const document = readDocument()
  const { createProgram } = await import('../src/program.ts')
  const names = (command: ReturnType<typeof createProgram>, above: string): string[] => [
    ...(command.commands.length === 0 || command.name() === 'agent' ? [above] : []),
    ...command.commands.flatMap((child) => names(child, `${above} ${child.name()}`)),
  ]
  const program = createProgram({} as never, () => {})
  for (const name of names(program, 'cyberun')) expect(document).toContain(`\`${name}`)
})
