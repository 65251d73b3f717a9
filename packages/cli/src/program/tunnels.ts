import { type Command, Option } from 'commander'
import type { DoctorOptions } from '../commands/doctor.ts'
import type { ForwardOptions } from '../commands/forward.ts'
import type { InspectOptions } from '../commands/inspect.ts'
import type { TerminalOptions } from '../commands/terminal.ts'
import type { OpenOptions } from '../commands/tunnel.ts'
import type { Act } from './act.ts'
import { agentArgument, configFile, idleTimeoutOption, integer, portArgument } from './arguments.ts'

const PROFILES = ['comfyui', 'jupyter', 'gradio', 'code-server', 'vite', 'generic']

/** What machines are there, and ways to what is on them. */
export function addTunnels(program: Command, act: Act): void {
  program.commandsGroup('Use it:')
  program
    .command('agents')
    .description('the machines that are connected')
    .action(act(async (context) => (await import('../commands/agents.ts')).listAgents(context)))
  const tunnel = program.command('tunnel').helpCommand(false).description('URLs for services on a machine')
  tunnel
    .command('open')
    .addArgument(agentArgument())
    .addArgument(portArgument())
    .description('open a tunnel to a port of the machine and print its URL; whoever has the URL can use it')
    .option('--tcp', 'a WebSocket that carries one TCP connection, instead of HTTP')
    .addOption(new Option('--profile <profile>', 'what kind of service it is (default: asked of it)').choices(PROFILES))
    .addOption(
      new Option('--host-policy <policy>', "whose Host and Origin it sees (default: the profile's)").choices([
        'rewrite',
        'preserve',
      ]),
    )
    .option('--keep-path', 'the service is started with the path of the URL as its base path')
    .addOption(idleTimeoutOption('ends when unused for this long, such as 45m or 8h (default: 30m)'))
    .option('--detach', 'on a terminal: print the URL and leave')
    .action(
      act(async (context, agent: string, port: number, options: OpenOptions) =>
        (await import('../commands/tunnel.ts')).openTunnel(context, agent, port, options),
      ),
    )
  tunnel
    .command('list')
    .addArgument(agentArgument().argOptional())
    .description('the open tunnels of one machine, or of all')
    .action(
      act(async (context, agent: string | undefined) =>
        (await import('../commands/tunnel.ts')).listTunnels(context, agent),
      ),
    )
  tunnel
    .command('close')
    .addArgument(agentArgument())
    .argument('[session]', 'its id, as "tunnel list" shows it')
    .description('close a tunnel; without a session id, the only one')
    .option('--all', 'close every tunnel of the machine')
    .action(
      act(async (context, agent: string, session: string | undefined, options: { all?: true }) =>
        (await import('../commands/tunnel.ts')).closeTunnel(context, agent, session, options),
      ),
    )
  tunnel
    .command('extend')
    .addArgument(agentArgument())
    .argument('[session]', 'its id, as "tunnel list" shows it')
    .description('let a tunnel stay: the time without use starts anew')
    .addOption(idleTimeoutOption('and is this long from now on, such as 45m or 8h'))
    .action(
      act(async (context, agent: string, session: string | undefined, options: { idleTimeout?: number }) =>
        (await import('../commands/tunnel.ts')).extendTunnel(context, agent, session, options),
      ),
    )
  tunnel
    .command('revoke')
    .addArgument(agentArgument())
    .argument('[session]', 'its id, as "tunnel list" shows it')
    .description('give a tunnel a new URL, and cut off everybody who has the old one')
    .action(
      act(async (context, agent: string, session: string | undefined) =>
        (await import('../commands/tunnel.ts')).revokeTunnel(context, agent, session),
      ),
    )
  tunnel
    .command('inspect')
    .addArgument(agentArgument())
    .argument('[session]', 'its id, as "tunnel list" shows it')
    .description('see the requests of a tunnel as they pass; turns its inspector on')
    .option('--follow', 'without a terminal: stay, and print each request when it is over')
    .option('--bodies', 'keep the first 64 KiB of each body, too; they may hold secrets')
    .addOption(numberOption('--show <number>', 'all of one request, with headers'))
    .addOption(numberOption('--curl <number>', 'one request as a shell command that sends the same'))
    .addOption(numberOption('--replay <number>', 'send one request again'))
    .option('--off', 'turn the inspector off, which forgets what it kept')
    .action(
      act(async (context, agent: string, session: string | undefined, options: InspectOptions) =>
        (await import('../commands/inspect.ts')).inspectTunnel(context, agent, session, options),
      ),
    )
  program
    .command('forward')
    .addArgument(agentArgument())
    .addArgument(portArgument())
    .description('a local port that reaches a port of the machine, for any program: psql, ssh, a browser')
    .option('--local <port>', 'the local port (default: the same number, or a free one)', integer(0, 65_535))
    .option('--stdio', "use standard input and output, as ssh's ProxyCommand wants")
    .action(
      act(async (context, agent: string, port: number, options: ForwardOptions) =>
        (await import('../commands/forward.ts')).forward(context, agent, port, options),
      ),
    )
  program
    .command('terminal')
    .addArgument(agentArgument())
    .description('a shell on the machine, where its owner allows that; Ctrl+] leaves it running')
    .option('--shell <id>', 'go on in a shell that was left, or look on with others')
    .action(
      act(async (context, agent: string, options: TerminalOptions) =>
        (await import('../commands/terminal.ts')).terminal(context, agent, options),
      ),
    )
  program
    .command('doctor')
    .description('check every layer between here and the server, with a remedy for what is wrong')
    .option('--url <url>', "the server's API (default: the one you are signed in to)")
    .option('--gateway <url>', "the server's edge (default: of the agent's settings file)")
    .addOption(configFile('cyberun-agent.yaml'))
    .action(
      act(async (context, options: DoctorOptions) => (await import('../commands/doctor.ts')).doctor(context, options)),
    )
}

/** The number of an inspected request. */
function numberOption(flags: string, description: string): Option {
  return new Option(flags, description)
    .argParser(integer(1, Number.MAX_SAFE_INTEGER))
    .conflicts(['show', 'curl', 'replay', 'off'].filter((name) => !flags.startsWith(`--${name} `)))
}
