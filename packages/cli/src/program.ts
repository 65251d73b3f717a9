import { Command } from 'commander'
import type { Context } from './context.ts'
import type { ExitName } from './exit-codes.ts'
import type { Act, Work } from './program/act.ts'
import { addServers } from './program/servers.ts'
import { addSignIn } from './program/sign-in.ts'
import { addTasks } from './program/tasks.ts'
import { addTunnels } from './program/tunnels.ts'
import { version } from './version.ts'

/**
 * Every command, its arguments and its help. What a command does is loaded when it is run: `--help` must not wait for
 * a server's worth of modules. `onExit` hears how a command ended.
 */
export function createProgram(context: Context, onExit: (exit: ExitName | number) => void): Command {
  const act =
    (work: Work) =>
    async (...given: unknown[]): Promise<void> => {
      const asked = given.slice(0, -1) as never[] // without the last one, commander's own object
      onExit((await work(context, ...asked)) ?? 'ok')
    }
  const program = new Command('cyberun')
    .description(
      'Run work and reach services on machines behind NAT: a server, an agent on each machine, tasks and tunnels.',
    )
    .version(version(), '-V, --version', 'print the version')
    .option('--json', 'print results and errors as JSON')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      outputError: () => {}, // told by main, in one line
    })
    .exitOverride()
  addServers(program, act)
  addSignIn(program, act)
  addTasks(program, act)
  addTunnels(program, act)
  addHelp(program, act)
  return program
}

function addHelp(program: Command, act: Act): void {
  program.commandsGroup('More:')
  program
    .command('help [command...]')
    .description('help for a command; "help exit-codes" lists the exit codes')
    .action(
      act(async (context, names: string[]) => {
        if (names.join(' ') !== 'exit-codes') return findCommand(program, names).help()
        const { printExitCodes } = await import('./commands/exit-codes.ts')
        return printExitCodes(context)
      }),
    )
}

/** `tunnel open` → that command. Throws commander's usage error for one there is not. */
function findCommand(program: Command, names: readonly string[]): Command {
  let found = program
  for (const name of names) {
    const next = found.commands.find((command) => command.name() === name)
    if (next === undefined) return program.error(`error: unknown command '${names.join(' ')}'`, { exitCode: 2 })
    found = next
  }
  return found
}
