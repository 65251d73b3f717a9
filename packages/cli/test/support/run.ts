import { Readable, Writable } from 'node:stream'
import { main } from '../../src/main.ts'
import { folder } from './folder.ts'

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

/** Runs a command in this process, away from any terminal, with an environment of its own. */
export async function run(
  args: readonly string[],
  given: { env?: Record<string, string>; cwd?: string; stdin?: string } = {},
): Promise<Ran> {
  const home = given.cwd ?? folder()
  const out = collector()
  const err = collector()
  const code = await main({
    argv: ['node', 'cyberun', ...args],
    execPath: process.execPath,
    env: { HOME: home, ...given.env },
    cwd: () => home,
    stdin: Readable.from(given.stdin === undefined ? [] : [given.stdin]) as never,
    stdout: out.stream as never,
    stderr: err.stream as never,
  })
  return { code, stdout: out.text(), stderr: err.text() }
}

function collector() {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk)
      done()
    },
  })
  return { stream, text: () => text }
}
