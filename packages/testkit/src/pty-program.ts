import { spawn } from 'node:child_process'
import { StringDecoder } from 'node:string_decoder'
import headless from '@xterm/headless'
import { drawTerminal, type Paper } from './terminal-picture.ts'

/** A program on a pseudo terminal, and what somebody in front of it sees. */
export interface PtyProgram extends AsyncDisposable {
  /** Everything that it has printed so far and that the terminal has drawn, with its escape sequences. */
  output(): string
  /** The lines of the terminal, those scrolled out of sight too, each without the blanks at its end. */
  screen(): string[]
  /** The same as a picture, PGM, of a terminal that draws on `paper` where a program asks for no colour. */
  picture(paper: Paper): Buffer
  type(text: string): void
  /** Resolves with its exit code, once all that it printed is drawn. */
  readonly ended: Promise<number | null>
}

/** Starts a program on a PTY that `script` (util-linux) makes for it. Its words must need no quoting. */
export function startOnPty(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  { cols, rows }: { cols: number; rows: number },
): PtyProgram {
  const terminal = new headless.Terminal({ cols, rows, scrollback: 1_000, allowProposedApi: true })
  const command = `stty cols ${cols} rows ${rows}; exec ${words.join(' ')}`
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, ...env } })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    const decoder = new StringDecoder()
    // The terminal draws later than it is written to: what `output` tells must be on `screen`, too.
    stream.on('data', (bytes: Buffer) => terminal.write(bytes, () => (output += decoder.write(bytes))))
  }
  const ended = new Promise<number | null>((resolve) =>
    child.on('close', (code) => terminal.write('', () => resolve(code))),
  )
  return {
    output: () => output,
    screen() {
      const { active } = terminal.buffer
      return Array.from({ length: active.length }, (_, y) => active.getLine(y)?.translateToString(true) ?? '')
    },
    picture: (paper) => drawTerminal(terminal, paper),
    type: (text) => void child.stdin.write(text),
    ended,
    async [Symbol.asyncDispose]() {
      child.kill()
      await ended
      terminal.dispose()
    },
  }
}
