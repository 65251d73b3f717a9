import { rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { defaultAgentId } from '@cyberun/agent'
import type { FirstUser, RunningServer } from '@cyberun/server'
import { type Context, printNote } from '../context.ts'
import { parseFields, readIfThere, writePrivate } from '../private-file.ts'
import { agentKeyPath, type Quickstart, quickstartPath, readQuickstart, writeQuickstart } from '../quickstart.ts'

export interface Prepared {
  quickstart: Quickstart
  /** At the first start only: who has not been shown yet. */
  firstUser: FirstUser | undefined
}

/**
 * What scripts and other commands in this folder need, written at the first start and kept right afterwards. Undefined
 * when it is gone: the server keeps no secret it could be made of again. A first start that was killed after its user
 * was stored is finished here, with what `keepFirstUser` had kept.
 */
export async function prepareQuickstart(
  context: Context,
  dir: string,
  server: RunningServer,
): Promise<Prepared | undefined> {
  const path = quickstartPath(dir)
  const kept = server.firstUser ? undefined : await readQuickstart(path)
  const firstUser = kept ? undefined : (server.firstUser ?? (await readFirstUser(dir)))
  const found = firstUser ? await firstStart(dir, server, firstUser) : kept
  if (found === undefined) {
    const signIn =
      'Sign in with "cyberun login"; if nobody knows the first password, remove the folder to start afresh.'
    printNote(context, `${path} is gone, so no agent runs here. ${signIn}`)
    return undefined
  }
  const quickstart = { ...found, control_url: server.controlUrl, edge_url: server.edgeUrl }
  await writeQuickstart(path, quickstart)
  await rm(firstUserPath(dir), { force: true })
  return { quickstart, firstUser }
}

/** Keeps the first user until `quickstart.json` does, whatever kills this process between. */
export function keepFirstUser(dir: string): (user: FirstUser) => Promise<void> {
  return (user) => writePrivate(firstUserPath(dir), `${JSON.stringify(user)}\n`)
}

async function readFirstUser(dir: string): Promise<FirstUser | undefined> {
  const path = firstUserPath(dir)
  const text = await readIfThere(path)
  return text === undefined ? undefined : parseFields(path, text, FIRST_USER_KEYS, 'remove the folder to start afresh')
}

const FIRST_USER_KEYS = ['userId', 'teamId', 'emailAddress', 'userPassword'] as const satisfies (keyof FirstUser)[]

function firstUserPath(dir: string): string {
  return join(dir, 'first-user.json')
}

/** Makes the keys of a fresh server's first user: one for the agent of this machine, one for scripts. */
async function firstStart(dir: string, server: RunningServer, user: FirstUser): Promise<Quickstart> {
  const { identity, controlUrl, edgeUrl } = server
  const actor = { userId: user.userId, teamId: user.teamId, role: 'owner' } as const
  const agentKey = await identity.createCredential(actor, { kind: 'agent', displayName: 'agent of cyberun up' })
  const integrationKey = await identity.createCredential(actor, { kind: 'integration', displayName: 'quickstart.json' })
  await writePrivate(agentKeyPath(dir), `${agentKey.rawKey}\n`)
  return {
    control_url: controlUrl,
    edge_url: edgeUrl,
    email_address: user.emailAddress,
    user_password: user.userPassword,
    team_id: user.teamId,
    agent_id: defaultAgentId(hostname()),
    integration_key: integrationKey.rawKey,
  }
}
