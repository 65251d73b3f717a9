import { constants } from 'node:fs'
import { access, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import {
  AGENT_CONFIG_FILE,
  AgentConfigError,
  type AgentExit,
  agentConfigTemplate,
  loadAgentConfig,
  MachineKeyError,
  runAgent,
  systemdUnit,
} from '@cyberun/agent'
import { createLog } from '@cyberun/link/log'
import { parseKey } from '@cyberun/protocol'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { EXIT_CODES, type ExitName } from '../exit-codes.ts'
import { onInterrupt } from '../interrupt.ts'
import { codeOf } from '../private-file.ts'
import { readStdin } from '../prompts.ts'
import { dataDir, quickstartPath, readQuickstart } from '../quickstart.ts'
import { readSession, sessionPath } from '../session-file.ts'
import { printable } from '../text.ts'

export interface AgentOptions {
  config?: string
}

export interface AgentInitOptions {
  gateway?: string
  keyStdin?: true
  output: string
}

export interface AgentInstallOptions extends AgentOptions {
  user?: string
  output: string
}

/** `cyberun agent`: runs until it is stopped, or until dialling again would help nobody. */
export async function agent(context: Context, options: AgentOptions): Promise<ExitName> {
  const config = agentConfig(context, options)
  const { level, format } = config.logger
  const log = createLog({ level, format: format === 'auto' ? (context.stderr.isTTY ? 'text' : 'json') : format })
  try {
    return endOf(await runAgent(config, { log, signal: onInterrupt(), env: context.env }))
  } catch (error) {
    if (error instanceof MachineKeyError) throw new CliError('failed', 'state_dir', error.message, { cause: error })
    throw error
  }
}

/** The agent's settings; throws a `CliError` that names each fault. */
export function agentConfig(context: Context, options: AgentOptions) {
  try {
    return loadAgentConfig(context.env, options.config)
  } catch (error) {
    if (error instanceof AgentConfigError) throw new CliError('usage', 'settings', error.message, { cause: error })
    throw error
  }
}

function endOf(end: AgentExit): ExitName {
  switch (end.kind) {
    case 'stopped':
      return 'ok'
    case 'agent_id_taken':
    case 'taken_over':
      throw new CliError('agent_id_taken', end.kind, end.message)
    case 'bad_key':
    case 'revoked':
    case 'refused':
      throw new CliError('refused', end.kind, end.message)
  }
}

/**
 * `cyberun agent init`. The key, when there is one to put in, goes to a file of its own beside the settings, so that
 * those can be shown around.
 */
export async function agentInit(context: Context, options: AgentInitOptions): Promise<undefined> {
  const file = resolve(context.cwd, options.output)
  const keyFile = join(dirname(file), 'cyberun-agent.key')
  const key = options.keyStdin ? checkedKey(await readStdin(context)) : await pairedKey(context)
  const gatewayUrl = options.gateway ?? (await readQuickstart(quickstartPath(dataDir(context))))?.edge_url
  const settings = agentConfigTemplate({
    ...(gatewayUrl !== undefined && { gatewayUrl }),
    ...(key !== undefined && { agentKeyFile: './cyberun-agent.key' }),
  })
  await writeNew(file, settings)
  if (key !== undefined) await writeNew(keyFile, `${key}\n`)
  printResult(context, { config_file: file, key_file: key === undefined ? null : keyFile }, () => {
    const missing = [
      ...(gatewayUrl === undefined ? ['gateway_url'] : []),
      ...(key === undefined ? ['agent_key (from "cyberun keys create --kind agent")'] : []),
    ]
    const first = missing.length === 0 ? '' : `Put ${missing.join(' and ')} into it, then `
    return `Wrote ${printable(file)}. ${first}${first === '' ? 'Run' : 'run'}: cyberun agent\n`
  })
}

function checkedKey(key: string): string {
  if (parseKey(key) === 'ak') return key
  throw new CliError('usage', 'bad_key', 'standard input holds no agent key (ak-…): copy it again, whole')
}

/** The agent key that came with `cyberun login --pair`. */
async function pairedKey(context: Context): Promise<string | undefined> {
  const session = await readSession(sessionPath(context))
  return session?.kind === 'device' ? session.agent_key : undefined
}

/** Nothing that exists is overwritten: it may hold the only copy of a key. */
async function writeNew(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text, { flag: 'wx', mode: 0o600 })
  } catch (cause) {
    const code = codeOf(cause)
    const why = code === 'EEXIST' ? 'it exists already: remove it, or choose another with --output' : code
    throw new CliError('failed', 'file_unwritable', `${file} cannot be written: ${why}`, { cause })
  }
}

/** `cyberun agent install`. */
export async function agentInstall(context: Context, options: AgentInstallOptions): Promise<undefined> {
  const configFile = resolve(context.cwd, options.config ?? AGENT_CONFIG_FILE)
  await access(configFile, constants.R_OK).catch(() => {
    throw new CliError('usage', 'settings', `${configFile} is not there: write it with "cyberun agent init"`)
  })
  const unit = systemdUnit({
    command: [...context.program, 'agent'],
    configFile,
    user: options.user ?? userInfo().username,
    finalExitCodes: [EXIT_CODES.usage[0], EXIT_CODES.refused[0], EXIT_CODES.agent_id_taken[0]],
  })
  if (options.output === '-') {
    printResult(context, { unit }, () => unit)
    return
  }
  const file = resolve(context.cwd, options.output)
  try {
    await writeFile(file, unit)
  } catch (cause) {
    const message = `${file} cannot be written (${codeOf(cause)}): run it with sudo, or print the unit with --output -`
    throw new CliError('failed', 'file_unwritable', message, { cause })
  }
  printResult(context, { unit_file: file }, () => {
    return `Wrote ${printable(file)}. Start it, now and at every boot:\n  systemctl enable --now cyberun-agent\n`
  })
}
