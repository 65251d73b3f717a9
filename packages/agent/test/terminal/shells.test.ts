import { randomOf } from '@cyberun/testkit'
import { expect, test } from 'vitest'
import { SHELL_LIMITS } from '../../src/terminal/limits.ts'
import { ATTACH, FakeStream, shellWorld } from './shell-world.ts'

const shellOf = (stream: FakeStream): string => stream.last('attached').attached.shell
const text = (bytes: string): Uint8Array => new Uint8Array(Buffer.from(bytes))
const MIB = 1024 * 1024

test('a viewer gets what the program says, and the program what the viewer types', () => {
  using world = shellWorld()
  const stream = world.look()
  expect(stream.last('attached').attached).toMatchObject({ position: 0, input: 0, cols: 80, rows: 24 })
  world.pty.say('$ ')
  stream.send({ type: 'input', position: 0, bytes: text('ls\r') })
  world.pty.say('file\r\n')
  expect({ screen: stream.screen, typed: world.pty.typed }).toEqual({ screen: '$ file\r\n', typed: 'ls\r' })
  expect(stream.last('received').position).toBe(3)
  expect(world.pty.options).toMatchObject({ cols: 80, rows: 24, cwd: '/' })
})

test('500 lost connections: every byte of output arrives once, and every byte typed is taken once', () => {
  using world = shellWorld()
  const random = randomOf(7)
  let stream = world.look()
  const shell = shellOf(stream)
  let said = ''
  let shown = ''
  let typed = ''
  for (let round = 0; round < 500; round++) {
    const line = `line ${round} ${'x'.repeat(random() * 300)}\r\n`
    said += line
    world.pty.say(line)
    const before = typed.length
    typed += `k${round} `
    const bytes = text(typed.slice(before))
    stream.send({ type: 'input', position: before, bytes })
    if (random() < 0.3) continue
    // Some of what was sent never arrived, on either way.
    const arrived = stream.screen.slice(0, Math.floor(stream.screen.length * random()))
    shown += arrived
    stream.lose()
    stream = world.look({ shell, position: shown.length })
    const { attached } = stream.last('attached')
    expect(attached).toMatchObject({ position: shown.length, is_reset: false, input: typed.length })
    // The viewer did not know whether it arrived.
    if (random() < 0.5) stream.send({ type: 'input', position: before, bytes })
    stream.send({ type: 'taken', position: shown.length })
  }
  shown += stream.screen
  expect(shown).toBe(said)
  expect(world.pty.typed).toBe(typed)
})

test('what is older than is kept is gone, and the screen begins clean with the modes and colours of then', () => {
  using world = shellWorld()
  const first = world.look()
  const shell = shellOf(first)
  first.lose()
  world.pty.say('\x1b[?2004h\x1b[?1h\x1b[1;31m')
  world.pty.say(`${'0123456789\r\n'.repeat(MIB / 12 + 5_000)}the end`)
  const second = world.look({ shell, position: 0 })
  const { attached } = second.last('attached')
  expect(attached.is_reset).toBe(true)
  expect(attached.prefix).toBe('\x1b[?2004h\x1b[?1h\x1b[1;31m')
  let position = attached.position
  while (!second.screen.endsWith('the end')) {
    position = second.last('output').position + second.last('output').bytes.length
    second.send({ type: 'taken', position })
  }
  expect(second.screen.length - attached.prefix.length).toBe(MIB)
})

test.each([
  ['in the middle of a sequence', `\x1b[38;5;12${'3'.repeat(10)}m`, 'm'],
  ['in the middle of a character', '日', ''],
  ['in the middle of a string without end', '\x1b]0;', undefined],
])('a redraw does not begin %s', (_where, sequence, rest) => {
  using world = shellWorld()
  const first = world.look()
  const shell = shellOf(first)
  first.lose()
  world.pty.say(sequence)
  world.pty.say('y'.repeat(SHELL_LIMITS.ringBytes - (Buffer.byteLength(sequence) - 2)))
  const { attached } = world.look({ shell }).last('attached')
  const start = 2
  expect(attached.position - start).toBe(
    rest === undefined ? SHELL_LIMITS.outputBytes : Buffer.byteLength(sequence) - start,
  )
})

test('a slow viewer is resynchronised, and holds up nobody', () => {
  using world = shellWorld()
  const fast = world.look()
  const slow = world.look({ shell: shellOf(fast), viewer: 'viewer-2' })
  slow.isBlocked = true
  for (let round = 0; round < 40; round++) {
    world.pty.say('z'.repeat(64 * 1024))
    fast.send({ type: 'taken', position: (round + 1) * 64 * 1024 })
    expect(world.pty.isPaused, 'the program never waits for the slow one').toBe(false)
  }
  expect(fast.screen.length).toBe(40 * 64 * 1024)
  expect(slow.screen.length).toBeLessThanOrEqual(64 * 1024)
  slow.unblock()
  expect(slow.last('attached').attached).toMatchObject({ is_reset: true, position: 40 * 64 * 1024 - MIB })
})

