import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatKey } from '@cyberun/protocol'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type Installation, startInstallation } from '../../../testkit/src/installation.ts'
import { startOnPty } from '../../../testkit/src/pty-program.ts'
import { run } from '../support/run.ts'

let directory: string
let installation: Installation

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cyberun-terminal-'))
  installation = await startInstallation(directory, { CYBERUN_AGENT_TERMINAL: 'true' })
})
afterAll(async () => {
  await installation[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

/** `cyberun terminal` on a PTY. */
function open(more: readonly string[] = [], settings: Record<string, string> = {}) {
  const { words, env } = installation.command
  const command = [...words, 'terminal', installation.agentId, ...more]
  const program = startOnPty(command, { ...env, ...settings }, { cols: 100, rows: 30 })
  onTestFinished(() => program[Symbol.asyncDispose]())
  return { ...program, shows: (what: RegExp) => expect.poll(program.output).toMatch(what) }
}

test('a shell: its size, its exit code; left and found again', async () => {
  const first = open()
  await first.shows(/[$#] /)
  first.type('stty size; secret=kept; printf "\\033]0;owned\\007the-%s\\n" end\r')
  await first.shows(/30 100\r+\nthe-end/)
  expect(first.output()).not.toContain('\x1b]0;owned')
  first.type('\x1d')
  expect(await first.ended).toBe(0)
  const shell = /--shell ([0-9a-f]{32})/.exec(first.output())?.[1] ?? ''
  const second = open(['--shell', shell])
  second.type('echo still-$secret; exit 7\r')
  await second.shows(/still-kept/)
  expect(await second.ended).toBe(7)
})

test('an agent that is not there, and a shell that is not: one line, and the exit code that says so', async () => {
  const { ended, output } = open(['--shell', 'f'.repeat(32)])
  expect(await ended).toBe(1)
  expect(output()).toContain('This shell has ended, or was never yours.')
})

test('a server that is not there is told, and the exit code says so', async () => {
  const { ended, output } = open([], {
    CYBERUN_URL: 'http://127.0.0.1:1',
    CYBERUN_KEY: formatKey('sk', new Uint8Array(32)),
  })
  expect(await ended).toBe(6)
  expect(output()).toContain('http://127.0.0.1:1 opens no terminal: "cyberun doctor" finds out why')
})

test('without a terminal it says what to do instead', async () => {
  const { code, stderr } = await run(['terminal', 'studio'])
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('this needs a terminal') })
})
