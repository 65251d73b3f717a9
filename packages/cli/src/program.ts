import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import type { AgentInitOptions, AgentInstallOptions, AgentOptions } from './commands/agent.ts'
import type { DoctorOptions } from './commands/doctor.ts'
import type { ForwardOptions } from './commands/forward.ts'
import type { InspectOptions } from './commands/inspect.ts'
import type { CreateKeyOptions } from './commands/keys.ts'
import type { LoginOptions } from './commands/login.ts'
import type { RunOptions } from './commands/run.ts'
import type { ServerOptions } from './commands/server.ts'
import type { ListTasksOptions } from './commands/tasks.ts'
import type { TerminalOptions } from './commands/terminal.ts'
import type { OpenOptions } from './commands/tunnel.ts'
import type { Context } from './context.ts'
import type { ExitName } from './exit-codes.ts'
import { version } from './version.ts'
import type { ImportOptions } from './workflows/propose-import.ts'

/** What a command returns: how it ended, or the exit code of what it ran; nothing means `ok`. */
type Work = (context: Context, ...given: never[]) => Promise<ExitName | number | undefined>

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

type Act = (work: Work) => (...given: unknown[]) => Promise<void>

const configFile = (name: string) => new Option('-c, --config <file>', `settings file (default: ${name})`)

function addServers(program: Command, act: Act): void {
  program.commandsGroup('Run it:')
  program
    .command('up')
    .description('start a server and an agent on this machine, with a first user; what "npm start" runs')
    .addOption(configFile('CYBERUN_CONFIG, else built-in defaults'))
    .action(act(async (context, options: ServerOptions) => (await import('./commands/up.ts')).up(context, options)))
  program
    .command('server')
    .description('start a server')
    .addOption(configFile('CYBERUN_CONFIG, else built-in defaults'))
    .action(
      act(async (context, options: ServerOptions) => (await import('./commands/server.ts')).server(context, options)),
    )
  const agent = program
    .command('agent')
    .helpCommand(false)
    .description('connect this machine: dial out to a server and open local ports for its tunnels')
    .addOption(configFile('cyberun-agent.yaml'))
    .action(
      act(async (context, options: AgentOptions) => (await import('./commands/agent.ts')).agent(context, options)),
    )
  agent
    .command('init')
    .description('write a commented cyberun-agent.yaml')
    .option('--gateway <url>', "the server's edge, such as wss://edge.example.org:8788")
    .option('--key-stdin', 'read the agent key (ak-) from standard input')
    .option('--output <file>', 'where to write', 'cyberun-agent.yaml')
    .action(
      act(async (context, options: AgentInitOptions) =>
        (await import('./commands/agent.ts')).agentInit(context, options),
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
        (await import('./commands/agent.ts')).agentInstall(context, options),
      ),
    )
}

function addSignIn(program: Command, act: Act): void {
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
      act(async (context, options: LoginOptions) => (await import('./commands/login.ts')).login(context, options)),
    )
  program
    .command('approve <code>')
    .description('approve the code that "cyberun login --pair" shows on another machine')
    .option('--name <name>', 'what to call that machine')
    .action(
      act(async (context, code: string, options: { name?: string }) =>
        (await import('./commands/login.ts')).approve(context, code, options),
      ),
    )
  program
    .command('logout')
    .description('forget the sign-in of this machine; keys of a pairing are revoked')
    .action(act(async (context) => (await import('./commands/login.ts')).logout(context)))
  program
    .command('whoami')
    .description('who this command line acts as, on which server, and where that is configured')
    .action(act(async (context) => (await import('./commands/whoami.ts')).whoami(context)))
  const keys = program.command('keys').helpCommand(false).description('keys for scripts (sk-) and agents (ak-)')
  keys
    .command('create')
    .description('create a key; it is shown once')
    .addOption(new Option('--kind <kind>', 'what it is for').choices(['integration', 'agent']).default('integration'))
    .requiredOption('--name <name>', 'what to call it')
    .option('--expires-in-days <days>', '1 to 365 (default: never)', integer(1, 365))
    .action(
      act(async (context, options: CreateKeyOptions) =>
        (await import('./commands/keys.ts')).createKey(context, options),
      ),
    )
  keys
    .command('list')
    .description('the keys of the team')
    .action(act(async (context) => (await import('./commands/keys.ts')).listKeys(context)))
  keys
    .command('revoke <key>')
    .description('end a key, by its id or the prefix that "keys list" shows, and all it holds open')
    .action(act(async (context, key: string) => (await import('./commands/keys.ts')).revokeKey(context, key)))
}

