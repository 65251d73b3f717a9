import { setTimeout as pause } from 'node:timers/promises'
import { type Client, ClientError, mayMend } from '@cyberun/api/client'
import { apiClient } from '../api-client.ts'
import { checkUrl, connect, DEFAULT_URL, urlFromEnv } from '../connect.ts'
import { type Context, printNote, printResult } from '../context.ts'
import { CliError } from '../errors.ts'
import { ask, choose, readStdin } from '../prompts.ts'
import { dataDir, quickstartPath, readQuickstart } from '../quickstart.ts'
import { readSession, removeSession, sessionPath, tokensOf, writeSession } from '../session-file.ts'
import { printable } from '../text.ts'

export interface LoginOptions {
  url?: string
  email?: string
  passwordStdin?: true
  team?: string
  pair?: true
}

/** `cyberun login`. A password is asked for or read from standard input, never taken from the command line. */
export async function login(context: Context, options: LoginOptions): Promise<undefined> {
  const url = options.url === undefined ? await defaultUrl(context) : checkUrl('--url', options.url)
  return options.pair ? pair(context, url) : signIn(context, url, options)
}

/** The server meant when none is named: the configured one, else the one that runs from this folder. */
async function defaultUrl(context: Context): Promise<string> {
  const quickstart = await readQuickstart(quickstartPath(dataDir(context)))
  return urlFromEnv(context) ?? quickstart?.control_url ?? DEFAULT_URL
}

async function signIn(context: Context, url: string, options: LoginOptions): Promise<undefined> {
  const email = options.email ?? (await ask(context, { message: `E-mail address for ${url}`, option: '--email' }))
  const password = options.passwordStdin
    ? await readStdin(context)
    : await ask(context, { message: 'Password', option: '--password-stdin', hidden: true })
  const body = { email_address: email, user_password: password }
  const tokens = tokensOf(context, await apiClient(context, { baseUrl: url }).call('POST /auth/login', { body }))
  const client = apiClient(context, { baseUrl: url, token: tokens.access_token })
  const user = await client.call('GET /users/me', {})
  const team = await chooseTeam(context, user.team_list, options.team ?? context.env['CYBERUN_TEAM'])
  await writeSession(sessionPath(context), { kind: 'user', control_url: url, team_id: team.id, ...tokens })
  const about = { control_url: url, email_address: user.email_address, team_id: team.id, role: team.role }
  printResult(context, about, () => {
    const who = `${printable(user.email_address)} (${team.role} of ${printable(team.display_name)})`
    return `Signed in to ${url} as ${who}.\n`
  })
}

type Team = { id: string; display_name: string; role: string }

async function chooseTeam(context: Context, teams: readonly Team[], wanted: string | undefined): Promise<Team> {
  const [first] = teams
  if (first === undefined) throw new CliError('refused', 'no_team', 'you are in no team: ask somebody to invite you')
  if (wanted !== undefined) {
    const found = teams.filter((team) => team.id === wanted || team.display_name === wanted)
    if (found.length === 1 && found[0] !== undefined) return found[0]
    const known = teams.map((team) => `${team.display_name} (${team.id})`).join(', ')
    throw new CliError('not_found', 'not_found', `you are in no single team "${wanted}"; yours: ${known}`)
  }
  if (teams.length === 1) return first
  const choices = teams.map((team) => ({ value: team, label: printable(team.display_name), hint: team.role }))
  return choose(context, { message: 'Team', option: '--team', choices })
}

/** Shows a code and waits until somebody who is signed in approves it. */
async function pair(context: Context, url: string): Promise<undefined> {
  const client = apiClient(context, { baseUrl: url })
  const started = await client.call('POST /desktop/pair/start', {})
  const { device_code, user_code } = started
  const ask = `Approve this machine where you are signed in:  cyberun approve ${user_code}`
  if (context.json) context.stderr.write(`${JSON.stringify({ user_code, expires_in: started.expires_in })}\n`)
  else printNote(context, ask)
  const keys = await pollUntilApproved(context, client, device_code, started)
  const session = { kind: 'device', control_url: url, device_key: keys.raw_key, agent_key: keys.agent_key } as const
  await writeSession(sessionPath(context), session)
  printResult(context, { control_url: url, paired: true }, () => {
    return `Paired with ${url}. "cyberun agent init" puts this machine's agent key into its settings.\n`
  })
}

async function pollUntilApproved(
  context: Context,
  client: Client,
  device_code: string,
  { expires_in, interval }: { expires_in: number; interval: number },
): Promise<{ raw_key: string; agent_key: string }> {
  const until = context.now() + expires_in * 1000
  while (context.now() < until) {
    await pause(interval * 1000)
    const answer = await pollOnce(client, device_code)
    if (answer?.status === 'approved') return answer
  }
  throw new CliError('refused', 'code_expired', 'nobody approved the code in time: run the command again')
}

async function pollOnce(client: Client, device_code: string) {
  try {
    return await client.call('POST /desktop/pair/poll', { body: { device_code } })
  } catch (error) {
    // A moment without network or server costs one poll; the code stays good.
    if (error instanceof ClientError && mayMend(error)) return undefined
    throw error
  }
}

/** `cyberun approve`. */
export async function approve(context: Context, code: string, options: { name?: string }): Promise<undefined> {
  const { client } = await connect(context, 'user')
  const body = { user_code: code, ...(options.name !== undefined && { device_name: options.name }) }
  await client.call('POST /desktop/pair/confirm', { body })
  printResult(context, { approved: true }, () => 'Approved: the other machine continues by itself.\n')
}

/** `cyberun logout`. Forgets the sign-in also when the server cannot be told. */
export async function logout(context: Context): Promise<undefined> {
  const path = sessionPath(context)
  const session = await readSession(path)
  if (session?.kind === 'device') {
    const client = apiClient(context, { baseUrl: session.control_url, token: session.device_key })
    await client.call('POST /auth/device/revoke', {}).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error)
      printNote(context, `The keys were not revoked (${why}): revoke them with "cyberun keys revoke" elsewhere.`)
    })
  }
  await removeSession(path)
  printResult(context, { signed_out: session !== undefined }, () =>
    session === undefined ? 'You were not signed in.\n' : `Signed out of ${session.control_url}.\n`,
  )
}
