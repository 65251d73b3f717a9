import { rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { apiClient } from './api-client.ts'
import type { Context } from './context.ts'
import { CliError } from './errors.ts'
import { withLock } from './lock.ts'
import { parseFields, readIfThere, writePrivate } from './private-file.ts'

/** A sign-in with e-mail address and password. `expires_at` is of the access token, ISO 8601. */
export interface UserSession {
  kind: 'user'
  control_url: string
  team_id: string
  access_token: string
  refresh_token: string
  expires_at: string
}

/** A paired device: a key of its own, and one for an agent on the same machine. */
export interface DeviceSession {
  kind: 'device'
  control_url: string
  device_key: string
  agent_key: string
}

export type Session = UserSession | DeviceSession

const REMEDY = 'sign in again with "cyberun login"'
/** An access token this close to its end is renewed first, so that a call does not outlive it. */
const RENEW_MS = 60_000
/** A renewal takes one call; more than this and its holder hangs. */
const LOCK_MS = 20_000

/** Where this user's sign-in lies: `CYBERUN_CONFIG_DIR`, else where the system keeps settings of programs. */
export function configDir(context: Context): string {
  const { env } = context
  const home = env['HOME'] ?? homedir()
  if (env['CYBERUN_CONFIG_DIR']) return env['CYBERUN_CONFIG_DIR']
  if (process.platform === 'darwin') return join(home, 'Library/Preferences/cyberun')
  return join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'cyberun')
}

/** The team that a signed-in user works in: the one of `CYBERUN_TEAM`, else the one chosen when signing in. */
export function teamOf({ env }: Context, session: UserSession): string {
  return env['CYBERUN_TEAM'] ?? session.team_id
}

export function sessionPath(context: Context): string {
  return join(configDir(context), 'session.json')
}

/** The stored sign-in, or undefined. Throws a `CliError` for a file that is not ours. */
export async function readSession(path: string): Promise<Session | undefined> {
  const text = await readIfThere(path)
  if (text === undefined) return undefined
  const { kind } = parseFields(path, text, ['kind'], REMEDY)
  if (kind === 'device') {
    return { ...parseFields(path, text, ['control_url', 'device_key', 'agent_key'], REMEDY), kind }
  }
  if (kind !== 'user') throw new CliError('refused', 'file_unreadable', `${path} is of another release: ${REMEDY}`)
  const keys = ['control_url', 'team_id', 'access_token', 'refresh_token', 'expires_at'] as const
  return { ...parseFields(path, text, keys, REMEDY), kind }
}

export async function writeSession(path: string, session: Session): Promise<void> {
  await writePrivate(path, `${JSON.stringify(session, null, 2)}\n`)
}

export async function removeSession(path: string): Promise<void> {
  await rm(path, { force: true })
}

/**
 * An access token that is still good for a while. `refused` is one that the server has just refused: it is renewed
 * whatever its time says.
 *
 * A refresh token works once, and using it twice ends the sign-in. So of several commands at once only one renews,
 * under a lock, and the others find the new pair in the file.
 */
export async function accessToken(context: Context, path: string, refused?: string): Promise<string> {
  const good = usable(await readSession(path), context.now(), refused)
  if (good !== undefined) return good
  return withLock(`${path}.lock`, AbortSignal.timeout(LOCK_MS), async () => {
    const session = await readSession(path)
    const renewedByOther = usable(session, context.now(), refused)
    if (renewedByOther !== undefined) return renewedByOther
    if (session?.kind !== 'user') throw new CliError('refused', 'signed_out', `you are signed out: ${REMEDY}`)
    const renewed = await renew(context, session)
    await writeSession(path, renewed)
    return renewed.access_token
  })
}

function usable(session: Session | undefined, now: number, refused: string | undefined): string | undefined {
  if (session?.kind !== 'user' || session.access_token === refused) return undefined
  return Date.parse(session.expires_at) - now > RENEW_MS ? session.access_token : undefined
}

async function renew(context: Context, session: UserSession): Promise<UserSession> {
  const client = apiClient(context, { baseUrl: session.control_url })
  const body = { refresh_token: session.refresh_token }
  const answer = await client.call('POST /auth/refresh', { body }, AbortSignal.timeout(LOCK_MS / 2))
  return { ...session, ...tokensOf(context, answer) }
}

/** What the file keeps of an answer to sign-in or renewal. */
export function tokensOf(
  context: Context,
  answer: { access_token: string; refresh_token: string; expires_in: number },
): Pick<UserSession, 'access_token' | 'refresh_token' | 'expires_at'> {
  return {
    access_token: answer.access_token,
    refresh_token: answer.refresh_token,
    expires_at: new Date(context.now() + answer.expires_in * 1000).toISOString(),
  }
}
