import { type Command, Option } from 'commander'
import type { CreateKeyOptions } from '../commands/keys.ts'
import type { LoginOptions } from '../commands/login.ts'
import type { Act } from './act.ts'
import { integer } from './arguments.ts'

/** Who the command line acts as, and keys. */
export function addSignIn(program: Command, act: Act): void {
  program.commandsGroup('Sign in:')
  program
    .command('login')
    .description('sign in with e-mail address and password, or pair this machine')
    .option('--url <url>', 'the server\'s API (default: CYBERUN_URL, else the one of "cyberun up")')
    .option('--email <address>', 'asked for when absent')
    .option('--password-stdin', 'read the password from standard input instead of asking')
    .option('--team <id or name>', 'the team to work in; asked for when you are in several')
    .option('--pair', 'show a code to approve elsewhere, and keep keys of this machine instead of a password sign-in')
    .action(
      act(async (context, options: LoginOptions) => (await import('../commands/login.ts')).login(context, options)),
    )
  program
    .command('approve <code>')
    .description('approve the code that "cyberun login --pair" shows on another machine')
    .option('--name <name>', 'what to call that machine')
    .action(
      act(async (context, code: string, options: { name?: string }) =>
        (await import('../commands/login.ts')).approve(context, code, options),
      ),
    )
  program
    .command('logout')
    .description('forget the sign-in of this machine; keys of a pairing are revoked')
    .action(act(async (context) => (await import('../commands/login.ts')).logout(context)))
  program
    .command('whoami')
    .description('who this command line acts as, on which server, and where that is configured')
    .action(act(async (context) => (await import('../commands/whoami.ts')).whoami(context)))
  const keys = program.command('keys').helpCommand(false).description('keys for scripts (sk-) and agents (ak-)')
  keys
    .command('create')
    .description('create a key; it is shown once')
    .addOption(new Option('--kind <kind>', 'what it is for').choices(['integration', 'agent']).default('integration'))
    .requiredOption('--name <name>', 'what to call it')
    .option('--expires-in-days <days>', '1 to 365 (default: never)', integer(1, 365))
    .action(
      act(async (context, options: CreateKeyOptions) =>
        (await import('../commands/keys.ts')).createKey(context, options),
      ),
    )
  keys
    .command('list')
    .description('the keys of the team')
    .action(act(async (context) => (await import('../commands/keys.ts')).listKeys(context)))
  keys
    .command('revoke <key>')
    .description('end a key, by its id or the prefix that "keys list" shows, and all it holds open')
    .action(act(async (context, key: string) => (await import('../commands/keys.ts')).revokeKey(context, key)))
}
