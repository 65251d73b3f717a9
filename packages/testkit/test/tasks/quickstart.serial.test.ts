import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Installation, startInstallation } from '../../src/installation.ts'
import { lacksPrograms, requireProgram } from '../../src/programs.ts'
import { type ProgramResult, runProgram } from '../../src/run-program.ts'

/** The three calls of the quickstart, by programs that know nothing of ours: the files under docs/examples. */

const EXAMPLES = join(import.meta.dirname, '../../../../docs/examples')
const PNG = Buffer.from('89504e470d0a1a0a', 'hex')

let directory = ''
let installation: Installation
let env: Record<string, string>

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cyberun-quickstart-'))
  installation = await startInstallation(directory)
  const quickstart = JSON.parse(await readFile(join(directory, 'data/quickstart.json'), 'utf8'))
  env = {
    CYBERUN_URL: quickstart.control_url,
    CYBERUN_KEY: quickstart.integration_key,
    no_proxy: '127.0.0.1,localhost',
  }
})
afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  await rm(directory, { recursive: true })
})

const PARAMETERS = '{"width": 160, "height": 120, "palette": "ocean"}'
/** Every point takes all steps: this is still being drawn when somebody follows it, however slow they are. */
const LONG = '{"width": 160, "height": 120, "iterations": 10000, "zoom": 8, "center_x": -0.2, "center_y": 0}'

/** Runs an example; `file` is what it saved. */
async function example(program: 'sh' | 'python3', name: string, slug: string, parameters: string) {
  const path = join(directory, `${name}.png`)
  const command = program === 'sh' ? '/bin/sh' : requireProgram(program)
  const result: ProgramResult = await runProgram(command, [join(EXAMPLES, name), slug, parameters, path], { env })
  return { ...result, file: () => readFileSync(path) }
}

function expectPicture(bytes: Buffer): void {
  expect(bytes.subarray(0, 8)).toEqual(PNG)
  expect([bytes.readUInt32BE(16), bytes.readUInt32BE(20)]).toEqual([160, 120])
}

describe.skipIf(lacksPrograms('curl'))('with curl', () => {
  test('submit, follow, fetch', async () => {
    const { status, stdout, stderr, file } = await example('sh', 'quickstart.sh', 'demo-fractal', PARAMETERS)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect([...stdout.matchAll(/^event: (status|artifact|completed)$/gm)].map(([, name]) => name)).toEqual([
      'status',
      'status',
      'status',
      'artifact',
      'completed',
    ])
    expectPicture(file())
  })

  test('what is wrong with the parameters is said', async () => {
    const { status, stderr } = await example('sh', 'quickstart.sh', 'demo-fractal', '{"widht": 1}')
    expect(status).not.toBe(0)
    expect(stderr).toContain('did you mean width?')
  })
})

describe.skipIf(lacksPrograms('python3'))('with Python and no library', () => {
  test('submit, follow, fetch', async () => {
    const { status, stdout, stderr, file } = await example('python3', 'quickstart.py', 'demo-fractal', LONG)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^\d+%$/m)
    expect(stdout).toMatch(/^saved .*\.png$/m)
    expectPicture(file())
  })

  test('an unknown workflow ends it', async () => {
    const { status, stderr } = await example('python3', 'quickstart.py', 'demo-fraktal', PARAMETERS)
    expect(status).not.toBe(0)
    expect(stderr).toContain('404')
  })
})