test('when every viewer is behind, the program waits; when nobody looks, it does not', () => {
  using world = shellWorld()
  const stream = world.look()
  world.pty.say('a'.repeat(255 * 1024))
  expect(world.pty.isPaused).toBe(false)
  world.pty.say('a'.repeat(64 * 1024))
  expect(world.pty.isPaused).toBe(true)
  expect(stream.screen.length, 'no more than a window is on its way').toBe(256 * 1024)
  stream.send({ type: 'taken', position: 200 * 1024 })
  expect(world.pty.isPaused).toBe(false)
  world.pty.say('a'.repeat(256 * 1024))
  expect(world.pty.isPaused).toBe(true)
  stream.lose()
  expect(world.pty.isPaused).toBe(false)
})

test('a program that does not read holds its viewer up, who is cut off when it goes on regardless', () => {
  using world = shellWorld()
  const stream = world.look()
  world.pty.isDeaf = true
  for (let at = 0; at < 4; at++) stream.send({ type: 'input', position: at * 16_384, bytes: new Uint8Array(16_384) })
  expect(stream.frames.some(({ type }) => type === 'received')).toBe(false)
  expect(stream.resetBy).toBeUndefined()
  stream.send({ type: 'input', position: 4 * 16_384, bytes: text('x') })
  expect(stream.resetBy).toBe('flow_control')
})

test('the size and the answers are those of the viewer that typed last', () => {
  using world = shellWorld()
  const first = world.look()
  const second = world.look({ shell: shellOf(first), viewer: 'viewer-2', cols: 120, rows: 40 })
  expect(second.last('state')).toEqual({ type: 'state', cols: 80, rows: 24, viewers: 2 })
  second.send({ type: 'report', bytes: text('\x1b[0n') })
  expect(world.pty.typed).toBe('')
  second.send({ type: 'input', position: 0, bytes: text('a') })
  expect(world.pty.sizes.at(-1)).toEqual({ cols: 120, rows: 40 })
  expect(first.last('state')).toEqual({ type: 'state', cols: 120, rows: 40, viewers: 2 })
  second.send({ type: 'report', bytes: text('\x1b[0n') })
  first.send({ type: 'report', bytes: text('\x1b[1;1R') })
  expect(world.pty.typed).toBe('a\x1b[0n')
  second.send({ type: 'resize', cols: 90, rows: 20 })
  first.send({ type: 'resize', cols: 10, rows: 10 })
  expect(world.pty.sizes.at(-1)).toEqual({ cols: 90, rows: 20 })
  second.lose()
  expect(first.last('state').viewers).toBe(1)
})

test.each([
  ['\x1b[?1;2c', true],
  ['\x1b[0n', true],
  ['\x1b[24;80R', true],
  ['\x1b[999;1000R', true],
  ['\x1b[>0;276;0c', false],
  ['\x1b[?24;80R', false],
  ['\x1b]11;rgb:1/2/3\x07', false],
  ['\x1bP1$r0m\x1b\\', false],
  ['rm -rf ~\r', false],
  ['\x1b[0n\r', false],
  ['x\x1b[0n', false],
  ['\x1b[24;80R\n', false],
])('a report %j is typed: %s', (report, isTyped) => {
  using world = shellWorld()
  const stream = world.look()
  stream.send({ type: 'report', bytes: text(report) })
  expect(world.pty.typed).toBe(isTyped ? report : '')
})

test('questions that a viewer has seen are not answered by the next one; those that nobody saw are', () => {
  using world = shellWorld()
  const first = world.look()
  const shell = shellOf(first)
  world.pty.say('0123456789')
  const second = world.look({ shell, viewer: 'viewer-2' })
  expect(second.last('attached').attached).toMatchObject({ position: 0, answer_from: 10 })
  second.lose()
  first.lose()
  world.pty.say('abc')
  expect(world.look({ shell, viewer: 'viewer-3' }).last('attached').attached.answer_from).toBe(10)
  world.look({ shell, viewer: 'viewer-3' }).lose()
  const alone = world.look({ shell, position: 5 })
  expect(alone.last('attached').attached.answer_from, 'it comes back alone: its answer was lost with the link').toBe(5)
})

test('a shell is for its own scope only, and an unknown one is refused alike', () => {
  using world = shellWorld()
  const shell = shellOf(world.look())
  const foreign = world.look({ shell, scope: 'user:2' })
  const unknown = world.look({ shell: 'f'.repeat(32) })
  expect(foreign.frames).toEqual(unknown.frames)
  expect(foreign.last('refused').reason).toBe('unknown_shell')
  expect(foreign.hasEnded && unknown.hasEnded).toBe(true)
})

test('an older connection of the same viewer is over when it comes again', () => {
  using world = shellWorld()
  const first = world.look()
  const again = world.look({ shell: shellOf(first), position: 0 })
  expect(first.resetBy).toBe('cancelled')
  expect(again.last('state').viewers).toBe(1)
})

