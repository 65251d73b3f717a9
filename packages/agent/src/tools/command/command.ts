import { suggest } from '@cyberun/protocol'
import { AGENT_VERSION } from '../../version.ts'
import { programEnvironment } from '../environment.ts'
import { withFile } from '../input-files.ts'
import { keepOutputFiles } from '../output-files.ts'
import { processDir } from '../process-tree.ts'
import { failureOfProgram, runProgram } from '../run-process.ts'
import type { Assignment, Decline, Outcome, Run, Tool, ToolDeps } from '../tool.ts'
import { ArgumentError, fillArguments, placeholdersOf } from './arguments.ts'
import { readProgress } from './progress-line.ts'
import type { CommandSettings } from './settings.ts'

/** What an argument may name besides parameters. */
const OUTPUT = 'output'
/** Of a run that is exposed: where its service is to listen. */
const PORT = 'port'

/**
 * Runs the programs that the machine's owner lists, and only those: `{"command": "<name>"}`. Its parameters fill the
 * owner's argument templates; `{output}` is a folder whose files are kept, and where the program starts.
 */
export function createCommandTool(commands: readonly CommandSettings[], deps: ToolDeps): Tool {
  return {
    type: 'command',
    detect: () => Promise.resolve({ version: AGENT_VERSION, labels: commands.map(({ name }) => `command:${name}`) }),
    health: () => Promise.resolve({ state: 'ready' }),
    async check(assignment) {
      const command = commandOf(assignment, commands)
      if ('reason' in command) return command
      const unknown = placeholdersOf(command).filter(
        (name) =>
          name !== OUTPUT &&
          !(name === PORT && assignment.exposePort !== undefined) &&
          !Object.hasOwn(assignment.parameters, name),
      )
      if (unknown.length > 0) {
        return { reason: 'invalid', message: `The command ${command.name} needs the parameters ${unknown.join(', ')}.` }
      }
      return undefined
    },
    async run(run, signal) {
      const command = commandOf(run.assignment, commands)
      if ('reason' in command)
        return { kind: 'failed', code: command.reason, message: command.message, fault: 'missing' }
      return runCommand(run, command, deps, signal)
    },
  }
}

function commandOf({ workflow }: Assignment, commands: readonly CommandSettings[]): CommandSettings | Decline {
  const name = workflow['command']
  if (typeof name !== 'string') {
    return { reason: 'invalid', message: 'A workflow of the command tool names its command: {"command": "…"}.' }
  }
  const found = commands.find((command) => command.name === name)
  if (found) return found
  const near = suggest(
    name,
    commands.map((command) => command.name),
  )
  const hint = near === undefined ? '' : ` It has ${near}.`
  return { reason: 'not_allowed', message: `The agent's owner allows no command ${name}.${hint}`, detail: name }
}

async function runCommand(run: Run, command: CommandSettings, deps: ToolDeps, signal: AbortSignal): Promise<Outcome> {
  const output = run.outputFolder
  const { parameters, exposePort } = run.assignment
  const exposed = exposePort === undefined ? {} : { [PORT]: exposePort }
  const values: Record<string, unknown> = { ...parameters, ...exposed, [OUTPUT]: output }
  for (const name of placeholdersOf(command)) values[name] = await withFile(run, values[name])
  let args: string[]
  try {
    args = fillArguments(command, values)
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error
    return { kind: 'failed', code: 'invalid_parameters', message: error.message, fault: 'client' }
  }
  const ended = await runProgram(
    run,
    {
      program: command.program,
      args,
      cwd: command.cwd ?? output,
      env: programEnvironment(deps.env, {
        ...command.env,
        CYBERUN_OUTPUT_DIR: output,
        ...(exposePort !== undefined && { CYBERUN_EXPOSE_PORT: String(exposePort) }),
      }),
      recordDir: processDir(deps.stateDir),
    },
    (text) => {
      const progress = readProgress(text)
      if (progress) run.progress(progress)
      return progress !== undefined
    },
    signal,
  )
  if (ended.kind === 'cancelled') return { kind: 'cancelled' }
  const failure = failureOfProgram(command.name, ended)
  if (failure) return failure
  return { kind: 'completed', output: await keepOutputFiles(run) }
}
