import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { userInfo } from 'node:os'
import { basename } from 'node:path'
import { promisify } from 'node:util'
import type { Env } from '../proxy.ts'
import { programEnvironment } from '../tools/environment.ts'
import type { TerminalSettings } from './settings.ts'

/** How shells are started: as whom, and with what. */
export interface ShellCommand {
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** Who it runs as, for the log. */
  readonly user: string
}

/** A terminal that cannot be offered as set. `message` is one line for the owner. */
export class TerminalSettingsError extends Error {
  override readonly name = 'TerminalSettingsError'
}

interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
  readonly shell: string
}

/** Shells that read the files of a login when told `-l`. */
const LOGIN_SHELLS = new Set(['sh', 'bash', 'dash', 'zsh', 'fish', 'ksh'])

/**
 * Finds out how shells are started. Throws `TerminalSettingsError` for a user who does not exist or that this process has
 * no right to become, and for a shell that cannot be run.
 */
export async function shellCommand(settings: Exclude<TerminalSettings, false>, env: Env): Promise<ShellCommand> {
  const own = ownAccount()
  const wanted = settings === true ? {} : settings
  const account = wanted.user === undefined || wanted.user === own.name ? own : await otherAccount(wanted.user, own)
  const shell = wanted.shell ?? (account.shell || '/bin/sh')
  requireProgram('terminal.shell', shell)
  const login = LOGIN_SHELLS.has(basename(shell)) ? ['-l'] : []
  return {
    ...(account.uid === own.uid ? { program: shell, args: login } : asAnother(account, [shell, ...login])),
    // Some accounts have none, and a shell has to begin somewhere.
    cwd: existsSync(account.home) ? account.home : '/',
    env: programEnvironment(env, {
      HOME: account.home,
      USER: account.name,
      LOGNAME: account.name,
      SHELL: shell,
      TERM: 'xterm-256color',
      COLORTERM: 'truecolor',
      // Without a word on it programs would show question marks for every letter beyond ASCII.
      ...(env['LANG'] === undefined && env['LC_ALL'] === undefined && { LANG: 'C.UTF-8' }),
    }),
    user: account.name,
  }
}

function ownAccount(): Account {
  const { username, uid, gid, homedir, shell } = userInfo()
  return { name: username, uid, gid, home: homedir, shell: shell ?? '' }
}

async function otherAccount(name: string, own: Account): Promise<Account> {
  if (own.uid !== 0) {
    throw new TerminalSettingsError(
      `terminal.user: only root can open shells as ${name}, and this agent runs as ${own.name}: run it as root, or leave terminal.user out`,
    )
  }
  // The system's own answer, which knows of directories besides /etc/passwd.
  const found = await promisify(execFile)('getent', ['passwd', '--', name]).catch(() => undefined)
  const [, , uid, gid, , home, shell = ''] = found?.stdout.trim().split(':') ?? []
  if (uid === undefined || gid === undefined || home === undefined) {
    throw new TerminalSettingsError(`terminal.user: there is no user ${name} on this machine`)
  }
  return { name, uid: Number(uid), gid: Number(gid), home, shell }
}

/** By setpriv, which also gives up the groups of root: a shell started with another user id alone would keep them. */
function asAnother(account: Account, command: readonly string[]): { program: string; args: readonly string[] } {
  const program = '/usr/bin/setpriv'
  requireProgram('terminal.user', program)
  const ids = [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--init-groups', '--inh-caps=-all']
  return { program, args: [...ids, '--', ...command] }
}

function requireProgram(setting: string, path: string): void {
  try {
    accessSync(path, constants.X_OK)
  } catch {
    throw new TerminalSettingsError(`${setting}: ${path} cannot be run on this machine`)
  }
}
