import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ArgumentError, fillArguments, placeholdersOf } from '../../../src/tools/command/arguments.ts'
import { createCommandTool } from '../../../src/tools/command/command.ts'
import { readProgress } from '../../../src/tools/command/progress-line.ts'
import { COMMANDS } from '../../../src/tools/command/settings.ts'
import { FILE_PLACEHOLDER, type Tool } from '../../../src/tools/tool.ts'
import { assignment, testRun } from '../test-run.ts'

const NEVER = new AbortController().signal

async function commandTool(...commands: unknown[]): Promise<Tool> {
  const stateDir = await mkdtemp(join(tmpdir(), 'cyberun-command-'))
  onTestFinished(() => rm(stateDir, { recursive: true, force: true }))
  return createCommandTool(COMMANDS.parse(commands), {
    log: createLog({ level: 'silent', format: 'json' }),
    stateDir,
    env: { PATH: process.env['PATH'], CYBERUN_AGENT_KEY: 'secret', AWS_SECRET: 'secret' },
    now: () => performance.now(),
  })
}

async function inputFile(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cyberun-command-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'input'), text)
  return join(folder, 'input')
}

/** A command that runs this JavaScript; `process.argv[1]` is its first argument. */
const script = (name: string, text: string, ...args: string[]) => ({
  name,
  program: process.execPath,
  args: ['-e', text.replaceAll('{', '{{').replaceAll('}', '}}'), '--', ...args],
})

describe('arguments', () => {
  const fill = (args: string[], values: Record<string, unknown>) => fillArguments({ args }, values)

  test('are filled one by one, whatever a value holds', () => {
    const values = { text: '$(rm -rf /) "; \n *', n: 4, on: true, list: [1, 'a'] }
    expect(fill(['--text={text}', '{n}', '{on}{n}', '{list}', '{{literal}}'], values)).toEqual([
      '--text=$(rm -rf /) "; \n *',
      '4',
      'true4',
      '[1,"a"]',
      '{literal}',
    ])
    expect(placeholdersOf({ args: ['{a}-{b}', '{a}', '{{c}}'] })).toEqual(['a', 'b'])
  })

  test.each([
    [['{file}'], { file: '--exec=evil' }, /file: must not begin with a dash/],
    [['{file}'], {}, /file: the command needs a value/],
    [['{toString}'], {}, /toString: the command needs a value/],
    [['{file}'], { file: 'a\0b' }, /file: must not hold a NUL/],
    [['{file}'], { file: 'x'.repeat(200_000) }, /131071 bytes/],
  ])('%j with %j are refused', (args, values, message) => {
    expect(() => fill(args, values)).toThrow(ArgumentError)
    expect(() => fill(args, values)).toThrow(message)
  })

  test('may begin with a dash where the owner has put something before, or where they are numbers', () => {
    expect(fill(['--in={file}', '{n}'], { file: '-x', n: -4 })).toEqual(['--in=-x', '-4'])
  })
})

test.each([
  ['progress: 0.4', { progress: 0.4 }],
  ['  Progress: 40% loading the model ', { progress: 0.4, message: 'loading the model' }],
  ['progress: .5', { progress: 0.5 }],
  ['progress: 1', { progress: 1 }],
  ['progress: 40', undefined],
  ['progress: soon', undefined],
  ['in progress: 0.4', undefined],
])('the line %j says %j', (line, progress) => {
  expect(readProgress(line)).toEqual(progress)
})

test.each([
  [[{ name: 'A b', program: 'x' }], /name/],
  [[{ name: 'a', program: 'x', args: ['{a'] }], /a brace stands alone/],
  [[{ name: 'a', program: 'x', env: { 'A=B': 'c' } }], /environment variable/],
  [
    [
      { name: 'a', program: 'x' },
      { name: 'a', program: 'y' },
    ],
    /two commands have the same name/,
  ],
  [[{ name: 'a', program: 'x', shell: true }], /shell/],
])('settings %j are refused', (settings, message) => {
  expect(() => COMMANDS.parse(settings)).toThrow(message)
})

