import { join, resolve } from 'node:path'
import type { Context } from './context.ts'
import { parseFields, readIfThere, writePrivate } from './private-file.ts'

/** What `cyberun up` leaves for scripts, and for commands started in the same folder. */
export interface Quickstart {
  control_url: string
  edge_url: string
  email_address: string
  /** The first user's one-time password, as it was printed. */
  user_password: string
  team_id: string
  /** The agent that `up` runs on this machine. */
  agent_id: string
  /** An `sk-` key of the team. */
  integration_key: string
}

const KEYS = [
  'control_url',
  'edge_url',
  'email_address',
  'user_password',
  'team_id',
  'agent_id',
  'integration_key',
] as const satisfies readonly (keyof Quickstart)[]

const REMEDY = 'remove it and sign in with "cyberun login"'

/** Where `up` keeps its state for commands in this folder, unless `CYBERUN_DATA_DIR` says otherwise. */
export function dataDir(context: Context): string {
  return resolve(context.cwd, context.env['CYBERUN_DATA_DIR'] ?? '.cyberun')
}

export function quickstartPath(dir: string): string {
  return join(dir, 'quickstart.json')
}

/** The key of the agent that `up` runs, one line. */
export function agentKeyPath(dir: string): string {
  return join(dir, 'agent.key')
}

/** Undefined when there is none; a `CliError` when it is not what `up` wrote. */
export async function readQuickstart(path: string): Promise<Quickstart | undefined> {
  const text = await readIfThere(path)
  return text === undefined ? undefined : parseFields(path, text, KEYS, REMEDY)
}

export async function writeQuickstart(path: string, quickstart: Quickstart): Promise<void> {
  await writePrivate(path, `${JSON.stringify(quickstart, null, 2)}\n`)
}
