import headless from '@xterm/headless'
import { expect, test } from 'vitest'
import { type FakeStream, shellWorld } from '../../../agent/test/terminal/shell-world.ts'
import { randomOf } from '../../src/random.ts'

/** A terminal as the page has it, without a browser. */
class Screen {
  readonly #terminal = new headless.Terminal({ cols: 80, rows: 24, scrollback: 5_000, allowProposedApi: true })

  write(text: string): Promise<void> {
    return new Promise((resolve) => this.#terminal.write(Buffer.from(text, 'latin1'), resolve))
  }

  /** Every line with the colours of its cells, the cursor, and which of the two screens it is. */
  get contents(): unknown {
    const { active } = this.#terminal.buffer
    const cell = active.getNullCell()
    const lines = Array.from({ length: active.length }, (_, y) => {
      const line = active.getLine(y)
      const cells = Array.from({ length: 80 }, (__, x) => {
        const found = line?.getCell(x, cell)
        return `${found?.getChars()}/${found?.getFgColor()}/${found?.getBgColor()}/${found?.isBold()}`
      })
      return cells.join(' ')
    })
    return { lines, x: active.cursorX, y: active.cursorY, kind: active.type }
  }
}

/** What programs print: lines, colours, moves, wide characters, the other screen and back. */
function outputOf(random: () => number): string {
  const pieces = [
    () => `line ${Math.floor(random() * 1e6)}\r\n`,
    () => `\x1b[${30 + Math.floor(random() * 8)};1mcoloured\x1b[0m `,
    () => `\x1b[38;5;${Math.floor(random() * 256)}m`,
    () => `\x1b[${1 + Math.floor(random() * 24)};${1 + Math.floor(random() * 80)}H`,
    () => Buffer.from('日本 ✓ é').toString('latin1'),
    () => '\x1b[2K\r50 %\r100 %\r\n',
    () => '\x1b[?1049h\x1b[Hfull screen\x1b[?1049l',
    () => '\x1b[5;20r\x1b[20;1Hscrolls\r\n\r\n\x1b[r',
    () => `${'x'.repeat(Math.floor(random() * 200))}\r\n`,
  ]
  return pieces[Math.floor(random() * pieces.length)]?.() ?? ''
}

test.each([1, 2, 3, 4, 5])('20 lost connections, seed %i: the screen is that of an unbroken run', async (seed) => {
  using world = shellWorld()
  const random = randomOf(seed)
  const unbroken = new Screen()
  const cut = new Screen()
  let shown = 0
  let stream: FakeStream = world.look()
  const { shell } = stream.last('attached').attached
  const show = async (count: number): Promise<void> => {
    const text = stream.screen.slice(0, count)
    shown += text.length
    await cut.write(text)
  }
  for (let round = 0; round < 20; round++) {
    const text = Array.from({ length: 40 }, () => outputOf(random)).join('')
    await unbroken.write(text)
    const bytes = Buffer.from(text, 'latin1')
    const at = Math.floor(random() * bytes.length)
    world.pty.say(bytes.subarray(0, at))
    // Some of what was sent had not arrived when the connection was lost, in the middle of anything.
    await show(Math.floor(stream.screen.length * random()))
    stream.lose()
    world.pty.say(bytes.subarray(at))
    stream = world.look({ shell, position: shown })
    expect(stream.last('attached').attached.is_reset).toBe(false)
  }
  await show(stream.screen.length)
  expect(cut.contents).toEqual(unbroken.contents)
})