test('there are so many shells, and so many viewers of one', () => {
  using world = shellWorld()
  const streams = Array.from({ length: SHELL_LIMITS.shells }, () => world.look())
  expect(world.look().last('refused').reason).toBe('too_many')
  const shell = shellOf(streams[0] as FakeStream)
  for (let viewer = 1; viewer < SHELL_LIMITS.viewers; viewer++) world.look({ shell, viewer: `more-${viewer}` })
  expect(world.look({ shell, viewer: 'one-more' }).last('refused').reason).toBe('too_many')
})

test('nobody looks for 15 minutes: the shell ends, and a moment later it is forgotten', () => {
  using world = shellWorld()
  const stream = world.look()
  const shell = shellOf(stream)
  world.clock.now += 10 * SHELL_LIMITS.idleMs
  world.terminals.sweep()
  expect(world.pty.hangUps, 'somebody looks').toBe(0)
  stream.lose()
  world.clock.now += SHELL_LIMITS.idleMs - 1
  world.terminals.sweep()
  expect(world.pty.hangUps).toBe(0)
  world.clock.now += 1
  world.terminals.sweep()
  expect(world.pty.hangUps).toBe(1)
  expect(world.look({ shell }).last('exited')).toEqual({ type: 'exited', code: null, signal: 'SIGHUP' })
  world.clock.now += SHELL_LIMITS.endedMs
  world.terminals.sweep()
  expect(world.look({ shell }).last('refused').reason).toBe('unknown_shell')
})

test('the last words of a program reach a viewer who was away when it ended', () => {
  using world = shellWorld()
  const stream = world.look()
  const shell = shellOf(stream)
  world.pty.say('almost ')
  stream.lose()
  world.pty.say('done')
  world.pty.end({ code: 3, signal: 0 })
  const back = world.look({ shell, position: 7 })
  expect(back.screen).toBe('done')
  expect(back.last('exited')).toEqual({ type: 'exited', code: 3, signal: null })
  expect(back.hasEnded).toBe(true)
})

test('the end of a scope ends its shells and no other', () => {
  using world = shellWorld()
  const mine = world.look({ scope: 'tunnel:1' })
  const [minePty] = world.ptys
  const other = world.look({ scope: 'tunnel:2' })
  const stream = endScope(world, 'tunnel:1')
  expect(stream.hasEnded).toBe(true)
  expect({ reset: mine.resetBy, hangUps: minePty?.hangUps }).toEqual({ reset: 'cancelled', hangUps: 1 })
  expect(other.resetBy).toBeUndefined()
})

test('the end of a right ends the shells it has started, also for others who look on, and no other', () => {
  using world = shellWorld()
  const opener = world.look({ right: 'credential:1' })
  const [itsPty] = world.ptys
  opener.lose()
  const colleague = world.look({ shell: shellOf(opener), viewer: 'viewer-2', right: 'credential:2' })
  world.look({ right: 'credential:2', viewer: 'viewer-3' })
  world.look({ viewer: 'viewer-4' })
  endScope(world, 'credential:1')
  expect({ reset: colleague.resetBy, hangUps: itsPty?.hangUps }).toEqual({ reset: 'cancelled', hangUps: 1 })
  expect(world.ptys.slice(1).map(({ hangUps }) => hangUps)).toEqual([0, 0])
})

function endScope(world: ReturnType<typeof shellWorld>, scope: string): FakeStream {
  const stream = new FakeStream()
  world.terminals.onStream(stream)
  stream.send({ type: 'end_scope', scope })
  return stream
}

test('a stream that has had its answer gets no shell', () => {
  using world = shellWorld()
  const stream = endScope(world, 'tunnel:other')
  stream.send({ type: 'attach', attach: ATTACH })
  expect(stream.resetBy).toBe('internal')
  expect(stream.frames).toEqual([])
})

test.each([
  ['a second attach', { type: 'attach', attach: ATTACH } as const],
  ['input with a hole before it', { type: 'input', position: 5, bytes: text('x') } as const],
])('%s ends the connection, and the shell goes on', (_what, frame) => {
  using world = shellWorld()
  const stream = world.look()
  stream.send(frame)
  expect(stream.resetBy).toBe('internal')
  expect(world.pty.hangUps).toBe(0)
  expect(world.look({ shell: shellOf(stream) }).last('attached')).toBeDefined()
})

test('bytes that are no frame end the connection', () => {
  using world = shellWorld()
  const stream = world.look()
  stream.sendBytes(Uint8Array.of(2, 255, 255, 255))
  expect(stream.resetBy).toBe('internal')
})

test('hanging up ends the program, and its viewers are told how', () => {
  using world = shellWorld()
  const stream = world.look()
  stream.send({ type: 'hang_up' })
  expect(world.pty.hangUps).toBe(1)
  expect(stream.last('exited').signal).toBe('SIGHUP')
})

test('a full-screen program is asked to draw anew for who joins', async () => {
  using world = shellWorld()
  const first = world.look()
  world.pty.say('\x1b[?1049hfull screen')
  world.look({ shell: shellOf(first), viewer: 'viewer-2' })
  expect(world.pty.sizes.at(-1)).toEqual({ cols: 80, rows: 23 })
  await expect.poll(() => world.pty.sizes.at(-1)).toEqual({ cols: 80, rows: 24 })
})