const TASK_STATUSES = ['pending', 'waiting', 'queued', 'running', 'completed', 'failed', 'cancelled']

function addTasks(program: Command, act: Act): void {
  program.commandsGroup('Run workflows:')
  program
    .command('run <slug>')
    .description('run a workflow, follow it, and save the files it makes; slug@version runs an older version')
    .addOption(repeatable('-p, --parameter <key=value>', 'a parameter of the workflow; may be given again'))
    .addOption(repeatable('-f, --file <key=path>', 'a file parameter: the file is uploaded; may be given again'))
    .option('--follow', 'stay until the task has ended (the default)')
    .addOption(new Option('--detach', 'print the id of the task and leave').conflicts('follow'))
    .option('-o, --output <folder>', 'where files are saved; nothing is overwritten', '.')
    .option('--priority <number>', '-10 to 10; higher goes first', integer(-10, 10))
    .action(
      act(async (context, slug: string, options: RunOptions) =>
        (await import('./commands/run.ts')).runWorkflow(context, slug, options),
      ),
    )
  const tasks = program.command('tasks').helpCommand(false).description('the runs of the team')
  tasks
    .command('list', { isDefault: true })
    .description('the newest tasks; what "tasks" alone does')
    .addOption(new Option('--status <status>', 'only those in this state').choices(TASK_STATUSES))
    .option('--limit <number>', '1 to 100', integer(1, 100), 20)
    .action(
      act(async (context, options: ListTasksOptions) =>
        (await import('./commands/tasks.ts')).listTasks(context, options),
      ),
    )
  tasks
    .command('show <task>')
    .description('one task: its state, what it waits for, what it made')
    .action(act(async (context, id: string) => (await import('./commands/tasks.ts')).showTask(context, id)))
  tasks
    .command('cancel <task>')
    .description('end a task; nothing happens to one that has ended')
    .action(act(async (context, id: string) => (await import('./commands/tasks.ts')).cancelTask(context, id)))
  tasks
    .command('events <task>')
    .description('everything that happened to a task, then what happens, until it ends')
    .option('--after <number>', 'only what came after this event', integer(0, Number.MAX_SAFE_INTEGER), 0)
    .option('-o, --output <folder>', 'save its files there when it is completed, as "run" does')
    .action(
      act(async (context, id: string, options: { after: number; output?: string }) =>
        (await import('./commands/tasks.ts')).followEvents(context, id, options),
      ),
    )
  tasks
    .command('files <task>')
    .description('save the files of a completed task')
    .option('-o, --output <folder>', 'where; nothing is overwritten', '.')
    .action(
      act(async (context, id: string, options: { output: string }) =>
        (await import('./commands/tasks.ts')).saveTaskFiles(context, id, options),
      ),
    )
  addWorkflows(program, act)
}

function addWorkflows(program: Command, act: Act): void {
  const workflows = program.command('workflows').helpCommand(false).description('what the team runs')
  workflows
    .command('import <file>')
    .description('import a ComfyUI graph in API format; parameters are proposed from its inputs')
    .option('--slug <slug>', "what it is called in commands (default: from the file's name)")
    .option('--name <name>', 'what it is called for people (default: the slug)')
    .addOption(repeatable('--label <label>', 'a label that an agent must have; may be given again'))
    .option('--yes', 'ask nothing')
    .action(
      act(async (context, file: string, options: ImportOptions & { yes?: true }) =>
        (await import('./commands/workflows.ts')).importWorkflow(context, file, options),
      ),
    )
  workflows
    .command('list', { isDefault: true })
    .description('the workflows of the team; what "workflows" alone does')
    .action(act(async (context) => (await import('./commands/workflows.ts')).listWorkflows(context)))
  workflows
    .command('show <slug>')
    .description('what a workflow is and what a run of it may be given')
    .action(act(async (context, slug: string) => (await import('./commands/workflows.ts')).showWorkflow(context, slug)))
  workflows
    .command('delete <slug>')
    .description('delete a workflow with all its versions')
    .option('--yes', 'ask nothing')
    .action(
      act(async (context, slug: string, options: { yes?: true }) =>
        (await import('./commands/workflows.ts')).deleteWorkflow(context, slug, options),
      ),
    )
}

