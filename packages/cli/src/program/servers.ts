import type { Command } from 'commander'
import type { AgentInitOptions, AgentInstallOptions, AgentOptions } from '../commands/agent.ts'
import type { ServerOptions } from '../commands/server.ts'
import type { Act } from './act.ts'
import { configFile } from './arguments.ts'

/** What runs as a server or an agent. */
export function addServers(program: Command, act: Act): void {
  program.commandsGroup('Run it:')
  program
    .command('up')
    .description('start a server and an agent on this machine, with a first user; what "npm start" runs')
    .addOption(configFile('CYBERUN_CONFIG, else built-in defaults'))
    .action(act(async (context, options: ServerOptions) => (await import('../commands/up.ts')).up(context, options)))
  program
    .command('server')
    .description('start a server')
    .addOption(configFile('CYBERUN_CONFIG, else built-in defaults'))
    .action(
      act(async (context, options: ServerOptions) => (await import('../commands/server.ts')).server(context, options)),
    )
  const agent = program
    .command('agent')
    .helpCommand(false)
    .description('connect this machine: dial out to a server, run its tasks and carry its tunnels')
    .addOption(configFile('cyberun-agent.yaml'))
    .action(
      act(async (context, options: AgentOptions) => (await import('../commands/agent.ts')).agent(context, options)),
    )
  agent
    .command('init')
    .description('write a commented cyberun-agent.yaml')
    .option('--gateway <url>', "the server's edge, such as wss://edge.example.org:8788")
    .option('--key-stdin', 'read the agent key (ak-) from standard input')
    .option('--output <file>', 'where to write', 'cyberun-agent.yaml')
    .action(
      act(async (context, options: AgentInitOptions) =>
        (await import('../commands/agent.ts')).agentInit(context, options),
      ),
    )
  agent
    .command('install')
    .description('write a systemd unit that runs the agent from boot on')
    .addOption(configFile('cyberun-agent.yaml'))
    .option('--user <name>', 'the account it runs as (default: this one)')
    .option('--output <file>', 'where to write; - is standard output', '/etc/systemd/system/cyberun-agent.service')
    .action(
      act(async (context, options: AgentInstallOptions) =>
        (await import('../commands/agent.ts')).agentInstall(context, { ...agent.opts<AgentOptions>(), ...options }),
      ),
    )
}
