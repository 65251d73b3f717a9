import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { createLog } from '@cyberun/link/log'
import { isAlive } from '@cyberun/testkit'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { TerminalSettings } from '../../src/terminal/settings.ts'
import { startTerminals, type Terminals } from '../../src/terminal/terminals.ts'
import { ATTACH, FakeStream } from './shell-world.ts'

let stateDir: string
let terminals: Terminals
const lines: string[] = []

async function start(settings: TerminalSettings): Promise<Terminals> {
  lines.length = 0
  const env = {
    PATH: process.env['PATH'],
    CYBERUN_AGENT_KEY: 'ak-secret',
    CYBERUN_KEY: 'sk-secret',
    AWS_SECRET_ACCESS_KEY: 'secret',
  }
  terminals = await startTerminals({
    ...{ settings, stateDir, env, now: () => performance.now() },
    log: createLog({ level: 'info', format: 'json', write: (line) => void lines.push(line) }),
  })
  return terminals
}

function look(): FakeStream {
  const stream = new FakeStream()
  terminals.onStream(stream)
  stream.send({ type: 'attach', attach: ATTACH })
  return stream
}

function typist(stream: FakeStream): (line: string) => void {
  let position = 0
  return (line) => {
    const bytes = new Uint8Array(Buffer.from(`${line}\r`))
    stream.send({ type: 'input', position, bytes })
    position += bytes.length
  }
}

const shows = (stream: FakeStream, what: string | RegExp) => expect.poll(() => stream.screen).toMatch(what)

beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'cyberun-pty-'))
})
afterEach(async () => {
  await terminals.stop()
  rmSync(stateDir, { recursive: true, force: true })
})

test('a shell on a real PTY: its user, its size, colours, and no secret of the agent', async () => {
  await start({ shell: '/bin/sh' })
  expect(terminals.isOffered).toBe(true)
  const stream = look()
  const type = typist(stream)
  type('stty size; tput colors; id -un; env | sort | tr "\\n" "|"; echo; echo the-$((1+1))-end')
  await shows(stream, 'the-2-end\r\n')
  expect(stream.screen).toMatch(/24 80\r\n256\r\n/)
  expect(stream.screen).toContain(userInfo().username)
  expect(stream.screen).not.toContain('secret')
  expect(stream.screen.match(/CYBERUN_\w+/g), 'the mark of the tree alone').toEqual(['CYBERUN_PROCESS_TREE'])
  stream.send({ type: 'resize', cols: 132, rows: 50 })
  type('stty size')
  await shows(stream, '50 132')
  type('exit 7')
  await expect.poll(() => stream.frames.at(-1)).toEqual({ type: 'exited', code: 7, signal: null })
})

test('hanging up ends everything the shell has started, also what ignores it', async () => {
  await start({ shell: '/bin/sh' })
  const stream = look()
  typist(stream)('setsid sh -c \'trap "" HUP TERM; echo deaf $$; sleep 1000\' & sleep 1000')
  await shows(stream, /deaf (\d+)\r/)
  const pid = Number(/deaf (\d+)\r/.exec(stream.screen)?.[1])
  expect(isAlive(pid)).toBe(true)
  stream.send({ type: 'hang_up' })
  await expect.poll(() => isAlive(pid)).toBe(false)
})

test('the end of the agent ends every shell', async () => {
  await start(true)
  const stream = look()
  typist(stream)('sh -c \'trap "" HUP; echo stubborn $$; sleep 1000\'')
  await shows(stream, /stubborn (\d+)\r/)
  const pid = Number(/stubborn (\d+)\r/.exec(stream.screen)?.[1])
  await terminals.stop()
  expect(isAlive(pid)).toBe(false)
})

test('also one that ignores its end and has thrown away by what it would be found', async () => {
  await start({ shell: '/bin/sh' })
  const stream = look()
  typist(stream)("trap '' HUP; exec env -i /bin/sh -c 'echo immortal $$; while :; do /bin/sleep 1; done'")
  await shows(stream, /immortal (\d+)\r/)
  const pid = Number(/immortal (\d+)\r/.exec(stream.screen)?.[1])
  await terminals.stop()
  expect(isAlive(pid)).toBe(false)
})

test.skipIf(userInfo().uid !== 0)('as root, shells of another user have none of the rights of root', async () => {
  await start({ user: 'nobody', shell: '/bin/sh' })
  const stream = look()
  typist(stream)('id; cat /etc/shadow; echo the-$((1+1))-end')
  await shows(stream, 'the-2-end\r\n')
  expect(stream.screen).toMatch(/uid=65534\(nobody\) gid=65534\(nogroup\) groups=65534\(nogroup\)\r/)
  expect(stream.screen).toContain('Permission denied')
})

test.each([
  [{ user: 'no-such-user-here' }, /terminal\.user/],
  [{ shell: '/no/such/shell' }, /terminal\.shell: \/no\/such\/shell cannot be run/],
])('%j: no terminal, and one line that says why', async (settings, says) => {
  await start(settings)
  expect(terminals.isOffered).toBe(false)
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0] ?? '').hint).toMatch(says)
  const stream = look()
  expect(stream.resetBy).toBe('refused')
})

test('nothing is offered, and nothing is said, unless the owner asks for it', async () => {
  await start(false)
  expect({ offered: terminals.isOffered, lines }).toEqual({ offered: false, lines: [] })
})
