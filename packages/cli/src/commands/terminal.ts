import { TERMINAL_LIMITS, type TerminalSize } from '@cyberun/protocol'
import { type Account, connect } from '../connect.ts'
import { type Context, type Output, printNote } from '../context.ts'
import { CliError } from '../errors.ts'
import type { ExitName } from '../exit-codes.ts'
import { onInterrupt } from '../interrupt.ts'
import { accessToken, teamOf } from '../session-file.ts'
import { OutputFilter } from '../terminal/output-filter.ts'
import { type Credential, openShellSession, type ShellEnd } from '../terminal/shell-session.ts'
import { printable } from '../text.ts'

export interface TerminalOptions {
  shell?: string
}

/** Ctrl+]: leaves the shell to itself, as in telnet. */
const DETACH = 0x1d
/** Undoes what a program that was cut off may have set: the other screen, a hidden cursor, the mouse, pasting, colours. */
const RESTORE = '\x1b[!p\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[m'
const CLEAR = '\x1b[!p\x1b[m\x1b[H\x1b[2J\x1b[3J'
/** What shells answer with for a program that a signal ended (POSIX, section 2.8.2). */
const SIGNALLED = 129

/** `cyberun terminal`: a shell on a machine of the team, in this terminal. Ends with the exit code of the shell. */
export async function terminal(
  context: Context,
  agentId: string,
  options: TerminalOptions,
): Promise<ExitName | number> {
  const { stdin, stdout } = context
  if (!stdin.isTTY || !stdout.isTTY) {
    throw new CliError('usage', 'no_terminal', 'this needs a terminal; to run a program unattended, use "cyberun run"')
  }
  const { account } = await connect(context, 'key')
  const leave = new AbortController()
  const interrupted = onInterrupt()
  interrupted.addEventListener('abort', () => leave.abort(), { once: true })
  const filter = new OutputFilter()
  const session = openShellSession({
    controlUrl: account.controlUrl,
    agentId,
    shell: options.shell,
    credential: () => credentialOf(context, account),
    size: sizeOf(stdout),
    random: Math.random,
    onOutput: (bytes) => void stdout.write(filter.filter(bytes)),
    onReset: (prefix) => void stdout.write(CLEAR + prefix),
    onLost: (why = 'connection lost') =>
      void context.stderr.write(`\r\n[${printable(why)}: trying again; Ctrl+] leaves]\r\n`),
    signal: leave.signal,
  })
  const onTyped = (bytes: Buffer): void => {
    const detach = bytes.indexOf(DETACH)
    session.type(detach === -1 ? bytes : bytes.subarray(0, detach))
    if (detach !== -1) leave.abort()
  }
  const onResize = (): void => session.resize(sizeOf(stdout))
  stdin.setRawMode(true)
  stdin.on('data', onTyped)
  stdout.on('resize', onResize)
  try {
    return tell(context, agentId, await session.ended)
  } finally {
    stdin.off('data', onTyped)
    stdout.off('resize', onResize)
    stdin.setRawMode(false)
    stdin.pause()
  }
}

function tell(context: Context, agentId: string, end: ShellEnd): number {
  context.stdout.write(RESTORE)
  if (end.kind === 'exited') return end.code ?? SIGNALLED
  const back = end.shell === undefined ? '' : `: cyberun terminal ${printable(agentId)} --shell ${printable(end.shell)}`
  context.stdout.write('\r\n')
  printNote(context, `left; the shell goes on for 15 minutes without a viewer${back}`)
  return 0
}

async function credentialOf(context: Context, account: Account): Promise<Credential> {
  switch (account.kind) {
    case 'key':
      return { bearer: account.key }
    case 'quickstart':
      return { bearer: account.quickstart.integration_key }
    case 'session': {
      const { session } = account
      if (session.kind !== 'user') return { bearer: session.device_key }
      return { bearer: await accessToken(context, account.source), team_id: teamOf(context, session) }
    }
  }
}

/** A terminal that does not know its size says 0. */
function sizeOf({ columns, rows }: Output): TerminalSize {
  return { cols: Math.min(columns || 80, TERMINAL_LIMITS.cols), rows: Math.min(rows || 24, TERMINAL_LIMITS.rows) }
}