const PROFILES = ['comfyui', 'jupyter', 'gradio', 'code-server', 'vite', 'generic']

function addTunnels(program: Command, act: Act): void {
  program.commandsGroup('Use it:')
  program
    .command('agents')
    .description('the machines that are connected')
    .action(act(async (context) => (await import('./commands/agents.ts')).listAgents(context)))
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
        (await import('./commands/tunnel.ts')).openTunnel(context, agent, port, options),
      ),
    )
  tunnel
    .command('list')
    .addArgument(agentArgument().argOptional())
    .description('the open tunnels of one machine, or of all')
    .action(
      act(async (context, agent: string | undefined) =>
        (await import('./commands/tunnel.ts')).listTunnels(context, agent),
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
        (await import('./commands/tunnel.ts')).closeTunnel(context, agent, session, options),
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
        (await import('./commands/tunnel.ts')).extendTunnel(context, agent, session, options),
      ),
    )
  tunnel
    .command('revoke')
    .addArgument(agentArgument())
    .argument('[session]', 'its id, as "tunnel list" shows it')
    .description('give a tunnel a new URL, and cut off everybody who has the old one')
    .action(
      act(async (context, agent: string, session: string | undefined) =>
        (await import('./commands/tunnel.ts')).revokeTunnel(context, agent, session),
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
        (await import('./commands/inspect.ts')).inspectTunnel(context, agent, session, options),
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
        (await import('./commands/forward.ts')).forward(context, agent, port, options),
      ),
    )
  program
    .command('terminal')
    .addArgument(agentArgument())
    .description('a shell on the machine, where its owner allows that; Ctrl+] leaves it running')
    .option('--shell <id>', 'go on in a shell that was left, or look on with others')
    .action(
      act(async (context, agent: string, options: TerminalOptions) =>
        (await import('./commands/terminal.ts')).terminal(context, agent, options),
      ),
    )
  program
    .command('doctor')
    .description('check every layer between here and the server, with a remedy for what is wrong')
    .option('--url <url>', "the server's API (default: the one you are signed in to)")
    .option('--gateway <url>', "the server's edge (default: of the agent's settings file)")
    .addOption(configFile('cyberun-agent.yaml'))
    .action(
      act(async (context, options: DoctorOptions) => (await import('./commands/doctor.ts')).doctor(context, options)),
    )
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

/** The number of an inspected request. */
function numberOption(flags: string, description: string): Option {
  return new Option(flags, description)
    .argParser(integer(1, Number.MAX_SAFE_INTEGER))
    .conflicts(['show', 'curl', 'replay', 'off'].filter((name) => !flags.startsWith(`--${name} `)))
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

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`)
  }
}

/** An option that may be given several times. */
function repeatable(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text, before: string[] = []) => [...before, text])
}

/** `45m`, `8h`, `90s` as seconds. */
function duration(text: string): number {
  const [, amount = '', unit = ''] = /^(\d+)(s|m|h)$/.exec(text) ?? []
  const seconds = Number(amount) * ({ s: 1, m: 60, h: 3600 }[unit] ?? Number.NaN)
  if (seconds >= 60 && seconds <= 86_400) return seconds
  throw new InvalidArgumentError('It must be from 1m to 24h, such as 45m or 8h.')
}

const idleTimeoutOption = (description: string) =>
  new Option('--idle-timeout <duration>', description).argParser(duration)

const agentArgument = () => new Argument('<agent>', 'the id of a machine, as "cyberun agents" shows it')
const portArgument = () => new Argument('<port>', 'a port on that machine').argParser(integer(1, 65_535))
