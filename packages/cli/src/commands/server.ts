import { resolve } from 'node:path'
import { createLog, type LogOptions } from '@cyberun/link/log'
import {
  type Config,
  ConfigError,
  loadConfig,
  type RunningServer,
  type ServerDeps,
  StartError,
  StoreOpenError,
  startServer,
} from '@cyberun/server'
import { type Context, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { aborted, onInterrupt } from '../interrupt.ts'
import { version } from '../version.ts'

export interface ServerOptions {
  config?: string
}

/** How long connections may take to finish once the server was told to stop. */
const STOP_MS = 10_000

/** `cyberun server`: until it is stopped. */
export async function server(context: Context, options: ServerOptions): Promise<undefined> {
  const signal = onInterrupt()
  const running = await start(context, serverConfig(context, options, context.env))
  const { controlUrl: control_url, edgeUrl: edge_url, firstUser } = running
  const first_user = firstUser && { email_address: firstUser.emailAddress, user_password: firstUser.userPassword }
  printResult(context, { control_url, edge_url, ...(first_user && { first_user }) }, () => {
    const user = first_user
      ? `e-mail: ${first_user.email_address}\npassword: ${first_user.user_password} (shown once)\n`
      : ''
    return `api: ${control_url}\ndocs: ${docsUrl(running)}\nedge: ${edge_url}\n${user}`
  })
  await aborted(signal)
  await running.stop(AbortSignal.timeout(STOP_MS))
}

export function docsUrl({ controlUrl }: RunningServer): string {
  return `${controlUrl}/api/v1/docs`
}

/** The server's settings; throws a `CliError` that names each fault. `env` may hold defaults of the command. */
export function serverConfig(context: Context, options: ServerOptions, env: Context['env']): Config {
  try {
    return loadConfig({ ...env, ...(options.config && { CYBERUN_CONFIG: resolve(context.cwd, options.config) }) })
  } catch (error) {
    if (error instanceof ConfigError) throw new CliError('usage', 'settings', error.message, { cause: error })
    throw error
  }
}

/** Starts a server; throws a `CliError` for what the operator can mend: a taken port, a store in use. */
export async function start(
  context: Context,
  config: Config,
  more: Pick<ServerDeps, 'keepFirstUser'> = {},
): Promise<RunningServer> {
  try {
    return await startServer(config, { log: createLog(logOptions(context, config)), version: version(), ...more })
  } catch (error) {
    const isTold = error instanceof StartError || error instanceof StoreOpenError
    if (isTold) throw new CliError('failed', 'cannot_start', error.message, { cause: error })
    throw error
  }
}

export function logOptions(context: Context, { logger }: Config): Pick<LogOptions, 'level' | 'format'> {
  const format = logger.format === 'auto' ? (context.stderr.isTTY ? 'text' : 'json') : logger.format
  return { level: logger.level, format }
}
