import { type Client, ClientError } from '@cyberun/api/client'
import { parseKey } from '@cyberun/protocol'
import { apiClient } from './api-client.ts'
import type { Context } from './context.ts'
import { CliError } from './errors.ts'
import { dataDir, type Quickstart, quickstartPath, readQuickstart } from './quickstart.ts'
import { accessToken, readSession, type Session, sessionPath, teamOf } from './session-file.ts'

/** With what a command calls the server, and where that was found. */
export type Account =
  | { kind: 'key'; source: string; controlUrl: string; key: string }
  | { kind: 'session'; source: string; controlUrl: string; session: Session }
  | { kind: 'quickstart'; source: string; controlUrl: string; quickstart: Quickstart }

export interface Connection {
  readonly account: Account
  readonly client: Client
}

/** `cyberun up` with its defaults. */
export const DEFAULT_URL = 'http://127.0.0.1:8787'
const SIGN_IN = 'sign in with "cyberun login", or set CYBERUN_URL and CYBERUN_KEY'

/**
 * The first of: `CYBERUN_KEY`, the stored sign-in, and what `cyberun up` left in this folder; undefined when there is
 * none. A stored sign-in is never sent to another server than the one it came from.
 */
export async function findAccount(context: Context): Promise<Account | undefined> {
  const url = urlFromEnv(context)
  const key = context.env['CYBERUN_KEY']
  if (key !== undefined) return { kind: 'key', source: 'CYBERUN_KEY', controlUrl: url ?? DEFAULT_URL, key }

  const path = sessionPath(context)
  const session = await readSession(path)
  if (session !== undefined && (url === undefined || sameAddress(url, session.control_url))) {
    return { kind: 'session', source: path, controlUrl: session.control_url, session }
  }
  const file = quickstartPath(dataDir(context))
  const quickstart = await readQuickstart(file)
  if (quickstart !== undefined && (url === undefined || sameAddress(url, quickstart.control_url))) {
    return { kind: 'quickstart', source: file, controlUrl: quickstart.control_url, quickstart }
  }
  return undefined
}

/** Who may make a call: anyone with a key, a person or their paired device, or a signed-in person only. */
export type Need = 'key' | 'manager' | 'user'

/**
 * A client for this command. `need: 'user'` is for calls that take a person's sign-in and no key.
 * Throws a `CliError` that says how to sign in when there is nothing to call with.
 */
export async function connect(context: Context, need: Need): Promise<Connection> {
  const account = await findAccount(context)
  if (account === undefined) {
    const url = context.env['CYBERUN_URL']
    throw new CliError('refused', 'signed_out', `not signed in${url === undefined ? '' : ` to ${url}`}: ${SIGN_IN}`)
  }
  return { account, client: await clientOf(context, account, need) }
}

async function clientOf(context: Context, account: Account, need: Need): Promise<Client> {
  const baseUrl = account.controlUrl
  switch (account.kind) {
    case 'key':
      checkKey(account.key)
      if (need === 'user' || (need === 'manager' && parseKey(account.key) !== 'dk')) {
        throw needsUser('CYBERUN_KEY is a key')
      }
      return apiClient(context, { baseUrl, token: account.key })
    case 'quickstart':
      return need === 'key'
        ? apiClient(context, { baseUrl, token: account.quickstart.integration_key })
        : apiClient(context, {
            baseUrl,
            token: await signInOnce(context, baseUrl, account.quickstart),
            teamId: context.env['CYBERUN_TEAM'] ?? account.quickstart.team_id,
          })
    case 'session':
      if (account.session.kind === 'user')
        return userClient(context, account.source, baseUrl, teamOf(context, account.session))
      if (need === 'user') throw needsUser('this machine is paired as a device')
      return apiClient(context, { baseUrl, token: account.session.device_key })
  }
}

function checkKey(key: string): void {
  const kind = parseKey(key)
  if (kind === undefined) throw new CliError('refused', 'bad_key', 'CYBERUN_KEY is mistyped or cut off: copy it again')
  if (kind === 'ak') {
    const message = 'CYBERUN_KEY is an agent key (ak-), which only agents use: take an integration key (sk-)'
    throw new CliError('refused', 'bad_key', message)
  }
}

function needsUser(because: string): CliError {
  return new CliError('refused', 'needs_user', `${because}, and this needs a person: sign in with "cyberun login"`)
}

/** Calls as the signed-in user; a token that the server refuses is renewed once. */
function userClient(context: Context, path: string, baseUrl: string, teamId: string): Client {
  return {
    async call(name, request, signal) {
      const token = await accessToken(context, path)
      try {
        return await apiClient(context, { baseUrl, token, teamId }).call(name, request, signal)
      } catch (error) {
        if (!(error instanceof ClientError && error.code === 'unauthenticated')) throw error
        const renewed = await accessToken(context, path, token)
        return apiClient(context, { baseUrl, token: renewed, teamId }).call(name, request, signal)
      }
    },
    async *follow(taskId, options = {}, signal) {
      let { after = 0 } = options
      // A task may take longer than a token lasts: the stream goes on, and only coming back after a cut needs a new one.
      for (let refused: string | undefined; ; ) {
        const token = await accessToken(context, path, refused)
        try {
          for await (const event of apiClient(context, { baseUrl, token, teamId }).follow(
            taskId,
            { ...options, after },
            signal,
          )) {
            after = event.number ?? after
            refused = undefined
            yield event
          }
          return
        } catch (error) {
          const isExpired = error instanceof ClientError && error.code === 'unauthenticated'
          if (!isExpired || refused !== undefined) throw error
          refused = token
        }
      }
    },
  }
}

async function signInOnce(context: Context, baseUrl: string, quickstart: Quickstart): Promise<string> {
  const { email_address, user_password } = quickstart
  try {
    const client = apiClient(context, { baseUrl })
    return (await client.call('POST /auth/login', { body: { email_address, user_password } })).access_token
  } catch (error) {
    if (!(error instanceof ClientError && error.code === 'unauthenticated')) throw error
    const message = `the password that "cyberun up" printed is no longer ${email_address}'s: sign in with "cyberun login"`
    throw new CliError('refused', 'unauthenticated', message, { cause: error })
  }
}

function sameAddress(a: string, b: string): boolean {
  return new URL(a).href === URL.parse(b)?.href
}

/** `CYBERUN_URL`, checked. Throws a `CliError` when it is no http(s) URL. */
export function urlFromEnv(context: Context): string | undefined {
  const url = context.env['CYBERUN_URL']
  return url === undefined ? undefined : checkUrl('CYBERUN_URL', url)
}

/** `text` when it is an http(s) URL; else a `CliError` that names `where` it was given. */
export function checkUrl(where: string, text: string): string {
  const protocol = URL.parse(text)?.protocol
  if (protocol === 'http:' || protocol === 'https:') return text
  throw new CliError('usage', 'invalid_url', `${where} must be a URL such as ${DEFAULT_URL}, not "${text}"`)
}