describe('a command', () => {
  test('runs with its lines as logs, its progress told, its files kept and a minimal environment', async () => {
    const tool = await commandTool(
      script(
        'make',
        `const fs = require('fs'), [input, scale] = process.argv.slice(1)
         console.log('scale', scale, 'of', fs.readFileSync(input, 'utf8'))
         console.error('progress: 50% half')
         console.error('a warning')
         fs.mkdirSync('deep/er', { recursive: true })
         fs.writeFileSync('deep/er/b.json', '{}')
         fs.writeFileSync('a.png', 'picture')
         fs.writeFileSync('na\\nme \\u202e.txt', 'hostile')
         fs.writeFileSync(Buffer.from([0x66, 0xff]), 'no UTF-8')
         fs.symlinkSync('/etc/passwd', 'passwd')
         fs.symlinkSync('/etc', 'etc')
         console.log(Object.keys(process.env).sort().join())`,
        '{image}',
        '{scale}',
      ),
    )
    const { run, lines, progress, artifacts, notes } = await testRun(
      { workflow: { command: 'make' }, parameters: { image: `${FILE_PLACEHOLDER}key-1`, scale: 4 } },
      { 'key-1': await inputFile('an input') },
    )
    const outcome = await tool.run(run, NEVER)
    expect(lines.map(({ stream, line }) => `${stream} ${line}`)).toEqual(
      expect.arrayContaining([
        'stdout scale 4 of an input',
        'stderr a warning',
        'stdout CYBERUN_OUTPUT_DIR,CYBERUN_PROCESS_TREE,PATH',
      ]),
    )
    expect(progress).toEqual([{ progress: 0.5, message: 'half' }])
    expect(artifacts.map(({ key, fileName, contentType }) => [key, fileName, contentType])).toEqual([
      ['files.0', expect.stringMatching(/^\d-f/), 'application/octet-stream'],
      ['files.1', 'a.png', 'image/png'],
      ['files.2', 'b.json', 'application/json'],
      ['files.3', 'name .txt', 'text/plain'],
    ])
    expect(outcome).toMatchObject({
      kind: 'completed',
      output: { files: [{}, { path: 'a.png', size: 7, artifact: 'files.1' }, { path: 'deep/er/b.json' }, {}] },
    })
    expect(notes).toEqual(['etc is not kept: it is a link or no file', 'passwd is not kept: it is a link or no file'])
  })

  test.each([
    ['process.exit(3)', { code: 'exit_code', message: 'it ended with exit code 3.', fault: 'tool' }],
    [
      'console.error("out of cheese"); process.exitCode = 1',
      { code: 'exit_code', message: 'it ended with exit code 1. Its last line: out of cheese', fault: 'tool' },
    ],
    ['process.kill(process.pid, "SIGKILL")', { code: 'killed', message: /SIGKILL.*memory/, fault: 'tool' }],
  ])('that fails (%s) says how', async (text, { code, message, fault }) => {
    const tool = await commandTool(script('it', text))
    const { run } = await testRun({ workflow: { command: 'it' } })
    const outcome = await tool.run(run, NEVER)
    expect(outcome).toMatchObject({ kind: 'failed', code, fault })
    expect(outcome.kind === 'failed' && outcome.message).toMatch(message)
  })

  test('whose program is not there is one for another agent', async () => {
    const tool = await commandTool({ name: 'it', program: '/nowhere/it' })
    const { run } = await testRun({ workflow: { command: 'it' } })
    expect(await tool.run(run, NEVER)).toEqual({
      kind: 'failed',
      code: 'program_missing',
      message: 'it could not be started on this agent: ENOENT.',
      fault: 'missing',
    })
  })

  test('that the owner does not list is not run, and the nearest is named', async () => {
    const tool = await commandTool({ name: 'upscale', program: 'true', args: ['{scale}'] })
    const check = (workflow: Record<string, unknown>) => tool.check(assignment({ workflow }), NEVER)
    expect(await check({ command: 'upscail' })).toEqual({
      reason: 'not_allowed',
      message: "The agent's owner allows no command upscail. It has upscale.",
      detail: 'upscail',
    })
    expect(await check({})).toMatchObject({ reason: 'invalid' })
    expect(await check({ command: 'upscale' })).toEqual({
      reason: 'invalid',
      message: 'The command upscale needs the parameters scale.',
    })
  })

  test('gets a client error for a value that could become an option', async () => {
    const tool = await commandTool({ name: 'it', program: 'true', args: ['{file}'] })
    const { run } = await testRun({ workflow: { command: 'it' }, parameters: { file: '--version' } })
    expect(await tool.run(run, NEVER)).toMatchObject({ kind: 'failed', code: 'invalid_parameters', fault: 'client' })
  })
})
